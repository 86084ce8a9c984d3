"""Each distinct question is asked once, wherever it is asked."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest
from kexec_verify.cache.answers import Answers
from kexec_verify.cache.store import Cache
from kexec_verify.errors import InternalError, UsageError
from kexec_verify.logic import ult, var
from kexec_verify.prove import distributed, solvers
from kexec_verify.prove.executors import Processes, solving
from kexec_verify.prove.queries import Queries
from kexec_verify.prove.smtlib import script
from kexec_verify.prove.solvers import Answer

X, Y = var("x"), var("y")
HOLDS = script((("h", X == Y),), X + 1 == Y + 1)
FAILS = script((), ult(X, Y))


@pytest.fixture
def count(monkeypatch):
    asked: list[tuple[str, str]] = []
    for name in ("ask_z3", "ask_bitwuzla"):
        sound = getattr(solvers, name)

        def ask(text, *more, name=name, sound=sound):
            asked.append((name, text))
            return sound(text, *more)

        monkeypatch.setattr(solvers, name, ask)
    return asked


def answers(replies):
    return [(reply.solver, reply.answer) for reply in replies]


PROVED = [("z3", Answer.UNSAT), ("bitwuzla", Answer.UNSAT)]


def test_query_is_asked_when_its_answer_is_wanted_and_once(count):
    queries = Queries()
    first, again = queries.settle(HOLDS), queries.settle(HOLDS)
    assert count == []
    assert answers(first()) == answers(again()) == answers(first()) == PROVED
    assert len(count) == 2


def of_code_at(address: int) -> str:
    before, after = var(f"x0@{address:#x}"), var(f"x0@{address + 4:#x}")
    return script(((f"branch taken at {address:#x}", before == after),), before + 1 == after + 1)


def test_code_that_stands_elsewhere_asks_the_same(count):
    queries = Queries()
    first, moved = of_code_at(0xFFFF_8000_0800_0000), of_code_at(0xFFFF_8000_0900_1234)
    assert first != moved
    assert answers(queries.settle(first)()) == answers(queries.settle(moved)()) == PROVED
    assert len(count) == 2
    assert queries.settle(first)() == queries.settle(moved)()


def test_filter_and_proof_are_different_queries(count):
    queries = Queries()
    assert answers(queries.filter_by(HOLDS, 2.0)()) == PROVED[1:]
    assert answers(queries.settle(HOLDS)()) == PROVED
    assert [name for name, _ in count] == ["ask_bitwuzla", "ask_bitwuzla", "ask_z3"]


def test_another_seed_is_another_query(count):
    queries = Queries()
    queries.settle(HOLDS, seed=0)(), queries.settle(HOLDS, seed=7)()
    assert len(count) == 4


def test_what_is_satisfiable_is_asked_of_one_solver(count):
    assert answers(Queries().settle(FAILS)()) == [("bitwuzla", Answer.SAT)]
    assert len(count) == 1


def test_giving_up_is_no_answer_for_later(monkeypatch, tmp_path):
    hard = script((), X * Y != 0x2876A25E206F5C67)
    cache = Cache(tmp_path, b"k" * 32)
    queries = Queries(store=Answers(cache))
    monkeypatch.setattr(
        solvers, "ask_bitwuzla", lambda *asked: solvers.Reply("bitwuzla", Answer.UNKNOWN, 1.0)
    )
    queries.filter_by(hard, 0.01)()
    assert not cache._pending
    monkeypatch.undo()
    assert answers(queries.settle(hard)()) == [("bitwuzla", Answer.SAT)]


def test_store_answers_what_an_earlier_run_asked(count, tmp_path):
    cache = Cache(tmp_path, b"k" * 32)
    Queries(store=Answers(cache)).settle(HOLDS)()
    later = Queries(store=Answers(cache))
    assert answers(later.settle(HOLDS)()) == PROVED
    assert (later.asked, later.reused) == (0, 1)
    assert len(count) == 2


def test_any_executor_will_do(count):
    with ThreadPoolExecutor(2) as executor:
        queries = Queries(executor)
        later = [queries.settle(HOLDS), queries.settle(FAILS), queries.settle(HOLDS)]
        assert [answers(one()) for one in later] == [PROVED, [("bitwuzla", Answer.SAT)], PROVED]
        assert queries.asked == 2


def test_what_is_wanted_now_waits_for_nobody():
    with ThreadPoolExecutor(1) as executor:
        executor.submit(time.sleep, 2)
        started = time.monotonic()
        assert Queries(executor).filter_now(HOLDS).answer is Answer.UNSAT
        assert time.monotonic() - started < 1.5


def test_processes_answer_as_this_one_does():
    with solving(2) as executor:
        queries = Queries(executor)
        later = [queries.settle(HOLDS), queries.settle(FAILS)]
        assert [answers(one()) for one in later] == [PROVED, [("bitwuzla", Answer.SAT)]]
    with solving(1) as executor:
        assert executor is None


def die_once(path: str) -> str:
    """Dies in the process that calls it first."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "answered"
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def die(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_process_loses_no_query(tmp_path):
    processes = Processes(2)
    try:
        futures = [processes.submit(die_once, str(tmp_path / "died"))]
        futures += [processes.submit(solvers.settle, HOLDS) for _ in range(4)]
        assert futures[0].result(60) == "answered"
        assert [answers(f.result(60)) for f in futures[1:]] == [PROVED] * 4
    finally:
        processes.shutdown(wait=False)


def test_query_that_kills_every_process_is_an_internal_fault():
    processes = Processes(1)
    try:
        with pytest.raises(InternalError, match="3 solver processes died"):
            processes.submit(die, None).result(60)
        assert answers(processes.submit(solvers.settle, HOLDS).result(60)) == PROVED
    finally:
        processes.shutdown(wait=False)


def test_end_does_not_wait_for_a_query():
    started = time.monotonic()
    processes = Processes(1)
    asked = processes.submit(time.sleep, 60)
    later = processes.submit(time.sleep, 60)
    while not processes._children:
        time.sleep(0.01)
    processes.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(CancelledError):
        asked.result(30)
    assert later.cancelled()
    assert time.monotonic() - started < 30
    with pytest.raises(RuntimeError):
        processes.submit(time.sleep, 0)


def test_end_that_waits_leaves_nothing_unanswered():
    processes = Processes(2)
    later = [processes.submit(solvers.settle, HOLDS) for _ in range(5)]
    processes.shutdown()
    assert [answers(future.result(0)) for future in later] == [PROVED] * 5


def test_error_of_a_query_is_its_askers():
    processes = Processes(1)
    try:
        with pytest.raises(InternalError, match="bitwuzla cannot read"):
            processes.submit(solvers.settle, "(assert nothing)").result(60)
    finally:
        processes.shutdown(wait=False)


def test_scheduler_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setattr(distributed, "_CONNECT", "1s")
    with (
        pytest.raises(UsageError, match=r"expected a Dask scheduler at tcp://127\.0\.0\.1:1"),
        solving(scheduler="tcp://127.0.0.1:1"),
    ):
        pass


def test_every_worker_must_have_the_solvers_of_this_process():
    here = distributed.solvers()
    distributed.require_same_solvers({"tcp://one": here, "tcp://two": here}, "tcp://scheduler")
    with pytest.raises(UsageError, match="expected workers at tcp://scheduler, found none"):
        distributed.require_same_solvers({}, "tcp://scheduler")
    with pytest.raises(UsageError, match="at the worker tcp://two, found z3 0"):
        distributed.require_same_solvers({"tcp://one": here, "tcp://two": "z3 0"}, "tcp://scheduler")
