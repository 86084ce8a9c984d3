"""The virtual address that an Image is linked at.

Nothing in an Image's header says it. It follows from kallsyms_relative_base, which holds a virtual
address near the Image's start, and from relocations, whose places and values all lie in the kernel.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from kexec_verify.errors import TargetError
from kexec_verify.target.kallsyms import KERNEL_HALF, Kallsyms
from kexec_verify.target.relocations import Relocations

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

    @cached_property
    def places(self) -> list[int]:
        """The least and the greatest relocated place, or nothing."""
        return _ends([*_ends(self.relocations.places), *_ends(self.packed)])

    @cached_property
    def values(self) -> list[int]:
        """The least and the greatest value of the Elf64_Rela entries but 0, or nothing."""
        return _ends(filter(None, self.relocations.values))


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
    fitting = [base for base in candidates if _fits(placement, base, _SAMPLE)]
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
    found: dict[int, None] = {}
    for place, value in zip(relocations.places, relocations.values, strict=True):
        base = place - at
        if (base - placement.text_offset) % _BASE_ALIGN == 0 and 0 <= value - base < _BASE_ALIGN:
            found[base] = None
    return list(found)


def _around(placement: Placement) -> range:
    """Return the addresses at which every relocated place is in the Image."""
    if not placement.places:
        return range(0)
    lowest, highest = placement.places
    offset = placement.text_offset
    start = (lowest - offset) // _BASE_ALIGN * _BASE_ALIGN + offset
    return range(start, max(KERNEL_HALF - 1, highest - len(placement.data)), -_BASE_ALIGN)


def _fits(placement: Placement, base: int, most: int | None = None) -> bool:
    """Return whether each place is in the Image and each value in the kernel when it is linked at *base*.

    Values of 0 say nothing: scripts/sorttable.c writes them in the place of a weak function's address.

    :param most: of how many of the RELR table's words to look at the values, or None for all.
    """
    last = base + len(placement.data) - 8
    if base < KERNEL_HALF or not all(base <= place <= last for place in placement.places):
        return False
    values = [*placement.values, *_ends(_held(placement, base, most))]
    room = max(placement.room, len(placement.data))
    return all(base <= value <= base + room for value in values)


def _held(placement: Placement, base: int, most: int | None = None) -> Sequence[int]:
    """Return what *most* of the RELR table's words, spread over it, hold in an Image linked at *base*.

    Words of 0 are left out.
    """
    packed, data = placement.packed, placement.data
    chosen = packed[:: max(1, len(packed) // most)] if most else packed
    offsets = (place - base for place in chosen)
    inside = (data[at : at + 8] for at in offsets if 0 <= at <= len(data) - 8)
    return [value for value in map(_word, inside) if value]


def _word(data: bytes) -> int:
    return int.from_bytes(data, "little")


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
