"""machine_kexec_post_load's flush of list and source pages (T7): an induction over the list entries.

Ghost functions of an index say what the list is: word(i) is located at ptr(i), and DONE is word ``last``
(specs/linear_list.py). The loop that walks the list is described at its head after ``count`` iterations,
where a register holds ptr(count). That everything is cleaned is proved for one arbitrary index and one
arbitrary address, so there are no quantifiers.
"""

from __future__ import annotations

from dataclasses import dataclass

from kexec_verify.arm64 import cache
from kexec_verify.arm64.state import State
from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import (
    And,
    Formula,
    Function,
    Implies,
    Not,
    Or,
    Term,
    const,
    ule,
    ult,
    var,
    variables,
    within,
)
from kexec_verify.memory import WORD_BYTES
from kexec_verify.obligation import Facts
from kexec_verify.specs.address_map import AddressMap
from kexec_verify.specs.kimage import IND_DONE, IND_FLAGS
from kexec_verify.specs.linear_list import LinearList
from kexec_verify.symbolic.explore import ANYWHERE
from kexec_verify.symbolic.objects import LINEAR_MAP, Objects

CLEAN = "earlier words of the list are clean"
HERE = "the word is clean"
REACHED = "no more iterations than list entries"
LIST_WORD, LIST_POINTER = "list word", "list pointer"
"""Names of the ghost functions of a word's index."""
_LAST = "last"
_INDEX = var("word")
"""An arbitrary index of a word: what holds of it holds of every word."""
_POINTERS = tuple(f"x{i}" for i in range(19, 29))
"""Registers that may hold the address of a word: they keep it over the calls that clean."""


@dataclass(frozen=True)
class ListFlush:
    """What is assumed of the list in machine_kexec_post_load, and what must be proved.

    :param head: the value of kimage->head when the function is entered.
    """

    kimage: Term
    head: Term
    addresses: AddressMap
    page_size: int

    @property
    def list(self) -> LinearList:
        """Return the list that the function walks."""
        word, ptr = Function(LIST_WORD), Function(LIST_POINTER)
        return LinearList(word, ptr, var(_LAST), self.kimage, self.addresses, self.page_size)

    def start(self) -> Facts:
        """Return what is assumed of the list at its first word."""
        return (
            ("the list starts at head", self.list.starts(self.head)),
            *self._at(const(0)),
        )

    def assumed(self, state: State, count: Term, ahead: bool = False) -> Facts:
        """What the list is at word ``count``, in a state at a loop's head after that many iterations.

        :param ahead: an iteration reads the word behind that one, too.
        """
        found = self._at(count)
        for register in _POINTERS:
            value = _word(state, register)
            if value is not None:
                here = state.registers[register] == self.list.ptr(count)
                found = (*found, ("list-apart", Implies(here, value == self.list.word(count))))
            behind = _word(state, register, WORD_BYTES) if ahead else None
            if behind is not None:
                next_one = self.list.ptr(count + 1) == state.registers[register] + WORD_BYTES
                found = (*found, ("list-apart", Implies(next_one, behind == self.list.word(count + 1))))
        if ahead:
            behind = _shown(state, self.list.ptr(count + 1))
            found = (*found, ("list-apart", behind == self.list.word(count + 1)), *self._at(count + 1))
        return found

    def _at(self, i: Term) -> Facts:
        """Return what is assumed of the list at word ``i``."""
        listed = self.list
        return (
            ("the list goes on as the list machine does", listed.follows(i)),
            ("list-well-formed", listed.W3(i)),
            ("list-in-memory", Implies(ule(i, listed.last), listed.in_memory(i))),
        )

    def candidates(
        self, state: State, count: Term, unknown: frozenset[str], live: frozenset[str] = frozenset()
    ) -> Facts:
        """What may hold at a loop's head after ``count`` iterations: the words before are clean.

        :param unknown: registers of which nothing is known there; one of them may point at the word.
        :param live: those of them that may hold the word itself or its flags.
        """
        listed = self.list
        found: Facts = tuple(
            (_points(register), state.registers[register] == listed.ptr(count))
            for register in _POINTERS
            if register in unknown
        )
        if not found:
            return ()
        for register in sorted(live):
            value = state.registers[register]
            found = (
                *found,
                (f"{register} is the word", value == listed.word(count)),
                (f"{register} is the flags of the word", value == listed.word(count) & IND_FLAGS),
            )
        if live:
            this = And(count != 0, listed.ptr(count) == ANYWHERE)
            goes_on = (listed.word(count) & IND_FLAGS) != IND_DONE
            found = (
                *found,
                (HERE, Implies(this, state.lines.read(ANYWHERE) == cache.CLEAN)),
                ("the word is not DONE", goes_on),
            )
        asked = And(ult(_INDEX, count), listed.is_input(_INDEX, ANYWHERE))
        return (
            *found,
            (REACHED, ule(count, listed.last)),
            (CLEAN, Implies(asked, state.lines.read(ANYWHERE) == cache.CLEAN)),
        )

    def cases(self, counts: tuple[Term, ...]) -> tuple[Facts, ...]:
        """Return two cases, which spare the solvers a search: the last iteration's word, or another."""
        here: tuple[Facts, ...] = tuple(
            (("the list entry is that of the last iteration", count == _INDEX),) for count in counts
        )
        others = tuple(
            ("the list entry is not that of the last iteration", count != _INDEX) for count in counts
        )
        return (*here, others)

    def asked(self, frame: Formula, page: Term | None) -> Facts:
        """The address is one that the routine reads of the list, and nothing was stored to it.

        :param frame: the address is in the stack frame or in struct kimage.
        :param page: the control page, if anything was copied there.
        """
        copied = () if page is None else (within(ANYWHERE, page, self.page_size),)
        return (
            ("the word is one of the list or of a source page", self.list.is_input(_INDEX, ANYWHERE)),
            ("list-in-memory", self.addresses.in_linear_map(ANYWHERE)),
            ("list-apart", Not(Or(frame, *copied))),
        )


def follows_list(kept: frozenset[str]) -> bool:
    """The loop with these invariants walks the list word by word, up to the last."""
    return REACHED in kept and any(_points(register) in kept for register in _POINTERS)


def speaks_of_list(*formulas: Formula) -> bool:
    """Return whether one of the formulas mentions a word of the list by its index."""
    ghosts = (f"{LIST_WORD}@", f"{LIST_POINTER}@")
    return any(name == _LAST or name.startswith(ghosts) for name in variables(formulas))


def _points(register: str) -> str:
    return f"{register} is the address of the word"


def _word(state: State, register: str, offset: int = 0) -> Term | None:
    """The word at the address in ``register``, if that is one of an object of which anything may be read."""
    memory = state.memory
    assert isinstance(memory, Objects)
    try:
        item, _ = memory.find(state.registers[register])
        if not item.name.startswith("what "):
            return None
        return memory.load(state.registers[register] + offset, WORD_BYTES)
    except UnsupportedError:
        return None


def _shown(state: State, address: Term) -> Term:
    """The word at an address that the code has computed from a physical one."""
    memory = state.memory
    assert isinstance(memory, Objects)
    return memory.word(LINEAR_MAP, address)
