"""A raw arm64 Image as a kernel: where it is linked, and its symbols from its kallsyms."""

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from itertools import combinations

from kexec_verify.errors import TargetError
from kexec_verify.target.header import parse_header
from kexec_verify.target.kallsyms import Kallsyms, find_kallsyms
from kexec_verify.target.kernel import Kernel, Segment, banner_version, note_build_id
from kexec_verify.target.link_address import Placement, link_address, relative_base
from kexec_verify.target.pe import loaded_image
from kexec_verify.target.rela_bounds import RELA, RELR, Bounds, agreed, by_code, by_symbol
from kexec_verify.target.relocations import (
    NO_RELOCATIONS,
    apply,
    check_apart,
    packed_places,
    parse_rela,
    resembles_rela,
)
from kexec_verify.target.symbols import ListedNames, Symbol, SymbolTable
from kexec_verify.target.word_arrays import U64

_ADDRESSES = 1 << 64
_MAX_PACKED_BOUNDS = 16  # pairs of addresses that may bound a RELR table
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
    coded = _coded(loaded, header.text_offset, source)
    bounds = _bounds(loaded, tables, coded, source)
    relocations = parse_rela(loaded[bounds.start : bounds.end]) if bounds else NO_RELOCATIONS
    packed_at = _packed_bounds(loaded, tables, coded, source)
    packed = packed_places(loaded[packed_at.start : packed_at.end], len(loaded)) if packed_at else None
    if packed_at and packed is None:
        raise TargetError(f"{source}: expected a RELR table from {packed_at}, found other words there")
    placement = Placement(
        loaded, header.text_offset, header.image_size, tables, relocations, packed or array(U64)
    )
    base = link_address(placement, source)
    for table in (bounds, packed_at):
        if table:
            check_apart(relocations, base + table.start, base + table.end, "their own table", source)
    symbols = kallsyms_symbols(tables, relative_base(tables, relocations, base), source)
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


def _coded(data: bytes, text_offset: int, source: str) -> list[Bounds]:
    """Return the bounds that code gives, in offsets from the first byte of an Image."""
    # Where it is linked is known only from its relocations: here it is at 0.
    found = []
    for bounds in by_code(data, 0, source):
        if bounds.kimage_vaddr is not None:
            away = bounds.kimage_vaddr + text_offset
            bounds = Bounds(bounds.start - away, bounds.end - away)
        found.append(bounds)
    return found


def _bounds(data: bytes, tables: Kallsyms, coded: list[Bounds], source: str) -> Bounds | None:
    """Return the relocation table of an Image, in offsets from its first byte, or None without one.

    :raises TargetError: it lies outside the Image, or there is one but nothing says where.
    """
    bounds = agreed(_named(tables, RELA), coded, source)
    if bounds is None:
        if resembles_rela(data):
            raise TargetError(
                f"{source}: expected symbols or code that bound the kernel's relocations, found neither"
            )
        return None
    if not 0 <= bounds.start <= bounds.end <= len(data):
        raise TargetError(f"{source}: expected relocations inside the Image, found a table from {bounds}")
    return bounds


def _packed_bounds(data: bytes, tables: Kallsyms, coded: list[Bounds], source: str) -> Bounds | None:
    """Return the RELR table of an Image, in offsets from its first byte, or None without one.

    Two of the addresses that the code behind the loop over the Elf64_Rela entries makes bound it; they
    are those between which there is such a table.

    :raises TargetError: symbols and code disagree, or the table lies outside the Image.
    """
    named = [bounds for bounds in _named(tables, RELR) if bounds.start != bounds.end]
    if any(not 0 <= bounds.start < bounds.end <= len(data) for bounds in named):
        raise TargetError(f"{source}: expected relocations inside the Image, found a table from {named[0]}")
    found = {(bounds.start, bounds.end) for bounds in named}
    possible = {
        pair
        for rela in coded
        for pair in combinations(sorted(at for at in rela.beside if 0 <= at <= len(data)), 2)
    }
    if len(possible) > _MAX_PACKED_BOUNDS:
        raise TargetError(f"{source}: expected one loop over relocations, found {len(coded)}")
    for start, end in possible:
        if packed_places(data[start:end], len(data)) is not None:
            found.add((start, end))
    if len(found) > 1:
        texts = ", ".join(str(Bounds(*one)) for one in sorted(found))
        raise TargetError(f"{source}: expected one RELR table, found {texts}")
    return Bounds(*found.pop()) if found else None


def _named(tables: Kallsyms, pairs: Iterable[tuple[str, str]]) -> Iterator[Bounds]:
    """Yield the bounds that *pairs* of symbols give, in offsets from _text, an Image's first byte."""
    if "_text" not in tables.names:
        return
    text = tables.offsets[tables.names.index("_text")]

    def lookup(name: str) -> Symbol | None:
        if name not in tables.names:
            return None
        return Symbol(name, tables.offsets[tables.names.index(name)] - text, None)

    yield from by_symbol(lookup, pairs)


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
