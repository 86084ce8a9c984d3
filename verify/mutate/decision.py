"""Mutate the verifier's own decision code: switch one error on at a time.

A probe must notice each: the sound routine is no longer proved, a broken one is proved, or an answer that no
solver gave counts as a proof.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from unittest import mock

from kexec_verify.arm64 import system
from kexec_verify.arm64.execute import execute
from kexec_verify.arm64.lift import Code
from kexec_verify.errors import VerifyError
from kexec_verify.kexec.abi_variant import AbiVariant
from kexec_verify.kexec.routine import Routine
from kexec_verify.logic import TRUE, If, difference, ult
from kexec_verify.memory import Copied, Written
from kexec_verify.mutate.binary import NOP
from kexec_verify.mutate.model import FaultRecord
from kexec_verify.obligation import Obligation
from kexec_verify.prove import solvers
from kexec_verify.prove.discharge import Discharger
from kexec_verify.prove.solvers import Answer, Reply
from kexec_verify.specs.properties import RELOCATION
from kexec_verify.theorems import prove
from kexec_verify.verdict import Verdict

_IC_IALLU = 0xD508_751F

type Probe = Callable[[Code, AbiVariant], bool]
"""Whether a routine is PROVED, asked in some circumstances."""


def _proved(code: Code, variant: AbiVariant) -> bool:
    try:
        outcome = prove(code, RELOCATION, variant.page_size, variant.layout, search_seconds=0)
    except VerifyError:
        return False
    return all(finding.verdict is Verdict.PROVED for finding in outcome.findings)


def _proved_without_invalidation(code: Code, variant: AbiVariant) -> bool:
    (at,) = (address for address in code.addresses if code.at(address).word == _IC_IALLU)
    return _proved(code.patched(at, NOP), variant)


def _proved_without_answers(code: Code, variant: AbiVariant) -> bool:
    with mock.patch.object(solvers, "ask_z3", lambda *asked: Reply("z3", Answer.UNKNOWN, 0.0)):
        return _proved(code, variant)


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


_require = Routine.require


def _require_nothing(
    self: Routine, name: str, sentence: str, hypotheses: object, goal: object, *rest: object, **more: object
) -> None:
    _require(self, name, sentence, hypotheses, TRUE, *rest, **more)  # type: ignore[arg-type]


FAULTS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "a solver's unknown counts as unsat": lambda: mock.patch.object(Discharger, "_ask", _lenient),
    "every goal is true": lambda: mock.patch.object(Routine, "require", _require_nothing),
    "one successor of a branch is forgotten": lambda: mock.patch(
        "kexec_verify.symbolic.explore.execute", _one_way
    ),
    "a store is no layer of memory": lambda: mock.patch.object(
        Written, "_read", lambda self, address: self.below.read(address)
    ),
    "a copied page ends a word late": lambda: mock.patch.object(Copied, "_read", _long_copy),
    **{
        f"{name} is skipped": lambda name=name: mock.patch.dict(system.MEANING, {name: system.nothing})  # type: ignore[misc]
        for name in ("DataSynchronizationBarrier", "InstructionSynchronizationBarrier", "IC_IALLU")
    },
}


def seed_each(code: Code, variant: AbiVariant) -> Iterator[FaultRecord]:
    """Yield each fault with the first probe that notices it."""
    for fault, switched_on in FAULTS.items():
        noticed = ""
        for name, (probe, sound) in PROBES.items():
            with switched_on():
                answer = probe(code, variant)
            if answer is not sound:
                noticed = f"{name}: {'yes' if answer else 'no'}"
                break
        yield FaultRecord(fault, noticed)
