"""Mutants of the verifier's own decision code: one error switched on at a time.

Each must be noticed by a probe: the sound routine is no longer proved, a broken one is,
or an answer that no solver gave counts as a proof.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from unittest import mock

from specs.properties import RELOCATION
from verify.arm64 import system
from verify.arm64.execute import execute
from verify.arm64.lift import Code
from verify.errors import VerifyError
from verify.kexec.form import Form
from verify.kexec.routine import Routine
from verify.logic import TRUE, If, difference, ult
from verify.memory import Copied, Written
from verify.mutate.binary import NOP
from verify.mutate.model import FaultRecord
from verify.obligation import Obligation
from verify.prove import solvers
from verify.prove.discharge import Discharger
from verify.prove.solvers import Answer, Reply
from verify.theorems import prove
from verify.verdict import Verdict

_IC_IALLU = 0xD508_751F

type Probe = Callable[[Code, Form], bool]
"""Whether a routine is PROVED, asked in some circumstances."""


def _proved(code: Code, form: Form) -> bool:
    try:
        outcome = prove(code, RELOCATION, form.page_size, form.layout, search_seconds=0)
    except VerifyError:
        return False
    return all(finding.verdict is Verdict.PROVED for finding in outcome.findings)


def _proved_without_invalidation(code: Code, form: Form) -> bool:
    (at,) = (address for address in code.addresses if code.at(address).word == _IC_IALLU)
    return _proved(code.patched(at, NOP), form)


def _proved_without_answers(code: Code, form: Form) -> bool:
    with mock.patch.object(solvers, "ask_z3", lambda *asked: Reply("z3", Answer.UNKNOWN, 0.0)):
        return _proved(code, form)


# What the sound tool says: name -> (probe, its answer).
PROBES: dict[str, tuple[Probe, bool]] = {
    "the routine is proved": (_proved, True),
    "the routine without ic iallu is proved": (_proved_without_invalidation, False),
    "the routine is proved though z3 gives up": (_proved_without_answers, False),
}


def _one_way(instruction: object, state: object, el: int) -> Iterator[object]:
    yield next(iter(execute(instruction, state, el)))  # type: ignore[arg-type]


def _lenient(self: Discharger, obligation: Obligation, text: str) -> tuple[Verdict, tuple[Reply, ...]]:
    replies = tuple(getattr(solvers, name)(text) for name in ("ask_bitwuzla", "ask_z3"))
    refuted = any(reply.answer is Answer.SAT for reply in replies)
    return (Verdict.UNKNOWN if refuted else Verdict.PROVED), replies


def _long_copy(self: Copied, address: object) -> object:
    offset = difference(address, self.dest)
    copied = self.origin.read(self.source + offset)
    return If(ult(offset, self.length + 8), copied, self.below.read(address))


_owe = Routine.owe


def _owe_nothing(
    self: Routine, name: str, sentence: str, hypotheses: object, goal: object, *rest: object, **more: object
) -> None:
    _owe(self, name, sentence, hypotheses, TRUE, *rest, **more)  # type: ignore[arg-type]


FAULTS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "a solver's unknown counts as unsat": lambda: mock.patch.object(Discharger, "_ask", _lenient),
    "every goal is true": lambda: mock.patch.object(Routine, "owe", _owe_nothing),
    "one successor of a branch is forgotten": lambda: mock.patch("verify.symbolic.explore.execute", _one_way),
    "a store is no layer of memory": lambda: mock.patch.object(
        Written, "_read", lambda self, address: self.below.read(address)
    ),
    "a copied page ends a word late": lambda: mock.patch.object(Copied, "_read", _long_copy),
    **{
        f"{name} is skipped": lambda name=name: mock.patch.dict(system.MEANING, {name: system.nothing})  # type: ignore[misc]
        for name in ("DataSynchronizationBarrier", "InstructionSynchronizationBarrier", "IC_IALLU")
    },
}


def seed_each(code: Code, form: Form) -> Iterator[FaultRecord]:
    """For each fault, the first probe that notices it."""
    for fault, switched_on in FAULTS.items():
        noticed = ""
        for name, (probe, sound) in PROBES.items():
            with switched_on():
                answer = probe(code, form)
            if answer is not sound:
                noticed = f"{name}: {'yes' if answer else 'no'}"
                break
        yield FaultRecord(fault, noticed)
