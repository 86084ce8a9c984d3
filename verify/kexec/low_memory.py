"""What machine_kexec may read at physical addresses, through TTBR0.

Before it leaves, machine_kexec gives TTBR0 a table that maps a few pages at their physical addresses: the
idmap's text, or the page that the routine was copied to. Code may read there, as a check of kCFI does (clang,
-fsanitize=kcfi): it loads the word before the address that is called.
"""

from __future__ import annotations

from kexec_verify.arm64.lift import SIZE, Code
from kexec_verify.arm64.state import Access
from kexec_verify.kexec.calls import in_object
from kexec_verify.kexec.context import KexecContext
from kexec_verify.logic import And, Formula, Term, const
from kexec_verify.obligation import Obligation
from kexec_verify.specs.address_map import AddressMap
from kexec_verify.symbolic.objects import Object

IDMAP_TEXT = "the idmap's text"
ROUTINE_PAGE = "the routine's page"
LOW = (IDMAP_TEXT, ROUTINE_PAGE)
"""The objects that only TTBR0 maps."""
_LDUR_W, _LDUR_MASK = 0xB840_0000, 0xFFE0_0C00  # LDUR (32-bit; Arm ARM, C6.2.236)
_BRK_CFI, _BRK_MASK = 0xD430_0000, 0xFFFF_801F  # brk #0x8000 to #0x83ff (asm/brk-imm.h: CFI_BRK_IMM_BASE)


def low_objects(context: KexecContext, addresses: AddressMap, kern_reloc: Term) -> tuple[Object, ...]:
    """Return the objects at physical addresses: a page at *kern_reloc*, and the idmap's text.

    The idmap's text is of the image, so its bytes are known. It is left out if its symbols are not known.

    :param kern_reloc: what kimage->arch.kern_reloc holds.
    """
    found = [Object(ROUTINE_PAGE, kern_reloc, 0, context.page_size)]
    known, first, end = context.globals, "__idmap_text_start", "__idmap_text_end"
    if first in known and end in known and known[end] > known[first]:
        size = known[end] - known[first]
        if context.kernel.mapped(known[first], size):
            data = dict(enumerate(context.kernel.read(known[first], size)))
            base = addresses.image_to_phys(known[first])
            found.append(Object(IDMAP_TEXT, base, 0, size, data))
    return tuple(found)


def required_load(code: Code, access: Access, name: str, named: Formula) -> Obligation:
    """Return the obligation that a load at a physical address is at what TTBR0's table maps.

    :param name: of the object that is loaded from, one of ``LOW``.
    :param named: TTBR0 names the table that maps this object.
    """
    kind = "handover" if name == ROUTINE_PAGE else "inplace"
    sentence = f"the load at {code.where(access.at)} stays in {name}, and TTBR0 names a table that maps it"
    ghosts = access.before.ghosts
    in_effect = (ghosts[change] == const(0, 1) for change in ("ttbr0_unsynced", "tcr_unsynced"))
    goal = And(in_object(access), named, *in_effect)
    facts = () if goal.is_true() else access.before.facts[: access.known]
    fault = f"a load at a physical address outside of {name}: no table maps it, so it faults"
    if _checks_type(code, access.at):
        fault = (
            f"kCFI's check of a function's type loads the word before {name}: no table maps it, so it "
            "faults; a function with __nocfi has no such check"
        )
    return Obligation(f"mk-{kind}-mapped", sentence, facts, goal, access.at, fault=fault, subject=access)


def _checks_type(code: Code, at: int) -> bool:
    """The load at ``at`` begins a check of kCFI: ``ldur wN, [xM, #-4]`` and, soon after, its brk."""
    if code.at(at).word & _LDUR_MASK != _LDUR_W:
        return False
    words = (code.at(near).word for near in range(at + SIZE, at + 7 * SIZE, SIZE) if near in code)
    return any(word & _BRK_MASK == _BRK_CFI for word in words)
