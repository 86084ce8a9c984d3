"""A raw arm64 Image as a kernel: where it is linked, and its symbols from its kallsyms."""

import hashlib
from array import array
from collections.abc import Iterator

from kexec_verify.errors import TargetError
from kexec_verify.target.header import parse_header
from kexec_verify.target.kallsyms import KERNEL_HALF, Kallsyms, find_kallsyms
from kexec_verify.target.kernel import Kernel, Segment, banner_version, note_build_id
from kexec_verify.target.pe import loaded_image
from kexec_verify.target.rela_bounds import Bounds, agreed, by_code, by_symbol
from kexec_verify.target.relocations import (
    NO_RELOCATIONS,
    Relocations,
    apply,
    check_apart,
    parse_rela,
    resembles_rela,
)
from kexec_verify.target.symbols import ListedNames, Symbol, SymbolTable

_BASE_ALIGN = 1 << 21  # Documentation/arch/arm64/booting.rst: a 2 MiB aligned base
_ADDRESSES = 1 << 64
_VOTERS = 20000
_ENDS = ("_etext", "_einittext", "__init_end", "_edata")


def load_image(data: bytes, source: str, name: str) -> Kernel:
    """Return the kernel in *data*, an unpacked Image.

    :param source: the target as the user typed it, for messages.
    :param name: the kernel's short name.
    :raises TargetError: no Image, a big-endian one, one with bytes behind it, one whose kallsyms
        cannot be recovered, or one whose relocation table nothing bounds.
    """
    header = parse_header(data, source)
    loaded = loaded_image(data, header, source)
    tables = find_kallsyms(loaded)
    if tables is None:
        raise TargetError(f"{source}: expected a kernel's kallsyms tables, found none intact")
    bounds = _bounds(loaded, tables, header.text_offset, source)
    relocations = parse_rela(loaded[bounds.start : bounds.end]) if bounds else NO_RELOCATIONS
    base = _link_base(loaded, tables, relocations, header.text_offset, source)
    if bounds:
        check_apart(relocations, base + bounds.start, base + bounds.end, "their own table", source)
    symbols = kallsyms_symbols(tables, _relative_base(tables, relocations, base), source)
    _require_whole(symbols, base, len(loaded), source)
    return Kernel(
        name=name,
        source=source,
        format="image",
        sha256=hashlib.sha256(data).hexdigest(),
        build_id=note_build_id(loaded),
        version=banner_version(loaded),
        page_size=header.page_size,
        segments=(Segment(base, apply(loaded, base, relocations, source)),),
        symbols=symbols,
    )


def _require_whole(symbols: SymbolTable, base: int, size: int, source: str) -> None:
    """Refuse an Image that ends before what arch/arm64/kernel/vmlinux.lds.S puts into it.

    :raises TargetError: it was cut off.
    """
    for name in _ENDS:
        symbol = symbols.lookup(name)
        if symbol is not None and base + size < symbol.address:
            raise TargetError(
                f"{source}: expected an Image up to {name} at {symbol.address:#x}, "
                f"found it to end at {base + size:#x}"
            )


def _bounds(data: bytes, tables: Kallsyms, text_offset: int, source: str) -> Bounds | None:
    """Return the relocation table of an Image, in offsets from its first byte, or None without one.

    :raises TargetError: it lies outside the Image, or there is one but nothing says where.
    """
    # Where it is linked is known only from its relocations: here it stands at 0.
    coded = []
    for found in by_code(data, 0, source):
        if found.kimage_vaddr is not None:
            away = found.kimage_vaddr + text_offset
            found = Bounds(found.start - away, found.end - away)
        coded.append(found)
    bounds = agreed(_named(tables), coded, source)
    if bounds is None:
        if resembles_rela(data):
            raise TargetError(
                f"{source}: expected symbols or code that bound the kernel's relocations, found neither"
            )
        return None
    if not 0 <= bounds.start <= bounds.end <= len(data):
        raise TargetError(f"{source}: expected relocations inside the Image, found a table from {bounds}")
    return bounds


def _named(tables: Kallsyms) -> Iterator[Bounds]:
    """Yield the bounds that symbols give, in offsets from _text, which is an Image's first byte."""
    if "_text" not in tables.names:
        return
    text = tables.offsets[tables.names.index("_text")]

    def lookup(name: str) -> Symbol | None:
        if name not in tables.names:
            return None
        return Symbol(name, tables.offsets[tables.names.index(name)] - text, None)

    yield from by_symbol(lookup)


def kallsyms_symbols(tables: Kallsyms, base: int, source: str) -> SymbolTable:
    """Return the recovered *tables* as symbols, their offsets counted from *base*.

    :raises TargetError: an address would leave the address space.
    """
    if not 0 <= base < _ADDRESSES - tables.offsets[-1]:
        raise TargetError(f"{source}: expected kernel addresses in kallsyms, found base {base:#x}")
    addresses = array("Q", [base + offset for offset in tables.offsets])
    upper = bytes(65 <= kind <= 90 for kind in tables.kinds)
    mapping = frozenset(r for r, name in enumerate(tables.names) if name.startswith("$"))
    return SymbolTable(ListedNames(tables.names), addresses, None, mapping, upper)


def _relative_base(tables: Kallsyms, relocations: Relocations, base: int) -> int:
    """Return the address that the offsets of *tables* count from in an Image linked at *base*."""
    if tables.base_at is None:
        return base
    if tables.base_value:
        return tables.base_value
    return relocations.values[relocations.places.index(base + tables.base_at)]


def _link_base(data: bytes, tables: Kallsyms, relocations: Relocations, text_offset: int, source: str) -> int:
    """Return the virtual address of the first byte of the Image.

    Without relocation entries kallsyms_relative_base is in the file; it is the first symbol's
    address, within 2 MiB of the start. With them it is zero there, and the base is the one address
    at which an entry fills that word in with an address near the start.
    """
    if tables.base_value:
        base = tables.base_value - tables.base_value % _BASE_ALIGN + text_offset
        candidates = [base] if base >= KERNEL_HALF else []
    else:
        candidates = _candidates(data, tables, relocations, text_offset)
    if len(candidates) > 1:
        candidates = _elect(candidates, tables, relocations)
    if len(candidates) != 1:
        raise TargetError(f"{source}: expected one link address that fits the Image, found {len(candidates)}")
    return candidates[0]


def _candidates(data: bytes, tables: Kallsyms, relocations: Relocations, text_offset: int) -> list[int]:
    if not len(relocations):
        return []
    lowest, highest = min(relocations.places), max(relocations.places)
    if tables.base_at is None:
        start = lowest - lowest % _BASE_ALIGN + text_offset
        fits = range(start, max(KERNEL_HALF, highest - len(data)), -_BASE_ALIGN)
        return list(fits)
    found = []
    for place, value in zip(relocations.places, relocations.values, strict=True):
        base = place - tables.base_at
        if (
            (base - text_offset) % _BASE_ALIGN == 0
            and KERNEL_HALF <= base <= lowest
            and highest < base + len(data)
            and 0 <= value - base < _BASE_ALIGN
        ):
            found.append(base)
    return found


def _elect(candidates: list[int], tables: Kallsyms, relocations: Relocations) -> list[int]:
    """Keep the candidate for which clearly more relocated pointers hit a symbol's address."""
    votes = []
    starts = frozenset(tables.offsets)
    step = max(1, len(relocations) // _VOTERS)
    for base in candidates:
        first = _relative_base(tables, relocations, base)
        votes.append((sum(v - first in starts for v in relocations.values[::step]), base))
    votes.sort(reverse=True)
    return [votes[0][1]] if votes[0][0] > 4 * votes[1][0] else candidates
