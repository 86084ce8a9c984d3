"""Find the globals that the kernel's kexec code reads, by symbol or by code that is not under proof.

6.1's kallsyms holds text symbols only. Other functions then say where a global is: they read it, store to
it, or pass it to a function that has a symbol. A proof must not take a global's address from the code that
it is about, since a fault there would move the global along.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from capstone import arm64
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec import witnesses
from kexec_verify.specs.kvm_vectors import PHYSVIRT_OFFSET
from kexec_verify.target import Kernel

NAMES = (
    "kimage_voffset",
    "memstart_addr",
    "idmap_pg_dir",
    "swapper_pg_dir",
    "reserved_pg_dir",
    "empty_zero_page",
    "idmap_t0sz",
    "vabits_actual",
    "__boot_cpu_mode",
    "kexec_crash_image",
    "__num_online_cpus",
    PHYSVIRT_OFFSET,
    "__idmap_text_start",
    "__idmap_text_end",
)
_SYMBOL = "its symbol"
_MAX_GLOBALS = 1 << 28  # an image with its .bss is smaller (arch/arm64/kernel/vmlinux.lds.S: MODULES_VADDR)


def image_addresses(kernel: Kernel) -> range:
    """Return the virtual addresses that the kernel's image may have, with its .bss."""
    low = kernel.segments[0].address
    return range(low, low + _MAX_GLOBALS)


@dataclass(frozen=True)
class Globals:
    """Virtual addresses of globals by name, and in words what each was found by.

    :param low: of the image.
    :param signed_words: those of 32 bits, signed; others have 64.
    :param folds_ttbr: whether physical addresses are folded for a TTBR (address_map.is_table).
    :param page_offset: first address of the linear map. None for either where no code says it.
    """

    low: int
    addresses: dict[str, int] = field(default_factory=dict)
    found_by: dict[str, str] = field(default_factory=dict)
    signed_words: frozenset[str] = frozenset()
    folds_ttbr: bool | None = None
    page_offset: int | None = None

    @property
    def high(self) -> int:
        """Return an address that no global reaches."""
        return self.low + _MAX_GLOBALS

    def __contains__(self, name: str) -> bool:
        return name in self.addresses

    def __getitem__(self, name: str) -> int:
        return self.addresses[name]

    def with_(self, name: str, address: int, found_by: str) -> Globals:
        """Return these globals and one more."""
        addresses = {**self.addresses, name: address}
        return replace(self, addresses=addresses, found_by={**self.found_by, name: found_by})


type _Look = Callable[[Kernel, Globals], set[int]]
"""The places that one function of the kernel says a global may be at."""

_LINEAR_MAPS = frozenset((1 << 64) - (1 << bits) for bits in (36, 39, 42, 47, 48, 52))


def _reads(kind: str, *functions: str) -> _Look:
    """Look for the only word, other than kimage_voffset, that all the functions read."""

    def look(kernel: Kernel, known: Globals) -> set[int]:
        words = [witnesses.words_read(kernel, function, kind) for function in functions]
        return set.intersection(*words) - {known.addresses.get("kimage_voffset")}

    return look


def _zero_page(function: str) -> _Look:
    return lambda kernel, _: witnesses.addresses_formed(kernel, function, kernel.page_size or 4096)


def _enable_mmu(function: str, register: str) -> _Look:
    """Look at a call of __enable_mmu: x1 has the table for TTBR1, x2 the one for TTBR0, the idmap."""
    return lambda kernel, _: witnesses.passed(kernel, function, "__enable_mmu", register)


def _memblock(kernel: Kernel, known: Globals) -> set[int]:
    read = witnesses.words_read(kernel, "arch_crash_save_vmcoreinfo", "x")
    return read & witnesses.words_stored(kernel, "arm64_memblock_init")


def _below_swapper(kernel: Kernel, known: Globals) -> set[int]:
    """Return swapper_pg_dir less one page: RESERVED_SWAPPER_OFFSET in asm/kernel-pgtable.h."""
    found = "swapper_pg_dir" in known and kernel.page_size is not None
    return {known["swapper_pg_dir"] - (kernel.page_size or 0)} if found else set()


def _on_enabling(kernel: Kernel, known: Globals) -> set[int]:
    """The table that __enable_mmu itself forms for TTBR0; it is passed as an argument from 5.16 on."""
    return witnesses.written(kernel, "__enable_mmu", arm64.ARM64_SYSREG_TTBR0_EL1)


def _resumes_on(function: str) -> _Look:
    """The one table other than the kernel's own that the function forms, where __enable_mmu forms it too."""

    def look(kernel: Kernel, known: Globals) -> set[int]:
        formed = witnesses.addresses_formed(kernel, function, kernel.page_size or 4096)
        others = {known.addresses.get(name) for name in ("swapper_pg_dir", "reserved_pg_dir")}
        return formed - others if _on_enabling(kernel, known) else set()

    return look


def _early(function: str) -> _Look:
    """The one word other than vabits_actual that the function reads and __create_page_tables stores."""

    def look(kernel: Kernel, known: Globals) -> set[int]:
        stored = witnesses.words_stored(kernel, "__create_page_tables")
        return (stored & witnesses.words_read(kernel, function, "x")) - {known.addresses.get("vabits_actual")}

    return look


def _address_bits(function: str) -> _Look:
    """vabits_actual: __create_page_tables stores it, and the function, which knows no idmap, reads it."""

    def look(kernel: Kernel, known: Globals) -> set[int]:
        stored = witnesses.words_stored(kernel, "__create_page_tables")
        return stored & witnesses.words_read(kernel, function, "x")

    return look


# In this order: what a look needs of others comes before it.
_WITNESSES: tuple[tuple[str, str, _Look], ...] = (
    (
        "kimage_voffset",
        "__primary_switched",
        lambda k, _: witnesses.stored_difference(k, "__primary_switched"),
    ),
    ("kimage_voffset", "init_zero_pfn", _reads("x", "init_zero_pfn")),
    ("memstart_addr", "__pmd_alloc and __pud_alloc", _reads("x", "__pmd_alloc", "__pud_alloc")),
    ("memstart_addr", "arch_crash_save_vmcoreinfo and arm64_memblock_init", _memblock),
    ("idmap_pg_dir", "cpu_resume", _enable_mmu("cpu_resume", "x2")),
    ("idmap_pg_dir", "secondary_startup", _enable_mmu("secondary_startup", "x2")),
    ("swapper_pg_dir", "cpu_resume", _enable_mmu("cpu_resume", "x1")),
    ("swapper_pg_dir", "secondary_startup", _enable_mmu("secondary_startup", "x1")),
    (
        "reserved_pg_dir",
        "idmap_cpu_replace_ttbr1",
        lambda kernel, _: witnesses.pages_formed(kernel, "idmap_cpu_replace_ttbr1"),
    ),
    ("reserved_pg_dir", "swapper_pg_dir, one page above it", _below_swapper),
    ("idmap_pg_dir", "__enable_mmu", _on_enabling),
    ("idmap_pg_dir", "__cpu_suspend_exit", _resumes_on("__cpu_suspend_exit")),
    ("empty_zero_page", "init_zero_pfn", _zero_page("init_zero_pfn")),
    ("empty_zero_page", "kvm_clear_guest", _zero_page("kvm_clear_guest")),
    ("idmap_t0sz", "__cpu_suspend_exit", _reads("signed", "__cpu_suspend_exit")),
    ("idmap_t0sz", "cpu_enable_cnp", _reads("signed", "cpu_enable_cnp")),
    ("vabits_actual", "arm64_memblock_init and __create_page_tables", _address_bits("arm64_memblock_init")),
    (
        "vabits_actual",
        "arch_crash_save_vmcoreinfo and __create_page_tables",
        _address_bits("arch_crash_save_vmcoreinfo"),
    ),
    ("idmap_t0sz", "__cpu_suspend_exit and __create_page_tables", _early("__cpu_suspend_exit")),
    ("idmap_t0sz", "__cpu_setup and __create_page_tables", _early("__cpu_setup")),
    (
        "__boot_cpu_mode",
        "set_cpu_boot_mode_flag",
        lambda k, _: witnesses.lowest_pointer(k, "set_cpu_boot_mode_flag"),
    ),
    (
        "__boot_cpu_mode",
        "is_hyp_mode_available",
        lambda k, _: witnesses.lowest_pointer(k, "is_hyp_mode_available"),
    ),
    (
        "__boot_cpu_mode",
        "kvm_arch_init and swsusp_arch_resume",
        _reads("w", "kvm_arch_init", "swsusp_arch_resume"),
    ),
    ("kexec_crash_image", "kexec_crash_loaded", _reads("x", "kexec_crash_loaded")),
    ("kexec_crash_image", "crash_prepare_suspend", _reads("x", "crash_prepare_suspend")),
    ("__num_online_cpus", "page_writeback_cpu_online", _reads("w", "page_writeback_cpu_online")),
    ("__num_online_cpus", "_cpu_down", _reads("w", "_cpu_down")),
    (PHYSVIRT_OFFSET, "hyp_phys_to_virt", _reads("x", "__kvm_nvhe_hyp_phys_to_virt")),
    (PHYSVIRT_OFFSET, "hyp_virt_to_phys", _reads("x", "__kvm_nvhe_hyp_virt_to_phys")),
)
_LINEAR_MAP_USERS = ("__pmd_alloc", "__pud_alloc", "__pte_alloc_kernel", "arm64_memblock_init")


def find_globals(kernel: Kernel) -> Globals:
    """Return the globals that symbols or code outside of the functions under proof name.

    :raises UnsupportedError: if two functions name different places for one.
    """
    found = Globals(kernel.segments[0].address, folds_ttbr=witnesses.folds_addresses(kernel, "__enable_mmu"))
    for name in NAMES:
        symbol = kernel.symbol(name)
        if symbol is not None:
            found = found.with_(name, symbol.address, _SYMBOL)
    for name, function, look in _WITNESSES:
        if name in found and found.found_by[name] == _SYMBOL:
            continue
        places = look(kernel, found)
        if len(places) == 1:
            found = _agreed(found, name, places.pop(), function)
    # The word is signed where it has 32 bits: who reads it says how, and where it is its symbol says.
    readers = ("__cpu_suspend_exit", "cpu_enable_cnp", "machine_kexec")
    signed = {place for reader in readers for place in witnesses.words_read(kernel, reader, "signed")}
    if "idmap_t0sz" in found and found["idmap_t0sz"] in signed:
        found = replace(found, signed_words=frozenset({"idmap_t0sz"}))
    return replace(found, page_offset=_page_offset(kernel))


def _agreed(found: Globals, name: str, place: int, function: str) -> Globals:
    """Add what one more function says about the address of ``name``."""
    if name not in found:
        return found.with_(name, place, f"the code of {function}")
    if found[name] != place:
        first = f"at {found[name]:#x} by {found.found_by[name]}"
        raise UnsupportedError(f"kernel whose {name} is {first}, and at {place:#x} by the code of {function}")
    return found.with_(name, place, f"{found.found_by[name]} and of {function}")


def _page_offset(kernel: Kernel) -> int | None:
    """Return the linear map's start, by all functions that set addresses to be above it.

    :raises UnsupportedError: if they do not agree.
    """
    by_function = {f: witnesses.masks_set(kernel, f) & _LINEAR_MAPS for f in _LINEAR_MAP_USERS}
    said = {function: masks for function, masks in by_function.items() if masks}
    every = set().union(*said.values())
    if len(every) > 1:
        shown = ", ".join(f"{f}: {mask:#x}" for f, masks in said.items() for mask in sorted(masks))
        raise UnsupportedError(f"kernel whose functions differ on where its linear map starts ({shown})")
    return every.pop() if every else None
