"""The harness: nothing but a success is recorded as one."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.compare import Series, points, repeated
from bench.harness import ROOT, Status, judge, measure

PYTHON = sys.executable


def python(code: str, **limits):
    return measure([PYTHON, "-c", code], "all well", **limits)


def test_a_success_is_done_with_its_figures():
    measured = python("print('all well')")
    assert (measured.status, measured.error, measured.output) == (Status.DONE, "", "all well")
    assert 0 < measured.cpu <= 10 and measured.wall > 0 and measured.memory > 1


def test_time_used_up_is_a_timeout_even_if_success_was_said():
    measured = python("print('all well', flush=True)\nwhile True: pass", seconds=1)
    assert measured.status is Status.TIMEOUT
    assert measured.cpu > 0


@pytest.mark.slow
def test_a_command_that_only_waits_is_a_timeout():
    measured = python("import time; print('all well', flush=True); time.sleep(60)", seconds=1)
    assert measured.status is Status.TIMEOUT
    assert measured.wall < 30


@pytest.mark.slow
def test_what_a_command_started_ends_with_it():
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    measured = python(code, seconds=1)
    assert measured.status is Status.TIMEOUT
    assert measured.wall < 30


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_what_is_running_ends_with_the_measurement(tmp_path, ending):
    note = tmp_path / "pid"
    sleeper = f"import os, time; open({str(note)!r}, 'w').write(f'{{os.getpid()}} '); time.sleep(60)"
    code = f"""
import signal, sys
from bench.harness import measure
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
signal.signal(signal.SIGINT, signal.default_int_handler)  # who started the tests may have it ignored
measure([sys.executable, "-c", {sleeper!r}], "all well")
"""
    process = subprocess.Popen([PYTHON, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    until(lambda: note.exists() and note.read_text().endswith(" "))
    process.send_signal(ending)
    process.wait(timeout=30)
    until(lambda: not Path("/proc", note.read_text().strip()).exists())


def until(condition):
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to that within 30 s")


def test_memory_used_up_is_named():
    measured = python("bytearray(1 << 31); print('all well')", memory=1 << 30)
    assert measured.status is Status.MEMORY


def test_peak_memory_is_that_of_the_process():
    small, large = python("print('all well')"), python("bytearray(300 << 20); print('all well')")
    assert large.memory > small.memory + 250
    assert small.memory < 40


def test_errors_are_errors():
    for code, why in (
        ("print('all well'); raise SystemExit(3)", "exit status 3: all well"),
        ("print('something else')", "expected 'all well', found something else"),
        ("", "expected 'all well', found nothing"),
        ("print('all well', flush=True); import os; os.kill(os.getpid(), 11)", "signal SIGSEGV: all well"),
        ("raise ValueError('no such page')", "exit status 1: ValueError: no such page"),
    ):
        measured = python(code)
        assert (measured.status, measured.error) == (Status.ERROR, why)


def test_a_command_that_is_not_there_is_an_error():
    measured = measure(["/no/such/command"], "all well")
    assert measured.status is Status.ERROR
    assert measured.error == "exit status 127: /no/such/command: No such file or directory"


def test_another_exit_status_can_be_that_of_a_success():
    assert judge(1, "1 REFUTED", "", "REFUTED", False, wanted=1) == (Status.DONE, "")
    assert judge(0, "1 REFUTED", "", "REFUTED", False, wanted=1)[0] is Status.ERROR
    assert judge(1, "", "no memory for it", "REFUTED", False, wanted=1)[0] is Status.ERROR


def one(code: str, first: float = 1) -> Series:
    def command(pages):
        return [PYTHON, "-c", f"pages = {pages}\n{code}"]

    return Series("one", "one", "", command, "all well", first)


def run(series: Series, limit: float = 60):
    return list(points(series, lambda _: None, limit))


def test_a_series_ends_at_the_first_length_that_fails():
    found = run(one("print('all well' if pages < 4 else 'does not hold')"))
    assert [(p["pages"], p["status"]) for p in found] == [(1, "done"), (2, "done"), (3, "done"), (4, "error")]
    assert [len(p["runs"]) for p in found] == [3, 3, 3, 1]


def test_a_series_ends_at_a_timeout():
    found = run(one("while pages > 1: pass\nprint('all well')"), limit=1)
    assert [(p["pages"], p["status"]) for p in found] == [(1, "done"), (2, "timeout")]


@pytest.mark.slow
def test_the_first_length_may_take_longer_than_the_limit_and_ends_the_series_then():
    code = "import time\nwhile time.process_time() < 1.5: pass\nprint('all well')"
    found = run(one(code, first=5), limit=1)
    assert [(p["pages"], p["status"]) for p in found] == [(1, "done")]


def test_repetition_keeps_a_failure():
    ends = iter(["print('all well')", "print('no')", "print('all well')"])
    point = repeated(lambda: python(next(ends)))
    assert point["status"] is Status.ERROR
    assert len(point["runs"]) == 2
