"""The variants of a function that boot makes of it: one for each set of choices.

A choice is a capability, or the state of a static key at one of its sites. A variant is the function with
the instructions that stand there where exactly these choices are set. A function that runs no loop
executes each site at most once in a call, so what a key is at other times does not matter.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace as altered
from itertools import combinations

from kexec_verify.arm64.lift import SIZE, Code, loops
from kexec_verify.errors import LimitError, UnsupportedError
from kexec_verify.kexec import witnesses
from kexec_verify.specs.capabilities import PROTECTED_KVM_KEY, capability, possible
from kexec_verify.target import Kernel, Segment
from kexec_verify.target.patching import Patching, Site

MEANING = "capabilities-mean"
"""The assumption that a choice means what specs/capabilities.py says."""
MOST_CHOICES = 4  # of one function
_SANITISED_READERS = ("has_cache_idc", "has_cache_dic")
_TESTS_KEY = ("kvm_host_owns_hyp_mappings", "kvm_hyp_reserve")
_MISMATCHED = "MISMATCHED_CACHE_TYPE"
_ADRP_PAGE = 1 << 12  # bytes
_LDR_X = 0xF940_0000  # ldr xT, [xN, #immediate]: Arm ARM, C6.2.180


@dataclass(frozen=True)
class Variant:
    """A set of choices.

    :param choices: names of those that are set.
    :param words: what stands at their sites then: bytes by address.
    """

    choices: frozenset[str]
    words: dict[int, bytes]

    @property
    def title(self) -> str:
        """Return the names, sorted."""
        return ", ".join(sorted(self.choices))

    def applied(self, kernel: Kernel) -> Kernel:
        """Return *kernel* with these instructions; its hash is the file's."""
        segments = []
        for segment in kernel.segments:
            data = bytearray(segment.data)
            for at, new in self.words.items():
                if segment.address <= at < segment.end:
                    data[at - segment.address : at - segment.address + len(new)] = new
            segments.append(Segment(segment.address, bytes(data)))
        return altered(kernel, segments=tuple(segments))


def said_where(choices: str) -> str:
    """Return what a sentence begins with that is about the code where *choices* are set."""
    return f"where {choices} is set: "


def where_set(choices: str, error: UnsupportedError | LimitError) -> UnsupportedError | LimitError:
    """Return *error*, which is about the code where *choices* are set, as one that says so."""
    said = said_where(choices)
    if isinstance(error, UnsupportedError):
        return UnsupportedError(said + error.what, error.address)
    return LimitError(said + str(error))


def name_of(kernel: Kernel, site: Site) -> str:
    """Return what the choice is called that decides at *site*."""
    patching = kernel.patching
    assert patching is not None
    if site.key is not None:
        return f"{key_name(kernel, site.key)}@{kernel.where(site.address)}"
    return capability_name(patching, site.capability)


def capability_name(patching: Patching, number: int | None) -> str:
    """Return what the capability is called; without a name of its own its number and description."""
    rows = patching.capabilities.get(-1 if number is None else number, ())
    for row in rows:
        known = capability(row.found_by, row.description)
        if known is not None:
            return known.name
    texts = sorted({row.description or row.found_by for row in rows})
    return f"capability {number} ({'; '.join(texts)})"


def key_name(kernel: Kernel, key: int) -> str:
    """Return what the static key at address *key* is called: by its symbol, or by the code that tests it.

    The key of protected KVM is the one that two functions, which are not under proof, both test.
    """
    symbol = kernel.symbol_before(key)
    if symbol is not None and symbol.address == key:
        return symbol.name
    if set.intersection(*(_keys_tested(kernel, function) for function in _TESTS_KEY)) == {key}:
        return PROTECTED_KVM_KEY
    return f"static key {key:#x}"


def _keys_tested(kernel: Kernel, function: str) -> set[int]:
    """Return the static keys that have a site in *function*."""
    symbol, patching = kernel.symbol(function), kernel.patching
    if symbol is None or patching is None:
        return set()
    sites = patching.sites(kernel, symbol.address, symbol.address + (symbol.size or SIZE))
    return {site.key for site in sites if site.key is not None}


def sites_of(kernel: Kernel, code: Code) -> list[Site]:
    """Return the patch sites in the bytes of *code*."""
    patching = kernel.patching
    if patching is None:
        return []
    return [site for piece in code.pieces for site in patching.sites(kernel, piece.address, piece.end)]


def variants(kernel: Kernel, code: Code, keys_too: bool = True) -> Iterator[Variant]:
    """Yield each variant of *code* other than the one in which no choice is set.

    :param keys_too: else static keys are no choices, and their sites stay as they are.
    :raises UnsupportedError: a replacement is not known, or a static key has a site in a loop.
    :raises LimitError: there are too many choices.
    """
    by_choice: dict[str, dict[int, bytes]] = {}
    keys: list[Site] = []
    for site in sites_of(kernel, code):
        if site.key is not None and not keys_too:
            continue
        if site.replacement is None:
            raise UnsupportedError(f"an instruction that {site.callback} makes at boot", site.address)
        keys += [site] if site.key is not None else []
        by_choice.setdefault(name_of(kernel, site), {})[site.address] = site.replacement
    for site in keys:
        # Executed twice, it may be another way the second time.
        if loops(code) or not code.address <= site.address < code.end:
            raise UnsupportedError(f"a static key's site that {code.name} may execute twice", site.address)
    if len(by_choice) > MOST_CHOICES:
        raise LimitError(f"{len(by_choice)} choices in {code.name}, more than {MOST_CHOICES}")
    names = sorted(by_choice)
    for count in range(1, len(names) + 1):
        for chosen in combinations(names, count):
            if possible(chosen):
                words = {at: new for name in chosen for at, new in by_choice[name].items()}
                yield Variant(frozenset(chosen), words)


def sanitised_ctr(kernel: Kernel, variant: Variant) -> int | None:
    """Return the address of the word that the variant reads in place of CTR_EL0.

    It is the one word that functions which are not under proof read to find out about CTR_EL0.

    :returns: None if the variant reads none, or another: then nothing is known of what it reads.
    """
    sites = [(at, data) for at, data in variant.words.items() if _MISMATCHED in variant.choices]
    formed = {word for at, data in sites if (word := _word_read(at, data)) is not None}
    read = set.intersection(*(witnesses.words_read(kernel, name, "x") for name in _SANITISED_READERS))
    return formed.pop() if formed == read and len(read) == 1 else None


def _word_read(at: int, data: bytes) -> int | None:
    """Return the address that ``adrp xN; ldr xN, [xN, #offset]`` at *at* reads; None for anything else."""
    if len(data) != 2 * SIZE:
        return None
    adrp, ldr = struct.unpack("<2I", data)
    register = adrp & 31
    if adrp & 0x9F00_0000 != 0x9000_0000 or ldr & 0xFFC0_03FF != _LDR_X | register << 5 | register:
        return None
    pages = (adrp >> 5 & 0x7_FFFF) << 2 | adrp >> 29 & 3
    pages -= pages >> 20 << 21
    return (at & -_ADRP_PAGE) + (pages << 12) + (ldr >> 10 & 0xFFF) * 8


def protects_guests(choices: frozenset[str]) -> bool:
    """Return whether protected KVM's key is set at one of the sites."""
    return any(choice.partition("@")[0] == PROTECTED_KVM_KEY for choice in choices)


def with_keys(kernel: Kernel, code: Code) -> tuple[Code, dict[int, str]]:
    """Return *code* with each static key's site as one of two instructions, and the choices' names.

    A key may be turned at any time, so nothing is known of it when a site is executed again.
    """
    either: dict[int, tuple[int, int]] = {}
    names: dict[int, str] = {}
    for site in sites_of(kernel, code):
        if site.key is not None and site.replacement is not None and site.address in code.addresses:
            unset, is_set = (
                int.from_bytes(site.original, "little"),
                int.from_bytes(site.replacement, "little"),
            )
            either[site.address] = (unset, is_set)
            names[site.address] = name_of(kernel, site)
    found = Code(
        code.name, code.address, code.data, code.calls, code.warnings, code.final, code.el,
        code.continuations, code.unknown, either, code.copies_memory,
    )  # fmt: skip
    return found, names
