"""Which effects each function of kexec may have.

An effect is a write of a system register, a call of EL2, maintenance of a cache or of the TLB, an
access with EL0's permissions, or any other system instruction. Barriers and hints are free. What no
rule of its function allows is a proof obligation that fails, at the instruction.

An effect is called ``msr REGISTER`` for a write of a system register, DAIF included, and else as
SLEIGH calls it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kexec_verify.logic import TRUE, And, Formula, Or, Term, within
from kexec_verify.specs.address_map import T0SZ_MASK
from kexec_verify.specs.boot_protocol import DAIF_MASK, mmu_off, soft_restart_call
from kexec_verify.specs.cpu_soft_restart import asks_stub
from kexec_verify.specs.kvm_vectors import returns_to_el2

type Registers = dict[str, Term]
"""General and system registers by name."""

type Holds = Callable[[Registers, Registers, tuple[Term, ...]], Formula]
"""Of the registers at the function's entry, those just before the effect, and its operands."""


@dataclass(frozen=True)
class Rule:
    """One effect that a function may have, and when."""

    effect: str
    sentence: str
    holds: Holds


type Rules = tuple[Rule, ...]


def _always(entry: Registers, x: Registers, operands: tuple[Term, ...]) -> Formula:
    return TRUE


FLUSHES_TLB = Rule("TLBI_VMALLE1", "invalidates this CPU's TLB", _always)
FLUSHES_ICACHE = Rule("IC_IALLU", "invalidates the instruction caches", _always)
MASKS = Rule(
    "msr daif",
    "masks interrupts and unmasks none",
    lambda entry, x, v: (v[0] & x["daif"] & DAIF_MASK) == (x["daif"] & DAIF_MASK),
)
CHANGES_T0SZ = Rule(
    "msr tcr_el1",
    "changes TCR_EL1.T0SZ and no other field",
    lambda entry, x, v: (v[0] & ~T0SZ_MASK) == (x["tcr_el1"] & ~T0SZ_MASK),
)


def selects_table(is_one: Callable[[Term], Formula]) -> Rule:
    """TTBR0 is set to a table that ``is_one`` accepts."""
    return Rule("msr ttbr0_el1", "selects one of the tables that it may", lambda entry, x, v: is_one(v[0]))


def machine_kexec(is_table: Callable[[Term], Formula]) -> Rules:
    """machine_kexec masks interrupts and installs the table that the next code runs on.

    :param is_table: whether a value of TTBR0 names reserved_pg_dir, the idmap or the kimage's own table.
    """
    return (MASKS, selects_table(is_table), CHANGES_T0SZ, FLUSHES_TLB, FLUSHES_ICACHE)


MACHINE_KEXEC_POST_LOAD: Rules = ()
"""machine_kexec_post_load writes memory alone; maintenance is its callees'."""


def cpu_soft_restart(is_off: Callable[[Term], Formula]) -> Rules:
    """The restart code turns the MMU off and may call EL2 to continue.

    :param is_off: whether a value is that of SCTLR_EL1 with the MMU off.
    """
    return (
        Rule("msr sctlr_el1", "turns the MMU off", lambda entry, x, v: is_off(v[0])),
        Rule("CallHyperVisor", "asks for HVC_SOFT_RESTART", lambda entry, x, v: asks_stub(entry, x)),
    )


HYP_STUB_SOFT_RESTART: Rules = ()
HYP_STUB_SET_VECTORS: Rules = (
    Rule("msr vbar_el2", "sets VBAR_EL2 to x1", lambda entry, x, v: v[0] == entry["x1"]),
)


KVM_HOST_VECTOR: Rules = ()
KVM_STUB_HANDLER: Rules = (
    Rule("msr elr_el2", "sets the address of the entry", lambda entry, x, v: v[0] == entry["x1"]),
    Rule(
        "msr spsr_el2", "sets PSTATE to EL2h, masked", lambda entry, x, v: returns_to_el2({"spsr_el2": v[0]})
    ),
    Rule("msr sctlr_el2", "turns EL2's MMU off", lambda entry, x, v: mmu_off(v[0])),
    Rule("msr vbar_el2", "installs the stub's vectors", _always),
)


def relocate_with_mmu_on(
    is_table: Callable[[Term], Formula], is_off: Callable[[Term], Formula], start: Term, dtb: Term
) -> Rules:
    """The routine of ABI variant ``kimage`` changes TTBR1, and turns the MMU off at its end.

    :param is_table: whether a value of TTBR1 names the zero page or the kimage's copy of the linear map.
    :param is_off: whether a value is that of SCTLR_EL1 with the MMU off.
    """
    return (
        Rule("msr ttbr1_el1", "selects the zero page or the kimage's table", lambda _, x, v: is_table(v[0])),
        Rule("msr sctlr_el1", "turns the MMU off", lambda _, x, v: is_off(v[0])),
        Rule(
            "CallHyperVisor",
            "asks for HVC_SOFT_RESTART of start and dtb",
            lambda _, x, v: soft_restart_call(x, start, dtb),
        ),
        FLUSHES_TLB,
        FLUSHES_ICACHE,
    )


RELOCATE_WITH_MMU_OFF: Rules = (FLUSHES_ICACHE,)
"""The routine that takes its arguments in registers runs with the MMU off and leaves it so."""


def copies_page(source: Formula, dest: Term, addr: Term, page_size: int, mmu_on: bool) -> Rules:
    """What an iteration of the routine's loop may maintain: lines of the two pages of a SOURCE word.

    With the MMU on a line is cleaned; with it off no cache holds newer data, so a line of the
    destination may be invalidated before it is written.
    """

    def of_pages(entry: Registers, x: Registers, v: tuple[Term, ...]) -> Formula:
        return And(source, Or(within(v[0], dest, page_size), within(v[0], addr, page_size)))

    cleaned = "cleans a line of the source page or of the destination page"
    cleans = (Rule("DC_CIVAC", cleaned, of_pages), Rule("DC_CVAC", cleaned, of_pages))
    if mmu_on:
        return cleans
    # That only lines of the destination are invalidated is an obligation on lines: reloc-clean-to-poc-inval.
    return (*cleans, Rule("DC_IVAC", "invalidates a line of the destination page", of_pages))


def maintains(*effects: str) -> Rules:
    """A callee's maintenance by address; that it stays in its range is an obligation of its own."""
    return tuple(Rule(effect, "maintains lines of its range", _always) for effect in effects)
