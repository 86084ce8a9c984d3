"""Recognise the ABI variant of the relocation routine from its bytes.

Roles are inferred from one symbolic iteration: which load yields the next word, which address
feeds that load, which pointer feeds the stores. A wrong reading proves nothing: every
use of a role is an obligation.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from kexec_verify.arm64.cache import Lines
from kexec_verify.arm64.execute import Step
from kexec_verify.arm64.lift import Code, control_flow, loops, system_register
from kexec_verify.arm64.state import State, unknown_ghosts, unknown_registers
from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import offset_from, same, var
from kexec_verify.memory import Unknown
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.symbolic.explore import Explorer
from kexec_verify.symbolic.loops import generic_state

PAGE_SIZES = (4096, 16384, 65536)
ENTRY_MEMORY = "M0"
_WORD_BYTES = 8


@dataclass(frozen=True)
class AbiVariant:
    """The ABI variant of one relocation routine: where its arguments are and what its registers hold.

    :param kimage: its argument is a pointer to struct kimage, and the MMU is on; else head,
        start and dtb are in registers, and the MMU is off.
    :param loop: address of the head of the loop over the list.
    :param exits: addresses that control reaches when that loop is left.
    :param entry: register of the current word; ``ptr``: of the next word's address;
        ``dest``: of the next destination page.
    :param page_size: bytes.
    :param layout: of struct kimage; ``layout_from`` says who states it, BTF or the code.
    :param tests_head: the routine skips that loop by a test of its own, for a head with IND_DONE.
    :param folds_ttbr: whether the kernel folds physical addresses for a TTBR (address_map.is_table).
    :param offsets_ttbr1: the kernel has 64 KiB pages and 52-bit virtual addresses, so that TTBR1 has an
        offset on a CPU with 48 (address_map.ttbr1_offset). Of a routine alone, it looks at TCR_EL1 itself.
    :param unclear: why the registers' roles could not be read off; empty where they could. Such a
        routine can be run and refuted, not proved.
    """

    kimage: bool
    loop: int
    exits: frozenset[int]
    entry: str
    ptr: str
    dest: str
    page_size: int
    layout: KimageLayout | None
    layout_from: str = ""
    tests_head: bool = False
    unclear: str = ""
    folds_ttbr: bool | None = None
    offsets_ttbr1: bool = False

    @property
    def name(self) -> str:
        """Return the variant's name."""
        return "kimage" if self.kimage else "registers"


def entry_state() -> State:
    """Return the state at the routine's first instruction, in which everything is unknown."""
    return State(unknown_registers("entry"), unknown_ghosts("entry"), Unknown(ENTRY_MEMORY), Lines("L0"))


def recognise(code: Code, page_size: int | None = None, layout: KimageLayout | None = None) -> AbiVariant:
    """Return the ABI variant of the routine in ``code``.

    :param page_size: bytes, where the image's header says so; else it is read off the code.
    :param layout: of struct kimage, where the kernel states it; else it is read off the code.
    :raises UnsupportedError: if the code is no relocation routine of a known variant.
    """
    found = loops(code)
    if not found:
        raise UnsupportedError("routine without a loop over the list", code.address)
    outer = found[0]
    graph = control_flow(code)
    exits = frozenset(t for node in outer.body for t in graph.successors(node) if t not in outer.body)
    stops = frozenset({outer.head, *exits})
    before = Explorer(code, stops).run(entry_state(), code.address)
    offsets = _kimage_loads(before)
    fields = (layout or _layout(offsets, outer.head)) if offsets else None
    entry = ptr = dest = unclear = ""
    try:
        entry, ptr, dest = _roles(code, stops, outer.head)
    except UnsupportedError as error:
        unclear = str(error)
    return AbiVariant(
        kimage=bool(offsets),
        loop=outer.head,
        exits=exits,
        entry=entry,
        ptr=ptr,
        dest=dest,
        page_size=page_size or _page_size(code),
        layout=fields,
        layout_from="" if fields is None else "BTF" if layout else "the code",
        tests_head=any(step.then in exits for step in before),
        unclear=unclear,
        offsets_ttbr1=(page_size or _page_size(code)) == PAGE_SIZES[-1] and _reads(code, "tcr_el1"),
    )


def _roles(code: Code, stops: frozenset[int], head: int) -> tuple[str, str, str]:
    """Return the registers of the current word, of the next word's address, and of the destination."""
    explorer = Explorer(code, stops)
    iterations = [step for step in explorer.run(generic_state(), head) if step.then == head]
    return *_list_registers(iterations, head), _destination_register(explorer, head)


def _list_registers(iterations: list[Step], head: int) -> tuple[str, str]:
    """Return the registers of the current word and of the next word's address."""
    votes: Counter[tuple[str, str]] = Counter()
    for step in iterations:
        state = step.state
        loads = [access for access in state.accesses if access.kind == "load"]
        if not loads:
            continue
        last = loads[-1]
        entries = [name for name, value in state.registers.items() if same(value, last.value)]
        for ptr, value in state.registers.items():
            if value.length != 64:
                continue
            advance = offset_from(value, last.address)
            if advance is not None and advance:
                votes.update((entry, ptr) for entry in entries)
    if not votes:
        raise UnsupportedError("loop that does not read the list", head)
    return min(votes, key=lambda pair: (-votes[pair], pair))


def _destination_register(explorer: Explorer, head: int) -> str:
    """Return the register that holds the destination when the copy loop is entered."""
    votes: Counter[str] = Counter()
    for loop in explorer.entered:
        if loop.shape.copied:
            address = loop.shape.copied[0].address(loop.entry)
            for name, value in generic_state().registers.items():
                if value.length == 64 and offset_from(address, value) is not None:
                    votes[name] += 1
    if not votes:
        raise UnsupportedError("routine without a loop that copies a page", head)
    return min(votes, key=lambda name: (-votes[name], name))


def _kimage_loads(before: list[Step]) -> set[int]:
    """Return the offsets from x0 that are loaded before the loop: none if the arguments are in registers."""
    offsets = (
        offset_from(access.address, var("x0@entry"))
        for step in before
        for access in step.state.accesses
        if access.kind == "load"
    )
    return {offset for offset in offsets if offset is not None}


def _layout(offsets: set[int], head: int) -> KimageLayout:
    """Return the layout in which most of the loads are fields: struct kimage_arch is contiguous."""

    def hits(arch: int) -> int:
        layout = KimageLayout(arch)
        fields = {layout.dtb_mem, layout.el2_vectors, layout.ttbr1, layout.zero_page, layout.phys_offset}
        return len(fields & offsets)

    candidates = {offset - 8 * index for offset in offsets for index in range(8)}
    best = max(sorted(candidates), key=hits, default=None)
    if best is None or hits(best) < 3:
        raise UnsupportedError(f"struct kimage of an unknown layout (loads at {sorted(offsets)})", head)
    return KimageLayout(best)


def _reads(code: Code, register: str) -> bool:
    """Return whether an instruction of the code reads the system register."""
    operands = (v for at in code.addresses for o in code.at(at).operations for v in o.inputs)
    return any(system_register(operand) == register for operand in operands)


def _page_size(code: Code) -> int:
    """Return the page size in bytes that most immediates of the code fit."""
    votes: Counter[int] = Counter()
    mask = (1 << 64) - 1
    for address in code.addresses:
        for operation in code.at(address).operations:
            for operand in operation.inputs:
                if operand.space.name == "const" and operand.size == _WORD_BYTES:
                    for size in PAGE_SIZES:
                        if operand.offset in (size, size - 1, ~(size - 1) & mask):
                            votes[size] += 1
    if not votes:
        raise UnsupportedError("routine without a constant that is a page size", code.address)
    return max(PAGE_SIZES, key=lambda size: votes[size])
