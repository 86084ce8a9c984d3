"""Compare the prover with a second judge: no mutant that fails on QEMU's machine may be PROVED."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from kexec_verify.arm64.lift import SIZE, Code
from kexec_verify.bare_metal.image import STUB_SLOTS
from kexec_verify.bare_metal.machine import Machine
from kexec_verify.bare_metal.run import Outcome, enter_restart, enter_routine, enter_stub
from kexec_verify.bare_metal.scene import sctlr_left_by
from kexec_verify.errors import LimitError, UnsupportedError, UsageError
from kexec_verify.kexec import relocation
from kexec_verify.kexec.abi_variant import recognise
from kexec_verify.kexec.composition import has_whole_path
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.layout import stated_layout
from kexec_verify.kexec.locate import Function
from kexec_verify.kexec.soft_restart import COPIED_VECTORS, VECTORS, HypStub, SoftRestart
from kexec_verify.logic import Formula
from kexec_verify.mutate.binary import shares
from kexec_verify.mutate.insertion import additions, insertions
from kexec_verify.mutate.pairs import sample, sample_pairs
from kexec_verify.obligation import Facts, Obligation
from kexec_verify.prove.discharge import Discharger
from kexec_verify.prove.smtlib import script
from kexec_verify.specs.hyp_stub import HVC_SET_VECTORS, HVC_SOFT_RESTART
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.specs.properties import PROPERTIES
from kexec_verify.target import Kernel
from kexec_verify.theorems import has_obligation
from kexec_verify.verdict import Verdict

LIVES, REFUSED, SURVIVES = "lives", "dies, not proved", "dies, PROVED"
RESULTS = (REFUSED, SURVIVES, LIVES)
KINDS = ("replaced", "added", "pair")
_PATIENCE = 5.0
"""Seconds that a run may take before it counts as a hang, when it is run again."""
_FIRST = ("effect", "mapped", "undefined", "access")
"""Parts of names of obligations that harmful instructions fail: they are tried first."""


@dataclass(frozen=True)
class Record:
    """The result for one mutant.

    :param edit: the change, in words.
    :param words: address and word of each instruction that differs.
    :param reason: how it dies or where it enters; of one that is not proved, behind it, why not.
    """

    function: str
    kind: str
    edit: str
    words: tuple[tuple[int, int], ...]
    result: str
    reason: str
    refused: str = ""


@dataclass
class Summary:
    """The results for all mutants."""

    records: list[Record] = field(default_factory=list)

    def count(self, function: str, kind: str, result: str) -> int:
        """Return how many mutants of that function and kind had that result."""
        return self._counts()[function, kind, result]

    def _counts(self) -> Counter[tuple[str, str, str]]:
        return Counter((r.function, r.kind, r.result) for r in self.records)

    @property
    def functions(self) -> list[str]:
        """Return the functions that were changed, in the order of their first mutant."""
        return list(dict.fromkeys(record.function for record in self.records))

    @property
    def survivors(self) -> list[Record]:
        """Return the mutants that fail on the machine and are PROVED."""
        return [record for record in self.records if record.result == SURVIVES]


type Enter = Callable[[bytes, Machine], Outcome]
type Build = Callable[[bytes], list[Obligation]]
type Tell = Callable[[Record, int, int], None]
"""Told each record, how many there are by now, and how many there will be."""


@dataclass(frozen=True)
class Subject:
    """A function that is changed.

    :param slots: offsets of the instructions to change.
    :param enter: runs its bytes on a machine.
    :param build: what must be proved of its bytes; raises for those that the proof does not cover.
    :param grows: nothing that matters follows it, so an instruction may be added.
    """

    name: str
    address: int
    code: bytes
    slots: tuple[int, ...]
    enter: Enter
    build: Build
    grows: bool = False


def campaign(
    kernel: Kernel,
    routine: Function,
    count_insertions: int,
    count_pairs: int,
    seed: int = 1,
    progress: Tell = lambda record, done, of: None,
) -> Summary:
    """Try mutants of the routine and, in a kernel, of the restart code and of the stubs.

    The mutants are divided in proportion to the functions' instructions. Of a function that may grow,
    half of the insertions are between two instructions, the others replace one.

    :raises UsageError: if an unchanged function does not enter or is not proved.
    """
    prover = Prover()
    found = subjects(kernel, routine, prover)
    page_size = _page_size(kernel, routine)
    summary = Summary()
    with Machine(page_size) as machine:
        for subject in found:
            _demand_sound(subject, machine, prover)
        work = list(_work(found, count_insertions, count_pairs, seed))
        for subject, kind, edit, code in work:
            record = attempt(subject, kind, edit, code, machine, prover)
            summary.records.append(record)
            progress(record, len(summary.records), len(work))
    return summary


def _work(
    found: Sequence[Subject], count_insertions: int, count_pairs: int, seed: int
) -> Iterator[tuple[Subject, str, str, bytes]]:
    sizes = [len(subject.slots) for subject in found]
    possible = [len(list(insertions(s.code, s.slots))) for s in found]
    parts = zip(found, shares(possible, count_insertions), _parts(sizes, count_pairs), strict=True)
    for subject, first, second in parts:
        added = sample(additions(subject.code), first // 2, seed) if subject.grows else []
        replaced = sample(insertions(subject.code, subject.slots), first - len(added), seed)
        both = sample_pairs(subject.code, subject.slots, second, seed)
        for kind, mutants in zip(KINDS, (replaced, added, both), strict=True):
            for edit, code in mutants:
                yield subject, kind, edit, code


def _parts(sizes: Sequence[int], most: int) -> list[int]:
    """Divide ``most`` in proportion to ``sizes``; there are more pairs than can be tried."""
    return shares([size * most for size in sizes], most) if most else [0] * len(sizes)


def attempt(subject: Subject, kind: str, edit: str, code: bytes, machine: Machine, prover: Prover) -> Record:
    """Return the result for one mutant; the prover is run only if it dies."""
    words = changed_words(subject.address, subject.code, code)
    outcome = subject.enter(code, machine)
    if outcome.entered:
        return Record(subject.name, kind, edit, words, LIVES, outcome.reason)
    refused = prover.refuses(subject.build, code)
    if refused:
        return Record(subject.name, kind, edit, words, REFUSED, outcome.reason, refused)
    # On a busy machine a run may look like a hang: run it again with more time.
    with Machine(machine.page_size, _PATIENCE, _PATIENCE) as patient:
        outcome = subject.enter(code, patient)
    return Record(subject.name, kind, edit, words, LIVES if outcome.entered else SURVIVES, outcome.reason)


def changed_words(address: int, before: bytes, after: bytes) -> tuple[tuple[int, int], ...]:
    """Return address and word of each instruction that differs; the first is located at ``address``."""
    offsets = [at for at in range(0, len(after), SIZE) if after[at : at + SIZE] != before[at : at + SIZE]]
    return tuple((address + at, int.from_bytes(after[at : at + SIZE], "little")) for at in offsets)


class Prover:
    """Decides whether the tool would say PROVED, sending each distinct query once for all mutants."""

    def __init__(self) -> None:
        self._discharger = Discharger()
        self._decided: dict[str, bool] = {}

    def decide(self, hypotheses: Facts, goal: Formula) -> bool:
        """Decide as ``Discharger.decide`` does, and remember the answer."""
        if goal.is_true():
            return True
        text = script(hypotheses, goal)
        if text not in self._decided:
            self._decided[text] = self._discharger.decide(hypotheses, goal)
        return self._decided[text]

    def refuses(self, build: Build, code: bytes) -> str:
        """Return why ``code`` is not PROVED; empty if it is. Stops at the first failure."""
        try:
            obligations = build(code)
        except (UnsupportedError, LimitError) as error:
            return f"{type(error).__name__}: {error}"
        claimed = [
            o for o in obligations if any(has_obligation(claim, o.name) for claim in PROPERTIES.values())
        ]
        if not claimed:
            return "no obligation was found"
        for obligation in sorted(claimed, key=_rank):
            (result,) = self._discharger.discharge([obligation])
            if result.verdict is not Verdict.PROVED:
                return f"{obligation.name}: {obligation.sentence}"
        return ""


def _rank(obligation: Obligation) -> int:
    if obligation.goal.is_false():
        return 0
    return 1 if any(part in obligation.name for part in _FIRST) else 2


def subjects(kernel: Kernel, routine: Function, prover: Prover) -> list[Subject]:
    """Return the functions that both judges can run.

    :raises UsageError: for a routine that takes no kimage: the machine has no scene for it.
    """
    context = context_of(kernel, routine) if has_whole_path(kernel) else None
    found = [_routine(kernel, routine, prover, context)]
    if context is None:
        return found
    found.append(_restart(kernel, context, prover))
    for symbol in (VECTORS, COPIED_VECTORS):
        if kernel.symbol(symbol) is not None:
            found.append(_stub(kernel, context, symbol))
    return found


def _page_size(kernel: Kernel, routine: Function) -> int:
    code = Code(routine.name, routine.address, routine.code)
    return recognise(code, kernel.page_size, stated_layout(kernel)).page_size


def context_of(kernel: Kernel, routine: Function) -> KexecContext:
    """Return the kernel around a routine that takes a kimage.

    :raises UsageError: for a routine that takes its arguments in registers.
    """
    return KexecContext(kernel, _layout(kernel, routine), _page_size(kernel, routine))


def _layout(kernel: Kernel, routine: Function) -> KimageLayout:
    code = Code(routine.name, routine.address, routine.code)
    layout = recognise(code, kernel.page_size, stated_layout(kernel)).layout
    if layout is None:
        raise UsageError(
            "expected a routine that takes a kimage, found one that takes its arguments in registers"
        )
    return layout


def _routine(kernel: Kernel, routine: Function, prover: Prover, context: KexecContext | None) -> Subject:
    layout, page_size = _layout(kernel, routine), _page_size(kernel, routine)
    stated = stated_layout(kernel)
    stub = None
    if context is not None:
        symbol = COPIED_VECTORS if kernel.symbol(COPIED_VECTORS) is not None else VECTORS
        stub = _stub_code(HypStub(context, symbol, symbol == COPIED_VECTORS), page_size)

    def enter(data: bytes, machine: Machine) -> Outcome:
        outcome = enter_routine(data, layout.arch, page_size, machine=machine)
        if outcome.entered and stub is not None:
            outcome = enter_routine(data, layout.arch, page_size, True, stub, machine)
        return outcome

    def build(data: bytes) -> list[Obligation]:
        code = Code(routine.name, routine.address, data)
        variant = recognise(code, kernel.page_size, stated)
        # A proof for words with any flags holds for words with one flag: the weaker claim is tried.
        return relocation.build(code, variant, prover.decide, single_flags=True)

    slots = tuple(range(0, len(routine.code), SIZE))
    return Subject(routine.name, routine.address, routine.code, slots, enter, build, grows=True)


def _restart(kernel: Kernel, context: KexecContext, prover: Prover) -> Subject:
    code = SoftRestart(context, prover.decide).code
    sctlr = sctlr_left_by(code.name)
    stub = _stub_code(HypStub(context, VECTORS, False), context.page_size)

    def build(data: bytes) -> list[Obligation]:
        proof = SoftRestart(changed_kernel(context, code.address, data), prover.decide)
        proof.prove()
        return proof.obligations

    def enter(data: bytes, machine: Machine) -> Outcome:
        return enter_restart(data, context.page_size, stub, machine, sctlr)

    slots = tuple(range(0, len(code.data), SIZE))
    return Subject(code.name, code.address, code.data, slots, enter, build)


def _stub(kernel: Kernel, context: KexecContext, symbol: str) -> Subject:
    copied = symbol == COPIED_VECTORS
    asked = (HVC_SOFT_RESTART,) if copied else (HVC_SOFT_RESTART, HVC_SET_VECTORS)
    proofs = [HypStub(context, symbol, copied, number) for number in asked]
    for proof in proofs:
        proof.prove()
    code = proofs[0].code
    data = _stub_code(proofs[0], context.page_size)

    def build(changed: bytes) -> list[Obligation]:
        now = changed_kernel(context, code.address, changed)
        found: list[Obligation] = []
        for number in asked:
            proof = HypStub(now, symbol, copied, number)
            proof.prove()
            found += proof.obligations
        return found

    enter: Enter = partial(_enter_stub, context.page_size, not copied)
    slots = tuple(sorted({at - code.address for proof in proofs for at in proof.covered}))
    return Subject(symbol, code.address, data, slots, enter, build)


def _enter_stub(page_size: int, sets_vectors: bool, stub: bytes, machine: Machine) -> Outcome:
    return enter_stub(stub, page_size, machine, sets_vectors)


def _stub_code(proof: HypStub, page_size: int) -> bytes:
    return proof.code.data[: STUB_SLOTS * page_size]


def changed_kernel(context: KexecContext, address: int, data: bytes) -> KexecContext:
    """Return the kernel with ``data`` at ``address``."""
    return KexecContext(context.kernel.patched(address, data), context.layout, context.page_size)


def _demand_sound(subject: Subject, machine: Machine, prover: Prover) -> None:
    outcome = subject.enter(subject.code, machine)
    if not outcome.entered:
        raise UsageError(f"expected {subject.name} to enter on the machine, found: {outcome.reason}")
    refused = prover.refuses(subject.build, subject.code)
    if refused:
        raise UsageError(f"expected {subject.name} to be proved, found: {refused}")
