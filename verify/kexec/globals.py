"""Where the kernel keeps what its kexec code reads: by symbol, or by code that must know.

6.1's kallsyms holds text symbols only. There boot code that is not under proof says where a
global stands: it stores to it, or passes it to a function that is known by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from capstone import arm64

from verify.errors import TargetError
from verify.kexec.locate import find_function
from verify.target import Kernel
from verify.target.constants import MASK, walk

NAMES = (
    "kimage_voffset",
    "memstart_addr",
    "idmap_pg_dir",
    "swapper_pg_dir",
    "reserved_pg_dir",
    "empty_zero_page",
    "idmap_t0sz",
    "__boot_cpu_mode",
    "kexec_crash_image",
    "__num_online_cpus",
    "__idmap_text_start",
    "__idmap_text_end",
)
_MAX_GLOBALS = 1 << 28  # an image with its .bss is smaller (arch/arm64/kernel/vmlinux.lds.S: MODULES_VADDR)


@dataclass(frozen=True)
class Globals:
    """Virtual addresses of globals by name, and in words how each is known.

    :param low: of the image.
    :param signed_words: those of 32 bits, signed; others have 64.
    """

    low: int
    addresses: dict[str, int] = field(default_factory=dict)
    found_by: dict[str, str] = field(default_factory=dict)
    signed_words: frozenset[str] = frozenset()
    folds_ttbr: bool | None = None

    @property
    def high(self) -> int:
        """An address that no global reaches."""
        return self.low + _MAX_GLOBALS

    def __contains__(self, name: str) -> bool:
        return name in self.addresses

    def __getitem__(self, name: str) -> int:
        return self.addresses[name]

    def with_(self, name: str, address: int, found_by: str) -> Globals:
        """These and one more."""
        addresses = {**self.addresses, name: address}
        return replace(self, addresses=addresses, found_by={**self.found_by, name: found_by})


def find_globals(kernel: Kernel) -> Globals:
    """The globals that symbols or other code name; what neither names is left out."""
    found = Globals(kernel.segments[0].address)
    for name in NAMES:
        symbol = kernel.symbol(name)
        if symbol is not None:
            found = found.with_(name, symbol.address, "its symbol")
    for name, function, look in _WITNESSES:
        if name in found:
            continue
        address = _ask(kernel, function, look)
        if address is not None:
            found = found.with_(name, address, f"the code of {function}")
    reads = {name: _reads(kernel, name) for name in _READERS}
    if "memstart_addr" not in found and "kimage_voffset" in found:
        shared = set.intersection(*(words for words, _ in reads.values())) - {found["kimage_voffset"]}
        if len(shared) == 1:
            how = f"the one word beside kimage_voffset that {' and '.join(_READERS)} read"
            found = found.with_("memstart_addr", shared.pop(), how)
    signed = reads["machine_kexec"][1]
    if "idmap_t0sz" not in found and len(signed) == 1:
        found = found.with_("idmap_t0sz", min(signed), "the one signed 32-bit word that machine_kexec reads")
    if "idmap_t0sz" in found and found["idmap_t0sz"] in signed:
        found = replace(found, signed_words=frozenset({"idmap_t0sz"}))
    if "reserved_pg_dir" not in found and "swapper_pg_dir" in found and kernel.page_size:
        # arch/arm64/include/asm/kernel-pgtable.h: RESERVED_SWAPPER_OFFSET is one page.
        below = found["swapper_pg_dir"] - kernel.page_size
        found = found.with_("reserved_pg_dir", below, "swapper_pg_dir, one page above it")
    return found


_READERS = ("machine_kexec", "machine_kexec_post_load")


def _reads(kernel: Kernel, function: str) -> tuple[set[int], set[int]]:
    """Addresses of the 64-bit words and of the signed 32-bit words that the function reads."""
    words: set[int] = set()
    signed: set[int] = set()
    try:
        code = find_function(kernel, function)
    except TargetError:
        return words, signed
    for insn, known in walk(kernel, code.address, code.code):
        if insn.id in (arm64.ARM64_INS_LDR, arm64.ARM64_INS_LDRSW) and len(insn.operands) == 2:
            operand = insn.operands[1]
            base = known.get(insn.reg_name(operand.mem.base)) if operand.type == arm64.ARM64_OP_MEM else None
            if base is None or operand.mem.index:
                continue
            address = (base + operand.mem.disp) & MASK
            if insn.id == arm64.ARM64_INS_LDRSW:
                signed.add(address)
            elif insn.reg_name(insn.operands[0].reg).startswith("x"):
                words.add(address)
    return words, signed


type _Look = Callable[[Kernel, int, bytes], "int | None"]


def _ask(kernel: Kernel, function: str, look: _Look) -> int | None:
    try:
        code = find_function(kernel, function)
    except TargetError:
        return None
    return look(kernel, code.address, code.code)


def _stored_difference(kernel: Kernel, address: int, code: bytes) -> int | None:
    """Where a difference from x0 is stored: __primary_switched has the image's physical address there."""
    differences: set[str] = set()
    for insn, known in walk(kernel, address, code):
        name = insn.reg_name(insn.operands[0].reg) if insn.operands and insn.operands[0].reg else ""
        if insn.id == arm64.ARM64_INS_STR and name in differences:
            base = known.get(insn.reg_name(insn.operands[1].mem.base))
            return None if base is None else (base + insn.operands[1].mem.disp) & MASK
        operands = [operand for operand in insn.operands if operand.type == arm64.ARM64_OP_REG]
        registers = [insn.reg_name(operand.reg) for operand in operands]
        if insn.id == arm64.ARM64_INS_SUB and len(registers) == 3 and registers[2] == "x0":
            differences.add(name)
        else:
            differences.discard(name)
    return None


def _passed_to_enable_mmu(register: str) -> _Look:
    """__enable_mmu is given the tables for TTBR1 in x1 and for TTBR0, the idmap, in x2."""

    def look(kernel: Kernel, address: int, code: bytes) -> int | None:
        for insn, known in walk(kernel, address, code):
            if insn.id == arm64.ARM64_INS_BL:
                if "__enable_mmu" in kernel.symbols_at(insn.operands[0].imm & MASK):
                    return known.get(register)
        return None

    return look


def _first_constant_pointer(kernel: Kernel, address: int, code: bytes) -> int | None:
    """The lowest constant address that the function forms: set_cpu_boot_mode_flag has one array."""
    found: list[int] = []
    for insn, known in walk(kernel, address, code):
        if insn.id == arm64.ARM64_INS_STR and insn.operands[1].type == arm64.ARM64_OP_MEM:
            base = known.get(insn.reg_name(insn.operands[1].mem.base))
            if base is not None:
                found.append((base + insn.operands[1].mem.disp) & MASK)
        elif insn.id == arm64.ARM64_INS_ADD and insn.operands[0].reg and insn.operands[1].reg:
            base = known.get(insn.reg_name(insn.operands[1].reg))
            if base is not None and insn.operands[2].type == arm64.ARM64_OP_IMM:
                found.append((base + insn.operands[2].imm) & MASK)
    return min(found, default=None)


_WITNESSES: tuple[tuple[str, str, _Look], ...] = (
    ("kimage_voffset", "__primary_switched", _stored_difference),
    ("swapper_pg_dir", "cpu_resume", _passed_to_enable_mmu("x1")),
    ("idmap_pg_dir", "cpu_resume", _passed_to_enable_mmu("x2")),
    ("swapper_pg_dir", "secondary_startup", _passed_to_enable_mmu("x1")),
    ("idmap_pg_dir", "secondary_startup", _passed_to_enable_mmu("x2")),
    ("__boot_cpu_mode", "set_cpu_boot_mode_flag", _first_constant_pointer),
)
