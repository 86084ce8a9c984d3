"""The tables of what boot patches, in a small kernel built in code: read, applied, refused when damaged."""

from __future__ import annotations

import struct
from array import array
from dataclasses import replace

import pytest
from kexec_verify.errors import TargetError
from kexec_verify.target import Kernel, Segment, SymbolTable
from kexec_verify.target.patch_tables import BTI_C, CALLBACK, MOV_X9_X30, NOP, branch
from kexec_verify.target.patching import as_booted, read_patching
from kexec_verify.target.reaim import copied
from kexec_verify.target.symbols import ListedNames

BASE = 0xFFFF_8000_0800_0000
TEXT, REPLACEMENTS, CALLBACKS = BASE + 0x400, BASE + 0x800, BASE + 0xC00
ALTERNATIVES, JUMPS, TRACED, KEYS = BASE + 0x1004, BASE + 0x1200, BASE + 0x1300, BASE + 0x1400
FEATURES, ERRATA, TEXTS, WALKERS, PAIR = (
    BASE + 0x1500, BASE + 0x1800, BASE + 0x1B00, BASE + 0x1C00, BASE + 0x1D08,
)  # fmt: skip
ISB, RET, MOV = 0xD5033FDF, 0xD65F03C0, 0xAA0103E0  # isb; ret; mov x0, x1
ALWAYS, HAS_DIC, ERRATUM, NEVER = 1, 11, 41, 99
STRIDE = 64


class Builder:
    """The kernel's bytes, and its symbols."""

    def __init__(self, symbols: bool = True, before: bool = False):
        self.data = bytearray(0x2000)
        self.names: dict[str, int] = {}
        for at in range(TEXT, TEXT + 0x100, 4):
            self.word(at, MOV)
        first = 8 if before else 0  # NOPs before the entry
        for entry, pad in ((TEXT + 0x80, False), (TEXT + 0xC0, True)):
            words = [NOP] * (first // 4) + ([BTI_C] if pad else []) + [NOP, NOP]
            for row, word in enumerate(words):
                self.word(entry - first + 4 * row, word)
        self.words(REPLACEMENTS, ISB, RET)
        self.words(REPLACEMENTS + 0x20, branch(REPLACEMENTS + 0x20, TEXT + 0x40))
        # adrp x3, BASE + 0x1000; ldr x3, [x3]
        self.words(REPLACEMENTS + 0x30, 0xB0000003, 0xF9400063)
        self.entries: list[tuple[int, int, int, int, int]] = [
            # site, replacement, capability, both lengths
            (TEXT, REPLACEMENTS, HAS_DIC, 8, 8),
            (TEXT + 8, REPLACEMENTS + 0x20, ERRATUM, 4, 4),
            (TEXT + 0x10, CALLBACKS, CALLBACK | ALWAYS, 4, 0),
            (TEXT + 0x18, CALLBACKS + 0x40, CALLBACK | ALWAYS, 4, 0),
            (TEXT + 0x20, REPLACEMENTS, NEVER, 8, 8),
            (TEXT + 0x28, REPLACEMENTS, HAS_DIC, 0, 0),
            (TEXT + 0x30, REPLACEMENTS + 0x30, ERRATUM, 8, 8),
            (TEXT + 0x38, REPLACEMENTS, ALWAYS, 8, 8),
        ]
        self.jumps = [
            # site, target, key, likely
            (TEXT + 0x50, TEXT + 0x60, KEYS, False),
            (TEXT + 0x54, TEXT + 0x70, KEYS + 16, True),
        ]
        self.word(TEXT + 0x50, NOP)
        self.word(TEXT + 0x54, branch(TEXT + 0x54, TEXT + 0x70))
        self.traced = [0, 0, TEXT + 0x80 - first, TEXT + 0xC0 - first]
        self.rows = {
            FEATURES: [
                (None, ALWAYS, 0x24, "has_always"),
                ("LSE atomic instructions", 26, 2, "has_lse"),
                ("Instruction cache invalidation not required", HAS_DIC, 2, "has_cache_dic"),
                ("Common not Private translations", 13, 2, "has_lse"),
            ],
            ERRATA: [
                ("ARM erratum 843419", 30, 1, "is_affected"),
                ("Mismatched cache type", ERRATUM, 1, "is_affected"),
                ("Spectre-v2", 31, 1, "is_affected"),
            ],
        }
        self.names |= {"_text": BASE, "alt_cb_patch_nops": CALLBACKS, "makes_others": CALLBACKS + 0x40}
        self.names |= {"has_always": CALLBACKS + 0x80, "has_lse": CALLBACKS + 0x84}
        self.names |= {"has_cache_dic": CALLBACKS + 0x88, "is_affected": CALLBACKS + 0x8C}
        self.symbols = symbols

    def word(self, at: int, word: int) -> None:
        struct.pack_into("<I", self.data, at - BASE, word)

    def words(self, at: int, *words: int) -> None:
        for row, word in enumerate(words):
            self.word(at + 4 * row, word)

    def put(self, at: int, data: bytes) -> int:
        self.data[at - BASE : at - BASE + len(data)] = data
        return at + len(data)

    def kernel(self) -> Kernel:
        at = ALTERNATIVES
        for site, new, capability, size, new_size in self.entries:
            at = self.put(at, struct.pack("<iiHBB", site - at, new - at - 4, capability, size, new_size))
        ends = [at]
        at = JUMPS
        for code, target, key, likely in self.jumps:
            at = self.put(at, struct.pack("<iiq", code - at, target - at - 4, (key - at - 8) | likely))
        ends.append(at)
        at = TRACED
        for entry in self.traced:
            at = self.put(at, struct.pack("<Q", entry))
        ends.append(at)
        text = TEXTS
        for start, rows in self.rows.items():
            at = start
            for description, number, kind, found_by in rows:
                pointer = text if description else 0
                text = self.put(text, (description or "").encode() + b"\0")
                row = struct.pack("<QHHIQ", pointer, number, kind, 0, self.names[found_by])
                self.put(at, row)
                at += STRIDE
        starts = (ALTERNATIVES, JUMPS, TRACED)
        if self.symbols:
            names = (
                ("__alt_instructions", "__alt_instructions_end"),
                ("__start___jump_table", "__stop___jump_table"),
                ("__start_mcount_loc", "__stop_mcount_loc"),
            )
            for (first, last), start, end in zip(names, starts, ends, strict=True):
                self.names |= {first: start, last: end}
            self.names |= {"arm64_features": FEATURES, "arm64_errata": ERRATA}
        else:
            self.put(PAIR, struct.pack("<QQ", ALTERNATIVES, ends[0]))
            self._walk("apply_boot_alternatives", 0, PAIR)
            self._walk("jump_label_init", 1, JUMPS, ends[1])
            self._walk("ftrace_init", 2, TRACED, ends[2])
        names = sorted(self.names, key=self.names.__getitem__)
        return Kernel(
            "small", "small", "elf", "0" * 64, None, None, None, (Segment(BASE, bytes(self.data)),),
            SymbolTable(ListedNames(names), array("Q", (self.names[name] for name in names))),
        )  # fmt: skip

    def _walk(self, name: str, number: int, *addresses: int) -> None:
        """A function that forms *addresses* by adrp and add."""
        at = self.names[name] = WALKERS + 0x40 * number
        for register, address in enumerate(addresses):
            pages = (address >> 12) - (at >> 12)
            self.word(at, 0x90000000 | (pages & 3) << 29 | (pages >> 2) << 5 | register)
            self.word(at + 4, 0x91000000 | (address & 0xFFF) << 10 | register << 5 | register)
            at += 8
        self.word(at, RET)


def words(data: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(data) // 4}I", data))


@pytest.mark.parametrize("symbols", [True, False], ids=["symbols", "no symbols"])
def test_sites_and_choices(symbols):
    kernel = Builder(symbols).kernel()
    patching = read_patching(kernel)
    assert (len(patching.alternatives), len(patching.jumps), len(patching.traced)) == (8, 2, 2)
    found = patching.sites(kernel, TEXT, TEXT + 0x100)
    # Neither what has no row, nor what is always so and known, nor what has no bytes.
    assert [site.address - TEXT for site in found] == [0, 8, 0x18, 0x30, 0x50, 0x54]
    dic, erratum, callback, sanitised, key, likely = found
    assert words(dic.original) == [MOV, MOV] and words(dic.replacement) == [ISB, RET]
    assert dic.capability == HAS_DIC and dic.key is None
    assert words(erratum.replacement) == [branch(TEXT + 8, TEXT + 0x40)]
    assert callback.replacement is None and callback.callback == "makes_others"
    assert words(sanitised.replacement) == [0xB0000003, 0xF9400063]
    assert (key.key, words(key.original), words(key.replacement)) == (
        KEYS, [NOP], [branch(TEXT + 0x50, TEXT + 0x60)],
    )  # fmt: skip
    assert (words(likely.original), words(likely.replacement)) == ([branch(TEXT + 0x54, TEXT + 0x70)], [NOP])
    (row,) = patching.capabilities[HAS_DIC]
    assert (row.scope, row.found_by) == ("system", "has_cache_dic")
    assert patching.capabilities[ERRATUM][0].scope == "any CPU"
    assert [site.address for site in patching.sites(kernel, TEXT + 4, TEXT + 8)] == [TEXT]
    assert patching.sites(kernel, TEXT + 0x58, TEXT + 0x60) == []


@pytest.mark.parametrize("before", [False, True], ids=["at the entry", "before it"])
def test_what_every_boot_patches_is_applied(before):
    kernel = Builder(before=before).kernel()
    booted = as_booted(kernel)
    changed = {
        at - TEXT: struct.unpack("<I", booted.read(at, 4))[0]
        for at in range(BASE, BASE + 0x2000, 4)
        if booted.read(at, 4) != kernel.read(at, 4)
    }
    assert changed == {0x10: NOP, 0x38: ISB, 0x3C: RET, 0x80: MOV_X9_X30, 0xC4: MOV_X9_X30}
    assert booted.sha256 == kernel.sha256 and booted.patching is not None
    assert as_booted(booted).segments == booted.segments


def test_kernel_without_tables_has_no_sites():
    data = struct.pack("<4I", NOP, NOP, MOV, RET) * 512
    kernel = Kernel("small", "small", "elf", "0" * 64, None, None, None, (Segment(BASE, data),))
    assert read_patching(kernel).sites(kernel, BASE, BASE + len(data)) == []


def damaged(change) -> Kernel:
    builder = Builder()
    change(builder)
    return builder.kernel()


def entry(number: int, **fields: int):
    def change(builder: Builder) -> None:
        names = ("site", "new", "capability", "size", "new_size")
        known = dict(zip(names, builder.entries[number], strict=True)) | fields
        builder.entries[number] = tuple(known[name] for name in names)  # type: ignore[assignment]

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (entry(1, size=6, new_size=6), "to hold entries"),
        (entry(1, size=8), "to hold entries"),
        (entry(1, site=TEXT + 10), "to hold entries"),
        (entry(1, site=BASE - 0x400), "to hold entries"),
        (entry(1, capability=CALLBACK | ERRATUM), "to hold entries"),
        (entry(1, capability=0x1000), "to hold entries"),
        (entry(1, site=TEXT + 4), "overlap"),
        (entry(1, site=TEXT + 0x50), "overlap"),
        (entry(1, new=TEXT + 0x50), "a patch site in one"),
        (lambda b: b.jumps.append((TEXT + 0x60, TEXT + 0x70, KEYS, False)), "to hold entries"),
        (lambda b: b.word(TEXT + 0x54, branch(TEXT + 0x54, TEXT + 0x74)), "to hold entries"),
        (lambda b: b.traced.append(TEXT), "to hold entries"),
        (lambda b: b.word(TEXT + 0x84, MOV), "to hold entries"),
        (lambda b: b.rows.pop(ERRATA), "found none"),
    ],
)  # fmt: skip
def test_damaged_table_is_refused(change, told):
    with pytest.raises(TargetError, match=told):
        read_patching(damaged(change))


ELSEWHERE = BASE + 0x10_0000  # no bytes


def elsewhere(named: bool) -> Kernel:
    """A kernel that names functions which are not in the file, as objects do that are linked on their own."""
    builder = Builder()
    entry(3, new=ELSEWHERE)(builder)
    builder.names |= {"has_lse": ELSEWHERE + 0x40}
    builder.names["makes_others"] = ELSEWHERE
    kernel = builder.kernel()
    return kernel if named else moved(moved(kernel, "makes_others", 4), "has_lse", 4)


def test_functions_that_are_not_in_the_file_have_a_symbol():
    kernel = elsewhere(True)
    (site,) = [s for s in read_patching(kernel).sites(kernel, BASE, BASE + 0x2000) if s.callback]
    assert (site.callback, site.replacement) == ("makes_others", None)


def test_functions_that_are_not_in_the_file_and_have_no_symbol_are_refused():
    with pytest.raises(TargetError):
        read_patching(elsewhere(False))


def test_replacement_that_is_not_in_the_file_is_refused_with_a_symbol_too():
    def change(builder: Builder) -> None:
        entry(0, new=ELSEWHERE)(builder)
        builder.names["makes_others"] = ELSEWHERE

    with pytest.raises(TargetError, match="to hold entries"):
        read_patching(damaged(change))


def moved(kernel: Kernel, symbol: str, by: int) -> Kernel:
    names = [s.name for s in kernel.symbols]
    at = array("Q", (s.address + (by if s.name == symbol else 0) for s in kernel.symbols))
    return replace(kernel, symbols=SymbolTable(ListedNames(names), at))


@pytest.mark.parametrize(
    ("symbol", "by"),
    [
        ("__alt_instructions", 12), ("__alt_instructions_end", -12), ("__alt_instructions_end", -4),
        ("__alt_instructions_end", 12), ("__stop___jump_table", -16), ("__stop_mcount_loc", -8),
    ],
)  # fmt: skip
def test_symbols_that_cut_a_table_short_are_refused(symbol, by):
    with pytest.raises(TargetError, match=r"expected (the table|alternatives)"):
        read_patching(moved(Builder().kernel(), symbol, by))


def test_table_that_only_one_way_bounds_is_refused():
    kernel = Builder(symbols=False).kernel()
    names = [s for s in kernel.symbols if s.name != "apply_boot_alternatives"]
    with_other = [replace(s, name="apply_alternatives_all") if s.name == "ftrace_init" else s for s in names]
    table = SymbolTable(
        ListedNames([s.name for s in with_other]), array("Q", (s.address for s in with_other))
    )
    with pytest.raises(TargetError, match="two ways that agree on the bounds of the alternatives"):
        read_patching(replace(kernel, symbols=table))


def test_replacement_that_refers_to_its_own_place_is_refused():
    kernel = damaged(lambda b: b.word(REPLACEMENTS, 0x10000000))  # adr x0, .
    with pytest.raises(TargetError, match="near itself"):
        read_patching(kernel).sites(kernel, TEXT, TEXT + 4)


@pytest.mark.parametrize(
    ("word", "moved_word"),
    [
        (0x94000010, 0x94000110),  # bl
        (0x54000201, 0x54002201),  # b.ne
        (0xB5000200, 0xB5002200),  # cbnz
        (0x36000200, 0x36002200),  # tbz
        (0x54000021, 0x54000021),  # within the replacement
        (0x90000003, 0x90000003),  # adrp of the same page
        (MOV, MOV),
    ],
)
def test_copied_branches_keep_their_targets(word, moved_word):
    builder = Builder()
    builder.words(REPLACEMENTS, word, RET)
    kernel = builder.kernel()
    assert words(copied(kernel, REPLACEMENTS, TEXT, 8)) == [moved_word, RET]


def test_copied_branch_that_does_not_reach_is_refused():
    builder = Builder()
    builder.word(REPLACEMENTS, 0x36000000 | 0x1FFF << 5)  # tbz, almost 32 KiB ahead
    with pytest.raises(TargetError, match="reaches"):
        copied(builder.kernel(), REPLACEMENTS, TEXT, 4)
