"""The virtual address that an Image is linked at.

Nothing in an Image's header says it. It follows from kallsyms_relative_base, which holds a virtual
address near the Image's start, and from relocations, whose places and values all lie in the kernel.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kexec_verify.errors import TargetError
from kexec_verify.target.kallsyms import KERNEL_HALF, Kallsyms
from kexec_verify.target.relocations import Relocations
from kexec_verify.target.word_arrays import U64, words

_BASE_ALIGN = 1 << 21  # Documentation/arch/arm64/booting.rst: a 2 MiB aligned base
_SAMPLE = 256  # places; most wrong addresses contradict one of so many
_MAX_LOOKS = 16  # addresses for which all places are looked at
_VOTERS = 20000
_FEWEST_VOTERS = 16
_CLEARLY = 4  # times as many votes


@dataclass(frozen=True)
class Placement:
    """What the link address of an Image is found from.

    :param data: the Image as it is loaded.
    :param text_offset: of the first byte from a multiple of 2 MiB, in bytes.
    :param room: how many bytes the kernel occupies in memory, its .bss included.
    :param tables: its kallsyms.
    :param relocations: what its boot code relocates by Elf64_Rela entries.
    :param packed: the words that its RELR table names; their values are in *data*.
    """

    data: bytes
    text_offset: int
    room: int
    tables: Kallsyms
    relocations: Relocations
    packed: array[int]


def relative_base(tables: Kallsyms, relocations: Relocations, base: int) -> int:
    """Return the address that the offsets of *tables* count from in an Image linked at *base*."""
    if tables.base_at is None:
        return base
    if tables.base_value:
        return tables.base_value
    return relocations.values[relocations.places.index(base + tables.base_at)]


def link_address(placement: Placement, source: str) -> int:
    """Return the virtual address of the first byte of an Image.

    At this address every relocated place lies in the Image, and every value in the kernel. Where
    kallsyms has a relative_base, the address must also be that word rounded down to 2 MiB; where it
    has none, far more values must be a symbol's address than at the addresses 2 MiB away.

    :raises TargetError: no address, or more than one, fits.
    """
    tables = placement.tables
    if tables.base_value:
        candidates = [tables.base_value - tables.base_value % _BASE_ALIGN + placement.text_offset]
    elif tables.base_at is not None:
        candidates = _filled_in(placement)
    else:
        candidates = list(_around(placement))
    fitting = [base for base in candidates if _fits(placement, base, _SAMPLE)][: _MAX_LOOKS + 1]
    if len(fitting) <= _MAX_LOOKS:
        fitting = [base for base in fitting if _fits(placement, base)]
    if len(fitting) > 1 or (fitting and tables.base_at is None):
        fitting = _elect(placement, fitting)
    if len(fitting) != 1:
        raise TargetError(f"{source}: expected one link address that fits the Image, found {len(fitting)}")
    return fitting[0]


def _filled_in(placement: Placement) -> list[int]:
    """Return the addresses at which a relocation fills kallsyms_relative_base in."""
    relocations, at = placement.relocations, placement.tables.base_at
    assert at is not None
    found = []
    for place, value in zip(relocations.places, relocations.values, strict=True):
        base = place - at
        if (base - placement.text_offset) % _BASE_ALIGN == 0 and 0 <= value - base < _BASE_ALIGN:
            found.append(base)
    return found


def _around(placement: Placement) -> range:
    """Return the addresses at which every relocated place is in the Image."""
    places = [*_ends(placement.relocations.places), *_ends(placement.packed)]
    if not places:
        return range(0)
    offset = placement.text_offset
    start = (min(places) - offset) // _BASE_ALIGN * _BASE_ALIGN + offset
    return range(start, max(KERNEL_HALF - 1, max(places) - len(placement.data)), -_BASE_ALIGN)


def _fits(placement: Placement, base: int, most: int | None = None) -> bool:
    """Return whether each place is in the Image and each value in the kernel when it is linked at *base*.

    Values of 0 say nothing: scripts/sorttable.c writes them in the place of a weak function's address.

    :param most: of how many of the RELR table's words to look at the values, or None for all.
    """
    relocations = placement.relocations
    last = base + len(placement.data) - 8
    for places in (relocations.places, placement.packed):
        if len(places) and not base <= min(places) <= max(places) <= last:
            return False
    values = [*_ends(filter(None, relocations.values)), *_ends(_held(placement, base, most))]
    room = max(placement.room, len(placement.data))
    return base >= KERNEL_HALF and (not values or base <= min(values) <= max(values) <= base + room)


def _held(placement: Placement, base: int, most: int | None = None) -> Sequence[int]:
    """Return what *most* of the RELR table's words, spread over it, hold in an Image linked at *base*.

    Words of 0 are left out.
    """
    packed = placement.packed
    if not len(packed):
        return ()
    chosen = packed[:: max(1, len(packed) // most)] if most else packed
    rows = words(U64, placement.data)
    found = []
    for place in chosen:
        row, part = divmod(place - base, 8)
        if not 0 <= row < len(rows):
            continue
        if part:  # in a packed structure
            found.append(int.from_bytes(placement.data[8 * row + part : 8 * row + part + 8], "little"))
        else:
            found.append(rows[row])
    return [value for value in found if value]


def _ends(numbers: Iterable[int]) -> list[int]:
    """Return the least and the greatest of *numbers*, or nothing when there are none."""
    listed = numbers if isinstance(numbers, list | array) else list(numbers)
    return [min(listed), max(listed)] if listed else []


def _elect(placement: Placement, fitting: list[int]) -> list[int]:
    """Keep the candidate for which clearly more relocated pointers are a symbol's address."""
    tables, relocations = placement.tables, placement.relocations
    ballot = set(fitting)
    if tables.base_at is None:  # one that fits alone must win, too
        ballot.update(base + away for base in fitting for away in (-_BASE_ALIGN, _BASE_ALIGN))
    starts = frozenset(tables.offsets)
    votes = []
    for base in ballot:
        first = relative_base(tables, relocations, base)
        step = max(1, len(relocations) // _VOTERS)
        values = [*relocations.values[::step], *_held(placement, base, _VOTERS)]
        votes.append((sum(value - first in starts for value in values), base))
    votes.sort(reverse=True)
    (most, winner), (second, _) = votes[:2]
    elected = most >= _FEWEST_VOTERS and most > _CLEARLY * second
    if elected:
        return [winner] if winner in fitting else []
    return fitting if len(fitting) > 1 else []
