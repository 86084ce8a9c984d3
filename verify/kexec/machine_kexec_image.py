"""What machine_kexec does to image and routine before 5.12: it flushes, copies and hands over (T7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from kexec_verify.arm64 import cache
from kexec_verify.arm64.state import Access, State
from kexec_verify.kexec.calls import CONTROL_PAGE, objects
from kexec_verify.kexec.context import FRAME_BYTES, KexecContext
from kexec_verify.kexec.image_flush import ImageFlush
from kexec_verify.kexec.locate import Function
from kexec_verify.kexec.prepared import Preparation
from kexec_verify.logic import (
    FALSE,
    TRUE,
    And,
    Implies,
    Not,
    Or,
    Term,
    aligned,
    normal,
    same,
    within,
)
from kexec_verify.obligation import Facts, Obligation
from kexec_verify.specs.address_map import T0SZ_MASK, AddressMap, first_struct_pages
from kexec_verify.specs.machine_kexec import Fields
from kexec_verify.symbolic.explore import ANYWHERE, Decide
from kexec_verify.symbolic.objects import LINEAR_MAP

_VABITS = "vabits_actual"


@dataclass
class MachineKexecImage:
    """The part of machine_kexec's proof that machine_kexec_post_load's has from 5.12 on.

    What holds of image and routine is asked where the paths join for the last time, and that it stays so
    at each exit.

    :param entry: the state in which machine_kexec is entered, with the kimage at ``kimage``.
    :param routine: the relocation routine, as the kernel has it.
    :param where: names an address of machine_kexec.
    :param ran: is told of each state at the end of a path.
    :param first: address of the struct page of the linear map's first page; versions differ in it, and it
        is the one for which machine_kexec copies to the control page, if one is.
    :param joined: the state where the paths join for the last time, and the place's name.
    """

    context: KexecContext
    map: AddressMap
    entry: State
    kimage: Term
    routine: Function
    decide: Decide
    where: Callable[[int], str]
    ran: Callable[[State], None]
    joined: tuple[State, str] | None = None
    copied: list[tuple[int, int]] = field(default_factory=list)
    first: int | None = None

    def __post_init__(self) -> None:
        self.flush = ImageFlush(
            self.context,
            self.map,
            self.entry,
            self.kimage,
            False,
            self.decide,
            self.where,
            self.ran,
            ("mk", "pl"),
        )
        self.preparation = Preparation(
            self.context,
            self.map,
            self.entry,
            self.kimage,
            self.routine,
            False,
            self.flush.require,
            self.physical,
        )
        self.crash = self.kimage == self.context.word(self.entry, "kexec_crash_image")

    @property
    def obligations(self) -> list[Obligation]:
        """Every obligation on image, routine and loops."""
        return [*self.flush.obligations, *self.preparation.obligations]

    def assumptions(self) -> Facts:
        """Facts about the image and the address map when machine_kexec is entered."""
        facts: Facts = (
            ("kimage-in-linear-map", self.map.in_linear_map(self.kimage)),
            ("memstart-aligned", aligned(self.map.memstart_addr, self.context.page_size)),
            *self.flush.assumptions(),
        )
        if _VABITS in self.context.globals:
            bits, tcr = self.context.word(self.entry, _VABITS), self.entry.registers["tcr_el1"]
            known = Or(*(bits == possible for possible in self.map.address_bits))
            facts = (*facts, ("vabits-actual", And(known, (tcr & T0SZ_MASK) == 64 - bits)))
        return facts

    def require_at(self, where: str, arrivals: Sequence[State], joined: State) -> None:
        """Add the obligations on image and routine where paths join, in each state that arrives there."""
        for state in arrivals:
            self._require(state, where)
        self.joined = joined, where

    def _require(self, state: State, where: str) -> None:
        page = self._page(state)
        self.preparation.require_return(state, where, ())
        self.flush.require_list(state, where, page)
        in_place = ("head has IND_DONE", self.flush.in_place)
        # The segments of a crash image are flushed when it is loaded, and not accessed since.
        was_clean = self.entry.lines.read(ANYWHERE) == cache.CLEAN
        flushed = ("crash-image-flushed", Implies(self.crash, was_clean))
        self.flush.require_segments(state, where, page, in_place, flushed)

    def require_exit(self, state: State, where: str) -> None:
        """Add the obligations on image and routine where machine_kexec leaves the kernel."""
        if self.joined is None:
            self._require(state, where)
            return
        before, there = self.joined
        page, in_place = self._page(before), ("head has IND_DONE", self.flush.in_place)
        frame = within(ANYWHERE, self.entry.sp - FRAME_BYTES, FRAME_BYTES)
        own: Facts = (("objects-apart", Not(frame)),)
        was, now = before.lines.read(ANYWHERE), state.lines.read(ANYWHERE)
        clean = Implies(was == cache.CLEAN, now == cache.CLEAN)
        for what, of in (
            ("the copied code", own),
            ("a segment of an image in place", (in_place, *self.flush.of_segment(page))),
            ("the list and its source pages", self.flush.of_list(page)),
        ):
            sentence = f"at {where} every word of {what} is clean that was clean at {there}"
            self.flush.require("kept", sentence, state, clean, *of)
        had, has = before.fetch.read(ANYWHERE), state.fetch.read(ANYWHERE)
        fresh = Implies(had == cache.FETCHABLE, has == cache.FETCHABLE)
        sentence = f"at {where} every word of the copied code can be fetched that could be at {there}"
        self.flush.require("kept", sentence, state, fresh, *own)
        kept = self._holds_the_same(before, state)
        sentence = f"at {where} the control page holds what it held at {there}"
        self.flush.require("kept", sentence, state, TRUE if kept else FALSE)

    def listed(self, access: Access) -> list[Obligation]:
        """Return the obligation on an access through the linear map: it is a load of the next list entry."""
        item, _ = objects(access.before).find(access.address)
        if item.name != LINEAR_MAP:
            return []
        facts = access.before.facts[: access.known]
        known = self.flush.flush
        counts = self.flush.counts(access.before) if known is not None else ()
        goal = Or(*(access.address == known.list.ptr(normal(count + 1)) for count in counts if known))
        sentence = f"the {access.kind} at {self.where(access.at)} is at the address of the next list entry"
        return [Obligation("mk-access", sentence, facts, goal, access.at)]

    @staticmethod
    def _holds_the_same(before: State, after: State) -> bool:
        contents = [
            objects(state).stored_in(CONTROL_PAGE)
            for state in (before, after)
            if any(item.name == CONTROL_PAGE for item in objects(state).objects)
        ]
        if len(contents) < 2 or contents[0].keys() != contents[1].keys():
            return False
        return all(same(byte, contents[1][at]) for at, byte in contents[0].items())

    def fields(self, fields: Fields, state: State) -> Fields:
        """The fields of struct kimage, with the physical address of the control page for kern_reloc."""
        page = self._page(state)
        return fields if page is None else replace(fields, kern_reloc=self.physical(page))

    def physical(self, page: Term) -> Term:
        """Physical address of kimage->control_code_page, where the routine was copied to ``page``."""
        size = self.context.page_size
        word = self.context.field(self.entry, self.kimage, self.context.layout.control_code_page)
        possible = first_struct_pages(self.map.page_offset, size, early=True)
        if self.first is None:
            known: Facts = (("memstart-aligned", aligned(self.map.memstart_addr, size)),)
            found = (
                first
                for first in possible
                if self.decide(
                    known, page == self.map.phys_to_linear(self.map.page_to_phys(word, size, first))
                )
            )
            self.first = next(found, possible[-1])
        return self.map.page_to_phys(word, size, self.first)

    @staticmethod
    def _page(state: State) -> Term | None:
        return next((item.base for item in objects(state).objects if item.name == CONTROL_PAGE), None)

    def require_routine(self, copied: list[tuple[int, int, tuple[int, ...]]]) -> None:
        """Add the obligations on the bytes that are copied."""
        self.copied = sorted({(start, length) for start, length, _ in copied})
        self.preparation.require_routine(copied)
