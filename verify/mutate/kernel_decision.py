"""Seed errors into the verifier's handling of C code, one at a time; a probe must notice each.

A probe is a function of the kernel, unchanged or with one instruction changed. An error is noticed in three
cases: the unchanged function is no longer proved; a changed one is PROVED although a run on Unicorn shows a
fault; a run contradicts the path that it should take.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import islice, product
from unittest import mock

from kexec_verify.arm64.execute import Step
from kexec_verify.arm64.lift import Code
from kexec_verify.arm64.state import State
from kexec_verify.errors import InternalError
from kexec_verify.kexec.callees import PAGE, Callee
from kexec_verify.kexec.context import KexecContext
from kexec_verify.logic import TRUE, Formula, Term
from kexec_verify.mutate.base import Base, Subject
from kexec_verify.mutate.binary import mutants
from kexec_verify.mutate.kernel_mutants import composition_of, prove_changed, run_changed
from kexec_verify.mutate.model import FaultRecord
from kexec_verify.symbolic.explore import Explorer
from kexec_verify.symbolic.objects import Objects
from kexec_verify.verdict import Verdict

_MOV_0 = 0xD280_0000  # movz xN, #0
_MOVN, _MOVZ = 0x9280_0000, _MOV_0  # the immediate is in bits 20 to 5
PROBES = 12
"""Changed functions that are tried of each error."""


def _first_alone(states: Sequence[State], tag: str) -> State:
    return replace(states[0], accesses=(), events=(), trace=())


def _one_side(self: Explorer, steps: list[Step], before: State) -> list[Step]:
    return steps[:1]


def _anywhere(self: Objects, address: Term, size: int) -> Formula:
    return TRUE


def _all_are(warns: bool) -> Callable[[], AbstractContextManager[object]]:
    def kinds(self: KexecContext, breaks: list[int]) -> dict[int, bool]:
        return dict.fromkeys(breaks, warns)

    return lambda: mock.patch.object(KexecContext, "_kinds", kinds)


type Probes = Callable[[Base, Subject], Iterator[tuple[str, Code]]]


def _edited(pattern: str) -> Probes:
    """Make probes of the one-instruction changes whose description matches ``pattern``."""

    def made(base: Base, subject: Subject) -> Iterator[tuple[str, Code]]:
        for mutant in mutants(subject.code, subject.addresses):
            if re.search(pattern, mutant.edit):
                yield f"{mutant.code.where(mutant.at)}: {mutant.edit}", mutant.code

    return made


def _behind_a_warn(base: Base, subject: Subject) -> Iterator[tuple[str, Code]]:
    """Yield changes of instructions that are reached only through a WARN."""
    with _all_are(False)():
        composition, _ = composition_of(base, subject.code)
        composition.build()
    reached = {at for part in composition.parts.values() for at in part.covered}
    behind = tuple(at for at in subject.addresses if at not in reached)
    yield from _edited("")(base, replace(subject, addresses=behind))


def _from_two_pages(base: Base, subject: Subject) -> Iterator[tuple[str, Code]]:
    """Yield changes of a line mask to one of two pages, so that lines below the range are maintained too."""
    for at in subject.addresses:
        text = subject.code.at(at).text
        for pattern, word in ((r"neg x(\d+), x\d+$", _MOVN), (r"sub x(\d+), x\d+, #0x1$", _MOVZ)):
            dest = re.match(pattern, text)
            if dest is not None:
                code = subject.code.patched(at, word | (2 * PAGE - 1) << 5 | int(dest[1]))
                yield f"{code.where(at)}: {text} → {code.at(at).text}", code


def _on_one_path(base: Base, subject: Subject) -> Iterator[tuple[str, Code]]:
    """Yield changes that lose a needed register on one of several joining paths, not the first."""
    for part in base.parts.values():
        if part.proof is None or part.proof.code.address != subject.code.address:
            continue
        for segment in part.proof.segments:
            traces = [step.state.trace for step in segment.ends if isinstance(step.then, int)]
            later = {at for trace in traces for at in trace} - set(traces[0] if traces else ())
            for at, register in product(sorted(later), range(19, 23)):
                code = subject.code.patched(at, _MOV_0 | register)
                yield f"{code.where(at)}: {subject.code.at(at).text} → mov x{register}, #0x0", code


@dataclass(frozen=True)
class Fault:
    """An error of the verifier's own.

    :param switched_on: switches it on while its context lasts.
    :param function: of which functions probes are made, a regular expression of their names.
    :param probes: changed functions, each with the change in words; those are tried that a run breaks.
    :param by_probe: a kernel without a probe cannot notice it.
    """

    name: str
    switched_on: Callable[[], AbstractContextManager[object]]
    function: str
    probes: Probes
    by_probe: bool = False


FAULTS = (
    Fault(
        "a join keeps the values of the first path",
        lambda: mock.patch("kexec_verify.kexec.machine_kexec.join", _first_alone),
        "machine_kexec",
        _on_one_path,
    ),
    Fault(
        "a call changes no register",
        lambda: mock.patch("kexec_verify.kexec.calls.CLOBBERED", ()),
        "machine_kexec",
        _edited("$^"),
    ),
    Fault(
        "no obligation that an access stays in its object",
        lambda: mock.patch.object(Objects, "inside", _anywhere),
        "machine_kexec",
        _edited(r"^(str|stp) .*\[sp.* → (str|stp) .*\[sp"),
    ),
    Fault("a BUG is taken for a WARN", _all_are(True), "machine_kexec", _edited("$^")),
    Fault("a WARN is taken for a BUG", _all_are(False), "machine_kexec", _behind_a_warn, by_probe=True),
    Fault(
        "one side of a branch is left out without an obligation",
        lambda: mock.patch.object(Explorer, "_taken", _one_side),
        "machine_kexec|machine_kexec_post_load",
        _edited(r"^(mov|str|orr|sub) .* → nop"),
    ),
    Fault(
        "cache maintenance in a loop is forgotten",
        lambda: mock.patch.object(Callee, "_require_maintenance", lambda *_: None),
        "dcache_clean_inval_poc|icache_inval_pou|__flush_dcache_area|caches_clean_inval_pou",
        _from_two_pages,
    ),
    Fault(
        "contracts are trusted without a proof",
        lambda: mock.patch.object(Callee, "_require_end", lambda *_: None),
        r"is_hyp_\w+|cpu_do_switch_mm",
        _edited("→ nop$"),
    ),
)


def seed_each(base: Base) -> Iterator[FaultRecord]:
    """Yield each error with the first probe that notices it; errors without probes are skipped."""
    for fault in FAULTS:
        subjects = [s for s in base.subjects() if re.fullmatch(fault.function, s.code.name)]
        if subjects and not (fault.by_probe and not any(any(fault.probes(base, s)) for s in subjects)):
            found = (notice for subject in subjects for notice in _noticed(base, fault, subject))
            yield FaultRecord(fault.name, next(found, ""))


def _noticed(base: Base, fault: Fault, subject: Subject) -> Iterator[str]:
    name = subject.code.name
    verdict = _verdict(base, fault, subject.code)
    if verdict is not Verdict.PROVED:
        yield f"{name} is proved: no, {verdict or 'internal fault'}"
    broken = (p for p in fault.probes(base, subject) if run_changed(base, p[1]))
    for edit, code in islice(broken, PROBES):
        verdict = _verdict(base, fault, code)
        if verdict is Verdict.PROVED or verdict is None:
            yield f"{edit} is broken, and {verdict or 'an internal fault'}"


def _verdict(base: Base, fault: Fault, code: Code) -> Verdict | None:
    """Return the verdict under an error; None if a path and its run contradict each other."""
    with fault.switched_on():
        try:
            return prove_changed(base, code)
        except InternalError:
            return None
