"""The list of a loaded image: walked by the list machine, and held against the formulas of W1 to W7."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Self

from kexec_verify.kexec.list_loop import list_assumptions
from kexec_verify.live.checks import Checks
from kexec_verify.live.formulas import State
from kexec_verify.live.guest import Guest
from kexec_verify.live.placement import Placement
from kexec_verify.logic import Function, Term, var
from kexec_verify.specs.kimage import IND_SOURCE, WellFormed
from kexec_verify.specs.relocate_kernel import WORD_BYTES, Kind, ListMachine, done, is_kind

_MOST_WORDS = 1 << 20
_UNSET = 1  # of pointer and destination before the list sets them: no address of a page
_MASK = (1 << 64) - 1


class ListError(ValueError):
    """The list machine leaves RAM, or does not end."""


@dataclass
class _Pages:
    """The list machine's memory: words of RAM at physical addresses. Copies are not made."""

    guest: Guest
    size: int
    _known: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def read(self, address: int) -> int:
        page = address & -self.size
        if page not in self._known:
            if address % WORD_BYTES or not self.guest.is_ram(page, self.size):
                raise ListError(f"a word of the list at {address:#x}, which is no address of RAM")
            self._known[page] = struct.unpack(f"<{self.size // 8}Q", self.guest.read(page, self.size))
        return self._known[page][address % self.size // 8]

    def copy(self, dest: int, source: int, length: int) -> Self:
        return self


@dataclass(frozen=True)
class Word:
    """A word of the list: where it is, the destination when it is executed, the page that it names."""

    at: int
    entry: int
    dest: int
    page: int

    @property
    def copies(self) -> bool:
        """It is a SOURCE."""
        return bool(self.entry & IND_SOURCE)


@dataclass(frozen=True)
class KexecList:
    """A list, in the order of its execution, at physical addresses; the last word is DONE."""

    words: tuple[Word, ...]
    page_size: int

    @property
    def copied(self) -> list[tuple[int, int]]:
        """Destination and source of each page that is copied."""
        return [(word.dest, word.page) for word in self.words if word.copies]

    @property
    def destinations(self) -> set[int]:
        """The pages that are copied to."""
        return {dest for dest, _ in self.copied}

    @property
    def pages(self) -> set[int]:
        """The pages that words of the list are located in, that of kimage->head left out."""
        return {word.at & -self.page_size for word in self.words[1:]}

    @property
    def named(self) -> set[int]:
        """All pages that the routine accesses: of the list, sources and destinations."""
        return self.pages | {page for pair in self.copied for page in pair}


def walk(guest: Guest, head_at: int, head: int, page_size: int) -> KexecList:
    """Execute the list whose head is ``head``, a word at the physical address ``head_at``.

    :raises ListError: if it leaves RAM or has no end.
    """
    machine = ListMachine(head, _UNSET, _UNSET, _Pages(guest, page_size), page_size, 0)
    at, words = head_at, []
    while True:
        words.append(Word(at, machine.entry, machine.dest, machine.addr & _MASK))
        if done(machine.entry):
            return KexecList(tuple(words), page_size)
        if len(words) > _MOST_WORDS:
            raise ListError(f"a list of more than {_MOST_WORDS} words")
        kind = next(kind for kind in Kind if is_kind(machine.entry, kind))
        acted = machine.act(kind)
        at, machine = acted.ptr, acted.fetch()


def check_list(place: Placement, found: KexecList, phys_offset: int, kern_reloc: int, checks: Checks) -> None:
    """Check what the proofs assume of a list, by their own formulas.

    :param phys_offset: of the kimage: what is subtracted from a physical address for the routine's.
    """
    checks.add(
        "list-head",
        "kimage->head has no IND_DONE",
        not done(found.words[0].entry),
        f"{found.words[0].entry:#x}",
    )
    _check_steps(found, phys_offset, checks)
    _check_well_formed(found, checks)
    page = kern_reloc & -found.page_size
    apart = page not in found.named
    checks.add("control-page-apart", "the routine's page against the list's", apart, f"{page:#x}")
    outside = [f"{p:#x}" for p in sorted(found.named) if not place.guest.is_ram(p, found.page_size)]
    checks.add(
        "",
        "every page of the list is RAM",
        not outside,
        ", ".join(outside[:4]) or f"{len(found.named)} pages",
    )


def _check_steps(found: KexecList, phys_offset: int, checks: Checks) -> None:
    """What is assumed of the list machine's state at each word."""
    entry, ptr, dest, offset = (var(name) for name in ("word", "ptr", "dest", "phys_offset"))
    machine = ListMachine(entry, ptr, dest, None, found.page_size, offset)

    def states() -> Iterator[State]:
        for word in found.words[:-1]:
            seen = (word.dest - phys_offset) & _MASK if word.dest != _UNSET else _UNSET
            # The pointer to the next word: behind this one, which for kimage->head says nothing.
            behind = word.at + WORD_BYTES if word is not found.words[0] else _UNSET
            yield _plain({"word": word.entry, "ptr": behind, "dest": seen, "phys_offset": phys_offset})

    for label, formula in list_assumptions(machine, single_flags=True):
        checks.formula(label, "at each word of the list", formula, states())


def _plain(variables: dict[str, int], functions: dict[str, object] | None = None) -> State:
    return State(_nothing, _nothing, variables, functions or {})  # type: ignore[arg-type]


def _nothing(name: object) -> int:
    raise AssertionError(f"no formula of the list speaks of {name}")


def _check_well_formed(found: KexecList, checks: Checks) -> None:
    """W3 to W7: the formulas of specs/kimage.py, for every word, and for every pair that could break one.

    W5, W6 and W7 say of two words i and j that if an address of i is the destination of j, something
    holds. So only pairs with such equal addresses are looked at: of all others they are true.
    """
    words = found.words
    named: dict[str, Callable[[int], int]] = {
        "word": lambda i: words[i].entry,
        "ptr": lambda i: words[i].at,
        "dest": lambda i: words[i].dest,
        "source": lambda i: words[i].page,
    }
    word, ptr, dest, source = (Function(name) for name in named)
    spec = WellFormed(word, ptr, dest, source, var("last"), found.page_size)
    i, j = var("i"), var("j")
    at_dest: dict[int, list[int]] = defaultdict(list)
    for index, each in enumerate(words):
        if each.copies:
            at_dest[each.dest].append(index)

    def states(pairs: Iterable[tuple[int, int]]) -> Iterator[State]:
        for one, other in pairs:
            yield _plain({"i": one, "j": other, "last": len(words) - 1}, dict(named))

    def meeting(address: dict[int, int]) -> Iterator[tuple[int, int]]:
        return ((index, other) for index, at in address.items() for other in at_dest.get(at, ()))

    copies = {index: each for index, each in enumerate(words) if each.copies}
    single = [(index, 0) for index in range(len(words))]
    looked: tuple[tuple[str, Term, Iterable[tuple[int, int]]], ...] = (
        ("W3", spec.W3(i), single),
        ("W4", spec.W4(i), single),
        ("W5", spec.W5(i, j), meeting({n: each.dest for n, each in copies.items()})),
        ("W6", spec.W6(i, j), meeting({n: each.page for n, each in copies.items()})),
        ("W7", spec.W7(i, j), meeting({n: w.at & -found.page_size for n, w in enumerate(words) if n})),
    )
    for name, formula, pairs in looked:
        chosen = list(pairs)
        if not chosen:
            checks.add("list-well-formed", name, True, f"no two of {len(words)} words meet")
            continue
        checks.formula("list-well-formed", name, formula, states(chosen))
