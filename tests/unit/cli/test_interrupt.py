"""What is left behind when a run is stopped, is not alone, or has no room to write."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest
from kexec_verify.cli.result import Result
from kexec_verify.errors import UsageError
from kexec_verify.report.place import locked, require_writable, write_whole
from kexec_verify.report.read import earlier_seconds, read_run
from kexec_verify.verdict import Verdict

from ..gate.examples import run

BINARIES = Path(__file__).resolve().parents[3] / "binaries"
GOOD = BINARIES / "kimage-mmu-4k-gcc.elf"
# The command, which does something to itself at its fortieth question: "in the middle", each time the same.
SCRIPT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # who started the tests may have it ignored
from kexec_verify.prove.discharge import Discharger
whole = Discharger._ask
asked = 0
def ask(self, obligation, text):
    global asked
    asked += 1
    if asked == 40:
        {do}
    return whole(self, obligation, text)
Discharger._ask = ask
from kexec_verify.cli import main
main()
"""


def environment() -> dict[str, str]:
    return dict(os.environ)


def start(
    directory: Path, do: str = "pass", reports: str = "reports", more: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT.format(do=do), "run", str(GOOD), "--reports", reports, *more]
    return subprocess.Popen(
        command,
        cwd=directory,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_signal_in_the_middle_leaves_an_incomplete_run(tmp_path, name):
    process = start(tmp_path, f"os.kill(os.getpid(), signal.{name})")
    _, err = process.communicate(timeout=100)
    assert process.returncode == 128 + signal.Signals[name], err
    path = tmp_path / "reports" / GOOD.name / "run.json"
    found = read_run(path)
    assert not found.complete
    assert {record.verdict for record in found.properties} == {Verdict.UNKNOWN}
    assert {record.reason for record in found.properties} == {"interrupted"}
    known = [o for record in found.properties for o in record.obligations]
    assert known and {o.verdict for o in known} == {Verdict.PROVED}
    assert all((path.parent / o.text).is_file() for o in known)
    assert [p.name for p in path.parent.parent.iterdir()] == [GOOD.name]
    assert err.startswith(
        f"verify: error: interrupted by {name}: reports/{GOOD.name}/run.json has what is known"
    )
    assert err.endswith(f"; next: verify run {GOOD} --reports reports\n")
    gate = [sys.executable, "-m", "kexec_verify", "gate", "reports"]
    done = subprocess.run(gate, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert f"incomplete: {GOOD.name}: the run was interrupted" in done.stdout


@pytest.mark.slow
def test_interrupted_run_as_json_is_one_document_and_nothing_is_green(tmp_path):
    other = tmp_path / "other.elf"
    shutil.copy(GOOD, other)
    process = start(tmp_path, "os.kill(os.getpid(), signal.SIGTERM)", more=("other.elf", "--format", "json"))
    out, err = process.communicate(timeout=100)
    assert process.returncode == 143, err
    assert out, err
    found = json.loads(out)
    assert (found["exit_status"], found["meaning"]) == (143, "interrupted by SIGTERM")
    first, second = found["targets"]
    assert (first["complete"], first["verdict"], first["exit_status"]) == (False, "UNKNOWN", 3)
    assert {item["status"] for item in first["properties"]} == {"UNKNOWN"}
    assert second == {"target": "other.elf", "error": "interrupted", "exit_status": 143}


def test_decided_properties_of_an_interrupted_run_do_not_make_it_green():
    known = run(complete=False)
    assert known.verdict is Verdict.PROVED
    data = Result([("vmlinux", known)], [], 130).as_data()
    assert (data["exit_status"], data["targets"][0]["exit_status"]) == (130, 3)


@pytest.mark.slow
def test_signal_that_a_library_swallows_is_seen_at_the_next_obligation(tmp_path):
    do = "\n        ".join(
        ["try:", "    os.kill(os.getpid(), signal.SIGTERM)", "except BaseException:", "    pass"]
    )
    process = start(tmp_path, do)
    process.communicate(timeout=100)
    assert process.returncode == 143
    assert not read_run(tmp_path / "reports" / GOOD.name / "run.json").complete


@pytest.mark.slow
def test_two_runs_at_once_leave_one_whole_report(tmp_path):
    processes = [start(tmp_path), start(tmp_path)]
    for process in processes:
        _, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
    place = tmp_path / "reports" / GOOD.name
    found = read_run(place / "run.json")
    assert found.complete
    named = {o.text for record in found.properties for o in record.obligations}
    assert {f"obligations/{path.name}" for path in (place / "obligations").iterdir()} == named
    assert sorted(path.name for path in place.parent.iterdir()) == [".history", "index.html", GOOD.name]


def test_reports_are_put_in_place_one_at_a_time(tmp_path):
    order = []

    def second():
        with locked(tmp_path):
            order.append("second")

    with locked(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(timeout=10)
    assert order == ["first", "second"]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB, less than a report; only root can mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
def test_full_disk_is_one_line_and_leaves_the_earlier_report(tmp_path, small_disk):
    earlier = small_disk / GOOD.name / "run.json"
    earlier.parent.mkdir()
    earlier.write_bytes(msgspec.json.encode(run()))
    process = start(tmp_path, reports=str(small_disk))
    _, err = process.communicate(timeout=100)
    assert process.returncode == 2
    assert err.startswith("verify: error: expected a directory to write to, found ")
    assert "No space left on device" in err
    assert err.count("\n") == 1
    assert read_run(earlier) == run()
    assert [path.name for path in small_disk.iterdir()] == [GOOD.name]


def test_read_only_disk_is_said_before_anything_is_proved(tmp_path, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    process = start(tmp_path, "os._exit(99)", reports=str(small_disk))
    _, err = process.communicate(timeout=100)
    assert process.returncode == 2
    assert "expected a directory to write to" in err
    assert "Read-only file system" in err


def test_directory_is_tried_and_nothing_is_left(tmp_path):
    require_writable(tmp_path / "deep" / "reports")
    assert list((tmp_path / "deep" / "reports").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"expected a directory to write to, found .*file"):
        require_writable(tmp_path / "file" / "reports")


def test_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "baseline.json"
    write_whole(path, b"old")

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UsageError, match=r"expected a file to write, found .*: No space left on device"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_estimate_is_that_of_a_finished_run_before(tmp_path):
    assert earlier_seconds(tmp_path) is None
    (tmp_path / "run.json").write_bytes(msgspec.json.encode(run(seconds=7.5)))
    assert earlier_seconds(tmp_path) == 7.5
    (tmp_path / "run.json").write_bytes(msgspec.json.encode(run(seconds=7.5, complete=False)))
    assert earlier_seconds(tmp_path) is None
