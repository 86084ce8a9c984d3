"""Bounded symbolic execution of the routine's bytes, with the tool's own engine, on a list of one length.

The list is one DESTINATION, ``pages`` SOURCE words and DONE. Every instruction is run, loops
turn by turn; then each destination page must hold what its source page held. Nothing is asked
of caches, barriers, other memory, the entry state, or lists of another length or shape.

``python -m bench.bounded BINARY PAGES concrete|symbolic`` prints the stages, then ``holds``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

from kexec_verify.arm64.execute import Exit, Step, execute
from kexec_verify.arm64.lift import Code
from kexec_verify.arm64.state import State
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.abi_variant import ENTRY_MEMORY, AbiVariant, entry_state, recognise
from kexec_verify.kexec.locate import find_routine
from kexec_verify.logic import (
    FALSE,
    Formula,
    Function,
    Or,
    Term,
    claripy,
    const,
    constant,
    difference,
    same,
    ule,
    ult,
    var,
)
from kexec_verify.memory import WORD_BYTES, Memory, Unknown
from kexec_verify.obligation import Facts
from kexec_verify.prove.discharge import decide
from kexec_verify.prove.smtlib import script
from kexec_verify.prove.solvers import Answer, ask_bitwuzla
from kexec_verify.specs.kimage import IND_DESTINATION, IND_DONE, IND_INDIRECTION, IND_SOURCE, KimageLayout
from kexec_verify.target import open_target

KIMAGE, LIST, DESTINATION, SOURCE = 0x4000_0000, 0x4001_0000, 0x4800_0000, 0x6000_0000
_NO_LIMIT = 3600.0  # seconds; the caller's limit ends the process first


class Pages(Memory):
    """Memory all of whose addresses are constants: the words written, over unknown ones."""

    def __init__(self, page_size: int, pages: dict[int, dict[int, Term]]):
        super().__init__()
        self.page_size, self.pages = page_size, pages

    def _read(self, address: Term) -> Term:
        at = _known(address)
        written = self.pages.get(at // self.page_size, {}).get(at)
        return Function(ENTRY_MEMORY)(address) if written is None else written

    def write(self, address: Term, value: Term) -> Pages:
        at = _known(address)
        number = at // self.page_size
        page = {**self.pages.get(number, {}), at: value}
        return Pages(self.page_size, {**self.pages, number: page})


def _known(address: Term) -> int:
    at = constant(address)
    if at is None or at % WORD_BYTES:
        raise UnsupportedError("address that is no constant multiple of 8")
    return at


@dataclass(frozen=True)
class Problem:
    """A state at the routine's entry, and the pages that it shall copy, in order."""

    state: State
    destinations: list[Term]
    sources: list[Term]


def problem(variant: AbiVariant, pages: int, symbolic: bool) -> Problem:
    """The list of ``pages`` pages in a memory of unknown contents.

    :param symbolic: page addresses are variables, subject to W5–W7; else they are constants.
    """
    size = variant.page_size
    if symbolic:
        first = _page(var("d", 64 - _bits(size)), size)
        sources = [_page(var(f"s{i}", 64 - _bits(size)), size) for i in range(pages)]
    else:
        first = const(DESTINATION)
        sources = [const(SOURCE + i * size) for i in range(pages)]
    destinations = [first + i * size for i in range(pages)]
    words = [first | IND_DESTINATION, *(source | IND_SOURCE for source in sources), const(IND_DONE)]
    if symbolic and len(words) * WORD_BYTES > size:
        raise UnsupportedError("list of more than a page at symbolic addresses")  # W7 below is of one page
    memory: Memory = Unknown(ENTRY_MEMORY) if symbolic else Pages(size, {})
    for at, word in _placed(words, size):
        memory = memory.write(const(at), word)
    entry = entry_state()
    head = const(LIST | IND_INDIRECTION)
    if variant.layout is not None:
        memory = _kimage(memory, variant.layout, head)
        arguments = {"x0": const(KIMAGE)}
    else:
        arguments = {"x0": head, "x1": const(DESTINATION), "x2": const(0)}
    registers = {**entry.registers, **arguments, "ctr_el0": const(4 << 16)}
    facts = _well_formed(destinations, sources, size) if symbolic else ()
    return Problem(replace(entry, registers=registers, memory=memory, facts=facts), destinations, sources)


def _placed(words: list[Term], size: int) -> Iterator[tuple[int, Term]]:
    """The words with their addresses: the last of each full list page names the next page."""
    at = LIST
    for word in words:
        if at % size == size - WORD_BYTES:
            yield at, const(at + WORD_BYTES | IND_INDIRECTION)
            at += WORD_BYTES
        yield at, word
        at += WORD_BYTES


def _bits(size: int) -> int:
    return size.bit_length() - 1


def _page(number: Term, size: int) -> Term:
    return claripy.Concat(number, const(0, _bits(size)))


def _kimage(memory: Memory, layout: KimageLayout, head: Term) -> Memory:
    fields = {layout.head: head, layout.start: const(DESTINATION)}
    zero = (layout.dtb_mem, layout.el2_vectors, layout.ttbr1, layout.zero_page, layout.phys_offset)
    for offset, value in {**fields, **dict.fromkeys(zero, const(0))}.items():
        memory = memory.write(const(KIMAGE + offset), value)
    return memory


def _well_formed(destinations: list[Term], sources: list[Term], size: int) -> Facts:
    """W5–W7 for one segment, and that no page wraps round the top of memory."""
    first, length = destinations[0], const(len(destinations) * size)
    facts: list[tuple[str, Formula]] = [("no wrap", ult(first, -length))]
    for page in (KIMAGE, LIST):
        facts.append(("W7", ule(length, difference(const(page & -size), first))))
    for source, own in zip(sources, destinations, strict=True):
        facts.append(("no wrap", ult(source, const(-size))))
        facts.append(("W6", Or(source == own, ule(length, difference(source, first)))))
    return tuple(facts)


def explore(code: Code, state: State) -> list[Step]:
    """Every way from the entry out of the routine, turn by turn; what facts exclude is left out."""
    ends = []
    todo = [Step(state, code.address)]
    while todo:
        step = todo.pop()
        if isinstance(step.then, Exit):
            ends.append(step)
            continue
        # The history is not asked about: without it a run of many turns stays cheap.
        state = replace(step.state, trace=(), accesses=(), events=())
        further = list(execute(code.at(step.then), state))
        if len(further) > 1:
            further = [step for step in further if not decide(step.state.facts, FALSE)]
        todo.extend(further)
    return ends


def holds(problem: Problem, end: State, size: int) -> bool:
    """Each destination page holds what its source page held at the entry, on the path to ``end``."""
    before = problem.state.memory
    for dest, source in zip(problem.destinations, problem.sources, strict=True):
        if isinstance(before, Pages):
            offsets = (const(offset) for offset in range(0, size, WORD_BYTES))
        else:
            index = var("i", _bits(size) - 3)
            offsets = iter([claripy.Concat(const(0, 64 - _bits(size)), index, const(0, 3))])
        for offset in offsets:
            after, wanted = end.memory.read(dest + offset), before.read(source + offset)
            if same(after, wanted):
                continue
            text = script(end.facts, after == wanted)
            if ask_bitwuzla(text, _NO_LIMIT).answer is not Answer.UNSAT:
                return False
    return True


def main(binary: str, pages: int, symbolic: bool) -> int:
    """0 if the question was answered by yes."""
    sys.setrecursionlimit(1_000_000)  # a read walks every store below it
    routine = find_routine(open_target(binary))
    code = Code(routine.name, routine.address, routine.code)
    variant = recognise(code)
    asked = problem(variant, pages, symbolic)
    print("running the instructions", flush=True)
    ends = explore(code, asked.state)
    print(f"asking about {len(ends)} paths", flush=True)
    if not ends or not all(holds(asked, end.state, variant.page_size) for end in ends):
        print("does not hold")
        return 1
    print("holds")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "symbolic"))
