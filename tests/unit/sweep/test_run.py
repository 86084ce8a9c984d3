"""A sweep of kernels that a stand-in verifies: order, failures, disk, interruption."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from kexec_verify.errors import TargetError, UnsupportedError
from kexec_verify.sweep import journal, workers
from kexec_verify.sweep import run as module
from kexec_verify.sweep.model import Row, exit_status
from kexec_verify.sweep.rows import queries
from kexec_verify.sweep.run import Job, kernel_bytes, sweep
from kexec_verify.target.debian import Package
from kexec_verify.verdict import Verdict

from ..html import example
from .examples import TOOL, finished, package

FIRST, SECOND, THIRD = (package(f"6.1.0-{n}-arm64", f"6.1.{n}-1") for n in (44, 45, 46))
TARGETS = {p: f"debian:{p.package}" for p in (FIRST, SECOND, THIRD)}


def nothing() -> None:
    """What a process of these tests prepares."""


def fine(job: Job) -> Row:
    with (job.reports / "log").open("a") as log:
        log.write(f"{job.target} {os.getpid()}\n")
    return finished(job.reports, job.package)


def second_fails(job: Job) -> Row:
    if job.package == SECOND:
        raise TargetError("expected a network, found none")
    return fine(job)


def second_faults(job: Job) -> Row:
    if job.package == SECOND:
        raise ZeroDivisionError("a fault")
    return fine(job)


def second_unsupported(job: Job) -> Row:
    if job.package == SECOND:
        raise UnsupportedError("an instruction", 0x1000)
    return fine(job)


def second_dies(job: Job) -> Row:
    if job.package == SECOND:
        os.kill(os.getpid(), signal.SIGKILL)
    return fine(job)


def sleeps(job: Job) -> Row:
    (job.reports / "begun").touch()
    time.sleep(60)
    return fine(job)


@pytest.fixture
def cache(monkeypatch) -> set[Package]:
    """The packages that are in a cache that only seems to be one: each is fetched when it is admitted."""
    held: set[Package] = set()
    monkeypatch.setattr(module, "is_cached", lambda package: package in held)
    monkeypatch.setattr(module, "drop", held.discard)
    return held


def swept(reports: Path, work=fine, tool: str = TOOL, processes: int = 1) -> list[Row]:
    return list(sweep(TARGETS, reports, tool, work, processes, nothing))


def logged(reports: Path) -> list[str]:
    return [line.split()[0] for line in (reports / "log").read_text().splitlines()]


def test_each_kernel_is_verified_once_and_a_second_sweep_verifies_none(tmp_path, cache):
    rows = swept(tmp_path)
    assert [row.package for row in rows] == [p.package for p in TARGETS]
    assert logged(tmp_path) == list(TARGETS.values())
    assert swept(tmp_path) == rows
    assert len(logged(tmp_path)) == 3


def test_another_tool_verifies_all_again(tmp_path, cache):
    swept(tmp_path)
    swept(tmp_path, tool="71" * 32)
    assert len(logged(tmp_path)) == 6


@pytest.mark.parametrize(
    ("work", "reason", "status"),
    [
        (second_fails, "expected a network, found none", 2),
        (second_unsupported, "an instruction at 0x1000", 3),
        (second_faults, "ZeroDivisionError: a fault", 70),
        (second_dies, "found that it ended: signal 9", 70),
    ],
)
def test_a_kernel_that_fails_has_its_own_row_and_the_others_go_on(tmp_path, cache, work, reason, status):
    rows = {row.package: row for row in swept(tmp_path, work)}
    assert set(rows) == {p.package for p in TARGETS}
    failed = rows[SECOND.package]
    assert (failed.verdict, failed.exit_status) == (Verdict.ERROR, status)
    assert reason in failed.error
    assert {rows[p.package].verdict for p in (FIRST, THIRD)} == {Verdict.PROVED}
    assert exit_status(list(rows.values())) == status
    assert len(journal.read(tmp_path).rows) == 3

    assert not any(row.error for row in swept(tmp_path, fine)), "the next sweep tries it again"
    assert logged(tmp_path).count(TARGETS[SECOND]) == 1
    assert len(logged(tmp_path)) == 3


def test_images_that_were_not_there_before_are_dropped_also_after_a_failure(tmp_path, cache, monkeypatch):
    most: list[int] = []
    cache.add(THIRD)
    room = module._require_room

    def fetched(job: Job, processes: int) -> None:
        room(job, processes)
        cache.add(job.package)
        most.append(len(cache - {THIRD}))

    monkeypatch.setattr(module, "_require_room", fetched)
    swept(tmp_path, second_dies)
    assert cache == {THIRD}
    assert max(most) == 1


@pytest.mark.parametrize(("free", "refused"), [(0, True), (1 << 50, False)])
def test_a_kernel_that_could_fill_the_disk_is_not_fetched(tmp_path, cache, monkeypatch, free, refused):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage._replace(free=free))
    rows = swept(tmp_path)
    assert [bool(row.error) for row in rows] == [refused] * 3
    if refused:
        assert f"expected {kernel_bytes(FIRST) >> 20} MiB free, found 0 MiB" in rows[0].error
        assert not (tmp_path / "log").exists()


def test_room_is_asked_for_every_process(tmp_path, cache, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    free = 2 * kernel_bytes(FIRST) - 1
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage._replace(free=free))
    assert not any(row.error for row in swept(tmp_path / "one"))
    assert all(row.error for row in swept(tmp_path / "two", processes=2))


def test_two_processes_do_all_and_no_kernel_twice(tmp_path, cache):
    rows = swept(tmp_path, processes=2)
    assert {row.package for row in rows} == {p.package for p in TARGETS}
    assert sorted(logged(tmp_path)) == sorted(TARGETS.values())
    assert len(journal.read(tmp_path).rows) == 3


@pytest.mark.parametrize(("limit", "processes"), [(0, 3), (1 << 20, 1)])
def test_a_process_over_its_memory_takes_no_further_kernel(tmp_path, limit, processes):
    jobs = [Job(p, target, tmp_path, TOOL) for p, target in TARGETS.items()]
    ignore = {"prepare": nothing, "admit": lambda job: None, "release": lambda job: None}
    assert len(list(workers.outcomes(jobs, fine, 1, limit=limit, **ignore))) == 3
    pids = {line.split()[1] for line in (tmp_path / "log").read_text().splitlines()}
    assert len(pids) == processes


def test_a_sweep_that_is_stopped_leaves_what_is_done_and_no_process(tmp_path, cache):
    found = sweep(TARGETS, tmp_path, TOOL, fine, 1, nothing)
    first = next(found)
    cache.add(SECOND)
    found.close()
    assert [row.package for row in journal.read(tmp_path).rows] == [first.package]
    pid = int((tmp_path / "log").read_text().split()[1])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_process_is_stopped_in_the_middle_of_a_kernel(tmp_path):
    released = []
    jobs = [Job(FIRST, TARGETS[FIRST], tmp_path, TOOL)]

    def interrupt(signum, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 3)
    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(
                workers.outcomes(
                    jobs, sleeps, 1, prepare=nothing, admit=lambda job: None, release=released.append
                )
            )
    finally:
        signal.signal(signal.SIGALRM, before)
    assert released == jobs
    assert time.monotonic() - started < 30


def test_the_exit_status_is_that_of_a_run_of_all(tmp_path):
    proved = finished(tmp_path, FIRST)
    refuted = finished(tmp_path, SECOND, example.run(example.claim("a", Verdict.REFUTED)))
    unknown = finished(tmp_path, THIRD, example.run(example.claim("a", Verdict.UNKNOWN)))
    waived = finished(
        tmp_path,
        THIRD,
        example.run(example.claim("a", Verdict.REFUTED, waiver=example.WAIVER), example.claim("b")),
    )
    stale = finished(tmp_path, THIRD, example.run(example.claim("a"), notes=["a is PROVED: its waiver"]))
    incomplete = finished(tmp_path, THIRD, example.run(example.claim("a"), complete=False))
    assert exit_status([proved]) == 0
    assert exit_status([proved, waived]) == 0
    assert exit_status([proved, unknown]) == 3
    assert exit_status([proved, incomplete]) == 3
    assert exit_status([unknown, refuted]) == 1
    assert exit_status([proved, stale]) == 0


def test_queries_are_counted_that_an_earlier_kernel_asks_too(tmp_path, cache):
    first, second = swept(tmp_path)[:2]
    assert (first.queries, first.known) == (1, 0)
    assert (second.queries, second.known) == (1, 1)


def test_queries_that_differ_in_the_addresses_of_names_are_the_same(tmp_path):
    def asked(folder: str, text: str) -> set[str]:
        place = tmp_path / folder
        (place / "obligations").mkdir(parents=True)
        (place / "obligations" / "0.smt2").write_text(text)
        required = example.obligation("a", text="obligations/0.smt2")
        return queries(example.run(example.claim("a", obligations=[required])), place)

    here = asked("here", "(declare-fun |x@0x1000| () (_ BitVec 64)) (assert (= |x@0x1000| (_ bv1 64)))")
    there = asked("there", "(declare-fun |x@0x2000| () (_ BitVec 64)) (assert (= |x@0x2000| (_ bv1 64)))")
    other = asked("other", "(declare-fun |x@0x2000| () (_ BitVec 64)) (assert (= |x@0x2000| (_ bv2 64)))")
    assert here == there != other
