"""Find the functions of kexec in a kernel, above all the relocation routine.

Sources: arch/arm64/kernel/machine_kexec.c (machine_kexec_post_load, before 5.12 machine_kexec, copies the
routine with memcpy), arch/arm64/kernel/relocate_kernel.S, arch/arm64/kernel/vmlinux.lds.S
(__relocate_new_kernel_start and _end around the section, from 5.16 on).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from kexec_verify.errors import NoKexecError, TargetError
from kexec_verify.target import Kernel
from kexec_verify.target.copies import Copy, constant_copies

ROUTINE = "arm64_relocate_new_kernel"
_START, _END = "__relocate_new_kernel_start", "__relocate_new_kernel_end"
_SIZE_WORD = "arm64_relocate_new_kernel_size"
_COPIERS = ("machine_kexec_post_load", "machine_kexec")
_BL = 0b100101
_MAX_FUNCTION = 1 << 16
_MAX_ROUTINE = 1 << 16  # a control page (KEXEC_CONTROL_PAGE_SIZE is 4096, a page may be 64 KiB)


@dataclass(frozen=True)
class Function:
    """The code of one function.

    :param name: its symbol, or the routine's name where kallsyms has none.
    :param address: virtual address of its first instruction, the entry.
    :param code: from there on, without padding behind the last instruction.
    :param found_by: in words, how start and end are known.
    :param copied_from: where the kernel's copy of the routine starts, or None when no copy was
        found; the entry lies ``address - copied_from`` bytes into the control page.
    :param copied_size: how many bytes the kernel copies, or None.
    :param copied_by: the function that copies it, or None.
    """

    name: str
    address: int
    code: bytes
    found_by: str
    copied_from: int | None = None
    copied_size: int | None = None
    copied_by: str | None = None

    @property
    def copied_at_last(self) -> bool:
        """Return whether machine_kexec copies it (before 5.12), and not machine_kexec_post_load."""
        return self.copied_by == "machine_kexec"

    @property
    def end(self) -> int:
        """Return the first address after the code."""
        return self.address + len(self.code)


def find_function(kernel: Kernel, name: str, address: int | None = None) -> Function:
    """Return the function *name*, by its symbol, up to its size or the next symbol.

    :param address: its address, if known: static functions of several files may share a name.
    :raises NoKexecError: the kernel has no such symbol, or no code there.
    """
    symbol = kernel.symbol(name)
    if address is not None and symbol is not None and symbol.address != address:
        symbol = kernel.symbol_before(address) if name in kernel.symbols_at(address) else None
    if symbol is None:
        raise NoKexecError(f"{kernel.source}: expected a symbol {name}, found none")
    code = _code(kernel, symbol.address, symbol.size or _MAX_FUNCTION)
    code = _without_padding(code)
    if not code:
        raise NoKexecError(f"{kernel.source}: expected code at {name}, found none")
    ends = "its size or the next symbol" if symbol.size else "the end of its segment"
    return Function(name, symbol.address, code, f"symbol {name}, up to {ends}")


def branches_out(function: Function) -> list[int]:
    """Return the addresses outside of *function* that its direct branches go to, calls left out."""
    targets = (target for calls, target in _direct_branches(function) if not calls)
    return [target for target in targets if not function.address <= target < function.end]


def calls_out(function: Function) -> list[int]:
    """Return the addresses that *function*'s direct calls (``bl``) go to."""
    return [target for calls, target in _direct_branches(function) if calls]


def _direct_branches(function: Function) -> Iterator[tuple[bool, int]]:
    """Yield, of each direct branch, whether it is a call and the address that it goes to."""
    for number, (word,) in enumerate(struct.iter_unpack("<I", function.code)):
        displacement, _ = _successors(word)
        if displacement is not None:
            yield word >> 26 == _BL, function.address + 4 * (number + displacement)


def find_routine(kernel: Kernel) -> Function:
    """Return the relocation routine, by its symbol or by the copy that the kernel makes of it.

    :raises NoKexecError: neither names it.
    """
    copy, copier = _find_copy(kernel)
    routine = _by_symbol(kernel)
    if routine is None and copy is not None and copier is not None:
        routine = Function(
            ROUTINE,
            copy.start,
            _reachable(_code(kernel, copy.start, copy.size)),
            f"start and size that {copier} passes to {copy.callee} at {copy.call:#x}",
        )
    if routine is None:
        raise NoKexecError(
            f"{kernel.source}: expected a symbol {ROUTINE}, or a {_COPIERS[0]} that copies the "
            "routine, found neither"
        )
    if not routine.code:
        raise NoKexecError(f"{kernel.source}: expected code at {routine.address:#x} ({ROUTINE}), found none")
    if copy is None or not copy.start <= routine.address < copy.start + copy.size:
        return routine
    return replace(routine, copied_from=copy.start, copied_size=copy.size, copied_by=copier)


def _by_symbol(kernel: Kernel) -> Function | None:
    symbol = kernel.symbol(ROUTINE)
    if symbol is None:
        return None
    size, end = symbol.size or _MAX_ROUTINE, "its size or the next symbol"
    marker = kernel.symbol(_END)
    word = kernel.symbol(_SIZE_WORD)
    if marker is not None and 0 < marker.address - symbol.address <= _MAX_ROUTINE:
        size, end = marker.address - symbol.address, _END
    elif word is not None and kernel.mapped(word.address, 8):
        (counted,) = struct.unpack("<Q", kernel.read(word.address, 8))
        if 0 < counted <= _MAX_ROUTINE:
            size, end = counted, _SIZE_WORD
    code = _reachable(_code(kernel, symbol.address, size))
    return Function(ROUTINE, symbol.address, code, f"symbol {ROUTINE}, up to {end}")


def _find_copy(kernel: Kernel) -> tuple[Copy | None, str | None]:
    """Return the one copy with a constant source that a copier makes, and the copier's name."""
    for name in _COPIERS:
        try:
            function = find_function(kernel, name)
        except TargetError:
            continue
        copies = [
            copy
            for copy in constant_copies(kernel, function.address, function.code, frozenset((_SIZE_WORD,)))
            if 0 < copy.size <= _MAX_ROUTINE and kernel.mapped(copy.start, copy.size)
        ]
        if len({(copy.start, copy.size) for copy in copies}) == 1:
            return copies[0], name
    return None, None


def _code(kernel: Kernel, address: int, size: int) -> bytes:
    """Return up to *size* bytes at *address*, cut at the end of the segment, in whole words."""
    if address % 4:
        raise TargetError(f"{kernel.source}: expected instructions at a multiple of 4, found {address:#x}")
    for segment in kernel.segments:
        if segment.address <= address < segment.end:
            at = address - segment.address
            size = min(size, len(segment.data) - at)
            return segment.data[at : at + size - size % 4]
    return b""


def _without_padding(code: bytes) -> bytes:
    end = len(code)
    while end and not any(code[end - 4 : end]):
        end -= 4
    return code[:end]


def _reachable(code: bytes) -> bytes:
    """Return *code* up to the last instruction that its first one leads to within it.

    Literal data and padding follow the final branch. They look like instructions, but control never gets
    there.
    """
    words = struct.unpack(f"<{len(code) // 4}I", code)
    seen: set[int] = set()
    todo = [0] if words else []
    while todo:
        at = todo.pop()
        if at in seen or not 0 <= at < len(words):
            continue
        seen.add(at)
        target, falls_through = _successors(words[at])
        if target is not None:
            todo.append(at + target)
        if falls_through:
            todo.append(at + 1)
    return code[: 4 * (max(seen) + 1)] if seen else b""


def _successors(word: int) -> tuple[int | None, bool]:
    """Return a branch's displacement in words, or None, and whether control may fall through.

    Encodings: Arm Architecture Reference Manual, C4.1.65, branches.
    """
    if word >> 26 & 0b11111 == 0b00101:  # b, bl
        return _signed(word, 26), word >> 31 == 1
    if word >> 24 == 0b01010100:  # b.cond, bc.cond; always (1110, 1111) does not fall through
        return _signed(word >> 5, 19), word & 0xE != 0xE
    if word >> 25 & 0x3F == 0b011010:  # cbz, cbnz
        return _signed(word >> 5, 19), True
    if word >> 25 & 0x3F == 0b011011:  # tbz, tbnz
        return _signed(word >> 5, 14), True
    if word >> 25 == 0b1101011:  # br, blr, ret, eret, with and without pointer authentication
        return None, word >> 21 & 0b11 == 0b01
    return None, word >> 16 != 0  # udf


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (value >> (bits - 1) << bits)
