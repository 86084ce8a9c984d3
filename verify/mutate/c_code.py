"""Put harmful instructions where machine_kexec and machine_kexec_post_load do nothing that kexec needs.

Such places are hints, and calls of printk with the two instructions before each. No emulated machine runs
these functions, so a reader must judge a mutant that is PROVED.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kexec_verify.arm64.lift import SIZE, Code
from kexec_verify.kexec.abi_variant import recognise
from kexec_verify.kexec.composition import has_whole_path
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.layout import stated_layout
from kexec_verify.kexec.locate import Function
from kexec_verify.kexec.machine_kexec import MachineKexec
from kexec_verify.kexec.post_load import PostLoad
from kexec_verify.mutate.binary import NOP
from kexec_verify.mutate.insertion import HARMFUL
from kexec_verify.mutate.pairs import sample
from kexec_verify.mutate.second_judge import Prover, Record, Tell, changed_kernel, changed_words, context_of
from kexec_verify.obligation import Obligation
from kexec_verify.symbolic.explore import Decide
from kexec_verify.target import Kernel

REFUSED, PROVED = "not proved", "PROVED, not run"
KIND = "C code"
_HINT, _HINT_MASK = 0xD503_201F, 0xFFFF_F01F
_PRINTS = ("_printk", "printk")

type CFunction = MachineKexec | PostLoad
type Place = tuple[int, ...]
"""Addresses of instructions that kexec does not need; the first is replaced, the others become a nop."""


@dataclass(frozen=True)
class Subject:
    """A C function whose instructions are replaced.

    :param proof: makes its proof in a kernel, not run yet.
    """

    code: Code
    proof: Callable[[KexecContext], CFunction]
    places: tuple[Place, ...]


def subjects(context: KexecContext, routine: Function, decide: Decide) -> list[Subject]:
    """Return machine_kexec and machine_kexec_post_load, with the places in each that kexec does not need."""
    code = Code(routine.name, routine.address, routine.code)
    variant = recognise(code, context.kernel.page_size, stated_layout(context.kernel))
    makers: tuple[Callable[[KexecContext], CFunction], ...] = (
        lambda made: MachineKexec(made, decide, variant.tests_head, not variant.kimage, routine),
        lambda made: PostLoad(made, decide, routine, variant.tests_head, variant.kimage),
    )
    found = []
    for make in makers:
        code = make(context).code
        found.append(Subject(code, make, tuple(_places(code, context.kernel))))
    return found


def _places(code: Code, kernel: Kernel) -> Iterator[Place]:
    for at in code.addresses:
        instruction = code.at(at)
        target = instruction.call_target
        if instruction.word & _HINT_MASK == _HINT:
            yield (at,)
        elif target is not None and set(_PRINTS) & set(kernel.symbols_at(target)):
            yield (at - 2 * SIZE, at - SIZE, at)


def mutants(subject: Subject) -> Iterator[tuple[str, bytes]]:
    """Yield every mutant with a harmful instruction at one place: the change in words, and the bytes."""
    code = subject.code
    for place in subject.places:
        idle = code
        for at in place:
            idle = idle.patched(at, NOP)
        for word, text in HARMFUL:
            yield f"{code.where(place[0])}: {text}", idle.patched(place[0], word).data


def attempts(
    kernel: Kernel,
    routine: Function,
    count: int,
    seed: int = 1,
    progress: Tell = lambda record, done, of: None,
) -> list[Record]:
    """Return verdicts on ``count`` mutants, half of them of each function; none without C functions.

    :raises UsageError: for a routine that takes its arguments in registers.
    """
    if not has_whole_path(kernel):
        return []
    context, prover = context_of(kernel, routine), Prover()
    work = []
    for subject in subjects(context, routine, prover.decide):
        work += [(subject, *mutant) for mutant in sample(mutants(subject), count // 2, seed)]
    records: list[Record] = []
    for subject, edit, data in work:
        records.append(_attempt(subject, edit, data, context, prover))
        progress(records[-1], len(records), len(work))
    return records


def _attempt(subject: Subject, edit: str, data: bytes, context: KexecContext, prover: Prover) -> Record:
    code = subject.code

    def build(changed: bytes) -> list[Obligation]:
        proof = subject.proof(changed_kernel(context, code.address, changed))
        proof.prove()
        return proof.obligations

    words = changed_words(code.address, code.data, data)
    refused = prover.refuses(build, data)
    return Record(code.name, KIND, edit, words, REFUSED if refused else PROVED, "", refused)
