"""The indirection list as machine_kexec_post_load sees it: in the linear map, from kimage->head on.

Sources: arch/arm64/kernel/machine_kexec.c (kexec_list_flush), include/linux/kexec.h, and
the list machine of specs/relocate_kernel.py, in the order in which the routine reads the list.
"""

from __future__ import annotations

from dataclasses import dataclass

from kexec_verify.logic import And, Formula, Implies, Not, Or, Term, const, ule, ult, within
from kexec_verify.specs.address_map import AddressMap
from kexec_verify.specs.kimage import IND_SOURCE, Sequence, has
from kexec_verify.specs.relocate_kernel import WORD_BYTES, Kind, ListMachine, done, is_kind


@dataclass(frozen=True)
class LinearList:
    """Word ``word(i)`` is located at ``ptr(i)``, an address of the linear map; DONE is word ``last``.

    :param head: address of kimage->head, which is word 0.
    """

    word: Sequence
    ptr: Sequence
    last: Term
    head: Term
    addresses: AddressMap
    page_size: int

    def _machine(self, i: Term) -> ListMachine:
        """The list machine before it executes word ``i``; it sees pages in the linear map."""
        offset = self.addresses.linear_to_phys(const(0))
        behind = self.ptr(i) + WORD_BYTES
        return ListMachine(self.word(i), behind, const(0), None, self.page_size, offset)

    def source(self, i: Term) -> Term:
        """Return the linear map's address of the page that word ``i`` names."""
        return self._machine(i).addr

    def starts(self, head: Term) -> Formula:
        """Word 0 is kimage->head, whose value is ``head``."""
        return And(self.ptr(const(0)) == self.head, self.word(const(0)) == head)

    def follows(self, i: Term) -> Formula:
        """Word ``i + 1`` is located where the list machine reads after word ``i``."""
        kinds = (Kind.INDIRECTION, Kind.DESTINATION, Kind.SKIP)
        moved = [(is_kind(self.word(i), kind), self._machine(i).act(kind).ptr) for kind in kinds]
        moved.append((is_kind(self.word(i), Kind.SOURCE), self.ptr(i) + WORD_BYTES))
        return And(*(Implies(case, self.ptr(i + 1) == ptr) for case, ptr in moved))

    def W3(self, i: Term) -> Formula:
        """The chain is finite: DONE is the last word and no other."""
        return And(
            Implies(ult(i, self.last), Not(done(self.word(i)))),
            Implies(i == self.last, done(self.word(i))),
        )

    def in_memory(self, i: Term) -> Formula:
        """The page that word ``i`` names is RAM that the linear map covers; DONE names none."""
        return Or(done(self.word(i)), self.addresses.memory(self.word(i) & ~(self.page_size - 1)))

    def is_input(self, i: Term, address: Term) -> Formula:
        """The routine reads the word at ``address`` for word ``i``: it is that word, or in its source page.

        Word 0 is handed over in a register, so the routine does not read it.
        """
        listed = And(i != 0, ule(i, self.last), address == self.ptr(i))
        copied = And(
            ult(i, self.last),
            has(self.word(i), IND_SOURCE),
            within(address, self.source(i), self.page_size),
        )
        return Or(listed, copied)
