"""Place a run's objects in memory, and name the words in them as the kernel does."""

from __future__ import annotations

from kexec_verify.arm64.state import State
from kexec_verify.kexec.context import FRAME_BYTES, SHADOW_CALL_BYTES, KexecContext
from kexec_verify.kexec.low_memory import LOW
from kexec_verify.logic import And, Formula, Term, aligned, const, within
from kexec_verify.specs.kimage import SEGMENT_BYTES
from kexec_verify.symbolic.objects import SHADOW_CALL_STACK, STACK_FRAME, Objects

MM_STRUCT = "mm_struct"
# Offsets in the linear map, far enough apart for every object.
_OFFSETS = {
    "kimage": 0x10_0000,
    STACK_FRAME: 0x20_8000,
    "the task": 0x30_0000,
    "the control page": 0x50_0000,
    MM_STRUCT: 0x60_0000,
    SHADOW_CALL_STACK: 0x70_0000,
}
_LIST, _LIST_BYTES = 0x40_0000, 0x1_0000
_LOW, _LOW_BYTES = 0x4000_0000, 0x4000_0000  # physical addresses
CLEAR_OF_OBJECTS = 0x100_0000
"""Offset in the linear map that no object reaches."""
_FIELDS = ("head", "start", "control_code_page", "nr_segments")
_ARCH_FIELDS = (
    "dtb_mem",
    "kern_reloc",
    "el2_vectors",
    "ttbr0",
    "ttbr1",
    "zero_page",
    "phys_offset",
    "t0sz",
)
_SEGMENT_FIELDS = ("buf", "bufsz", "mem", "memsz")


def base(context: KexecContext, name: str) -> int:
    """Return the first address of an object; for the stack frame SP at entry."""
    return context.page_offset + _OFFSETS[name]


def placed(context: KexecContext, start: State) -> dict[str, Term]:
    """Return the values of the pointers to objects, by the variables' names."""
    assert isinstance(start.memory, Objects)
    found = {}
    for item in start.memory.objects:
        if item.name in _OFFSETS and item.base is not None and item.base.op == "BVS":
            found[str(item.base.args[0])] = const(base(context, item.name))
    return found


def region(context: KexecContext, item: str, address: Term) -> Formula:
    """The word at ``address`` belongs to the object called ``item``."""
    sizes = {"kimage": context.layout.size, "the control page": context.page_size}
    size = (sizes | {SHADOW_CALL_STACK: SHADOW_CALL_BYTES}).get(item, _LIST_BYTES)
    if item in LOW:
        return And(aligned(address, 8), within(address, const(_LOW), _LOW_BYTES))
    if item in _OFFSETS:
        start = base(context, item)
        if item == STACK_FRAME:
            start, size = start - FRAME_BYTES, FRAME_BYTES
    else:
        start = context.page_offset + _LIST
    return And(aligned(address, 8), within(address, const(start), size))


def word_name(context: KexecContext, address: int) -> str:
    """Return the kernel's name for the word at ``address``."""
    kimage = address - base(context, "kimage")
    layout = context.layout
    names = {getattr(layout, name): name for name in _FIELDS}
    names |= {getattr(layout, name): f"arch.{name}" for name in _ARCH_FIELDS}
    if kimage in names:
        return f"kimage->{names[kimage]}"
    if layout.segment <= kimage < layout.arch:
        index, rest = divmod(kimage - layout.segment, SEGMENT_BYTES)
        return f"kimage->segment[{index}].{_SEGMENT_FIELDS[rest // 8]}"
    if 0 <= kimage < layout.size:
        return f"kimage+{kimage:#x}"
    for name, where in context.globals.addresses.items():
        if where & -8 == address:
            return name if name not in ("__boot_cpu_mode",) else f"{name}[]"
    mm = address - base(context, MM_STRUCT)
    if 0 <= mm < 1 << 16:
        return f"mm_struct+{mm:#x}"
    task, frame = address - base(context, "the task"), address - base(context, STACK_FRAME)
    if 0 <= task < 1 << 16:
        return f"current+{task:#x}"
    if -FRAME_BYTES <= frame < 0:
        return f"stack{frame:+#x}"
    if 0 <= address - context.page_offset - _LIST < _LIST_BYTES:
        return f"list word at {address:#x}"
    called = context.kernel.called(address)
    return f"word at {called}" if called.startswith("0x") else called
