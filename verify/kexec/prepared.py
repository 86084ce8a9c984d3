"""Require what machine_kexec_post_load prepares for the routine: the control page and the kimage's fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kexec_verify.arm64 import cache
from kexec_verify.arm64.lift import Code
from kexec_verify.arm64.state import Event, State
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.calls import CONTROL_PAGE, filled, objects
from kexec_verify.kexec.context import FRAME_BYTES, KexecContext
from kexec_verify.kexec.locate import Function
from kexec_verify.kexec.soft_restart import position_independence
from kexec_verify.logic import (
    FALSE,
    TRUE,
    And,
    Not,
    Term,
    aligned,
    const,
    constant,
    normal,
    ule,
    ult,
    within,
)
from kexec_verify.obligation import Facts, Obligation
from kexec_verify.specs.address_map import AddressMap
from kexec_verify.specs.contracts import PAGE_TAKERS
from kexec_verify.specs.kimage import KEXEC_CONTROL_PAGE_SIZE
from kexec_verify.specs.machine_kexec_post_load import Prepared, is_linear_map
from kexec_verify.symbolic.explore import ANYWHERE

_PREPARED = ("kern_reloc", "ttbr1", "zero_page", "phys_offset")


@dataclass
class Preparation:
    """The part of the proof that is about an image that must be relocated.

    :param entry: the state in which machine_kexec_post_load is entered, with the kimage at ``kimage``.
    :param routine: the relocation routine, as the kernel has it.
    :param mmu_on: the routine runs with the MMU on, on page tables that are built here.
    :param physical: of kimage->control_code_page, where machine_kexec copies the routine and hands that
        address over itself (before 5.12).
    :param require: adds an obligation: name, sentence, state, goal, and further hypotheses.
    """

    context: KexecContext
    map: AddressMap
    entry: State
    kimage: Term
    routine: Function
    mmu_on: bool
    require: Callable[..., None]
    physical: Callable[[Term], Term] | None = None
    obligations: list[Obligation] = field(default_factory=list)

    def require_return(self, state: State, where: str, further: Facts) -> None:
        """Require what must hold when machine_kexec_post_load returns 0, under ``further`` facts."""
        memory = objects(state)
        page = next((item for item in memory.objects if item.name == CONTROL_PAGE), None)
        if page is None or page.base is None:
            self.require("copied", f"before {where} the routine was copied", state, FALSE, *further)
            return
        linear = (
            "control-page-linear",
            And(self.map.in_linear_map(page.base), ule(page.base, const(-(1 << 20)))),
        )
        facts = (*further, linear)
        address = normal(page.base)
        frame = within(ANYWHERE, self.entry.sp - FRAME_BYTES, FRAME_BYTES)
        apart = ("objects-apart", Not(frame))
        of_page = aligned(address, self.context.page_size)
        self.require(
            "copied",
            f"at {where} the control page's address is page-aligned in the linear map",
            state,
            of_page,
            *facts,
        )
        word = self.context.field(self.entry, self.kimage, self.context.layout.control_code_page)
        sentence = f"at {where} the page that was copied to is kimage->control_code_page"
        is_page = self.map.is_page(address, word, self.context.page_size)
        if self.physical is not None:
            is_page = address == self.map.phys_to_linear(self.physical(address))
        self.require("copied", sentence, state, is_page, *facts)
        fields = [
            self.context.field(state, self.kimage, getattr(self.context.layout, name)) for name in _PREPARED
        ]
        prepared = Prepared(*fields)
        if self.physical is None:
            sentence = f"at {where} kern_reloc is the physical address of the control page"
            self.require("kern-reloc", sentence, state, prepared.points_at(self.map, address), *facts)
        size = const(max(memory.stored_in(CONTROL_PAGE), default=0) + 1)
        word = (
            "the word is one of the copied code",
            And(ule(address, ANYWHERE), ult(ANYWHERE, address + size)),
        )
        # A fetch state is one of three: the fourth value of its two bits means nothing at entry.
        clean = state.lines.read(ANYWHERE) == cache.CLEAN
        sentence = f"at {where} the copied code is clean to the point of coherency"
        self.require("code-clean", sentence, state, clean, *facts, word, apart)
        fresh = state.fetch.read(ANYWHERE) == cache.FETCHABLE
        sentence = (
            f"at {where} no instruction-cache line holds stale instructions in place of the copied code"
        )
        settled = ("nothing-lost", self.entry.fetch.read(ANYWHERE) != cache.LOST)
        self.require("code-fetchable", sentence, state, fresh, *facts, word, apart, settled)
        if self.mmu_on:
            self._require_tables(state, where, prepared, facts)

    def _require_tables(self, state: State, where: str, prepared: Prepared, facts: Facts) -> None:
        built = [e for e in state.events if e.name == "call trans_pgd_create_copy"]
        zero = self.context.globals.addresses.get("empty_zero_page")
        if zero is None:
            raise UnsupportedError("kernel whose empty_zero_page was not found")
        if len(built) != 1:
            self.require("tables", f"at {where} the routine's tables are ready", state, FALSE, *facts)
            return
        table = filled(built[0])
        mapped = ("tables-in-memory", self.map.in_linear_map(table))
        goal = prepared.maps(self.map, table, zero, self.kimage)
        sentence = f"at {where} ttbr1, zero_page and phys_offset are set for the routine's tables"
        self.require("tables", sentence, state, goal, *facts, mapped)
        for call in state.events:
            if call.name.startswith("call trans_pgd_"):
                self._require_allocator(state, where, call)
        given = built[0].before.registers
        copied = is_linear_map(self.map, given["x2"], given["x3"], self.entry.registers["tcr_el1"])
        sentence = f"at {where} the routine's tables are a copy of the whole linear map"
        self.require("tables", sentence, state, copied, *facts)
        page = next(item.base for item in objects(state).objects if item.name == CONTROL_PAGE)
        idmap = [e for e in state.events if e.name == "call trans_pgd_idmap_page"]
        x = idmap[0].before.registers if len(idmap) == 1 else None
        layout = self.context.layout
        ttbr0, t0sz = (self.context.field(state, self.kimage, at) for at in (layout.ttbr0, layout.t0sz))
        places = (
            And(x["x3"] == page, ttbr0 == filled(idmap[0]), t0sz == filled(idmap[0], 1))
            if x is not None
            else FALSE
        )
        sentence = f"at {where} ttbr0 and t0sz select a table that maps the control page to itself"
        self.require("tables", sentence, state, places, *facts)
        stub = self.context.stub_below(self.entry)
        vectors = [e for e in state.events if e.name == "call trans_pgd_copy_el2_vectors"]
        el2 = self.context.field(state, self.kimage, layout.el2_vectors)
        goal = And(stub, el2 == filled(vectors[0])) if vectors else And(Not(stub), el2 == 0)
        sentence = f"at {where} el2_vectors is the copied vectors if the hyp stub is installed, else 0"
        was = self.context.field(self.entry, self.kimage, layout.el2_vectors)
        self.require("tables", sentence, state, goal, *facts, ("kimage-zeroed", was == 0))

    def _require_allocator(self, state: State, where: str, call: Event) -> None:
        """Require that page tables are built from the kimage's pages: struct trans_pgd_info
        (asm/trans_pgd.h).
        """
        memory, info = objects(call.before), call.before.registers["x0"]
        taken, of = constant(memory.load(info, 8)), memory.load(info + 8, 8)
        names = [] if taken is None else self.context.kernel.symbols_at(taken)
        goal = of == self.kimage if any(name in PAGE_TAKERS for name in names) else FALSE
        sentence = (
            f"before {where} {call.name.removeprefix('call ')} is called with kexec_page_alloc and the kimage"
        )
        self.require("tables", sentence, state, goal)

    def require_routine(self, copied: list[tuple[int, int, tuple[int, ...]]]) -> None:
        """Require that exactly the routine's bytes are copied, all of them, and that they run at any
        address.
        """
        routine = self.routine
        data = self.context.kernel.read(routine.address, len(routine.code))
        for start, length, path in sorted({(s, n): (s, n, path) for s, n, path in copied}.values()):
            inside = start <= routine.address and routine.end <= start + length
            goal = TRUE if inside else FALSE
            sentence = f"the {length} bytes copied from {start:#x} hold all of {routine.name}"
            self.obligations.append(Obligation("pl-copied", sentence, (), goal, path[-1], path))
            entered = TRUE if start == routine.address else FALSE
            sentence = "the routine's entry is the first of the copied bytes"
            self.obligations.append(Obligation("pl-copied", sentence, (), entered, path[-1], path))
            fits = TRUE if length <= KEXEC_CONTROL_PAGE_SIZE else FALSE
            sentence = f"the copy of {length} bytes fits KEXEC_CONTROL_PAGE_SIZE"
            self.obligations.append(Obligation("pl-fits", sentence, (), fits, path[-1], path))
        code = Code(routine.name, routine.address, data)
        self.obligations += position_independence("pl", code)
