"""Small kernels built in code: ELF files and Images with kallsyms tables in every known order."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

BASE = 0xFFFF_8000_0800_0000
BANNER = b"Linux version 6.1.0-56-arm64 (somebody@somewhere) #1 SMP\n\0"
BUILD_ID = bytes(range(20))
NOTE = struct.pack("<III4s", 4, 20, 3, b"GNU\0") + BUILD_ID
TABLES_AT = 0x4000
ORDERS = ("6.1", "6.3", "6.12", "newest", "7.0", "7.0 at 4 mod 8")
RELOCATE_AT = 0x3400


def aligned(data: bytes, to: int = 8) -> bytes:
    return data + bytes(-len(data) % to)


def symbols(count: int = 600) -> list[tuple[str, int]]:
    """Names with their type letter, and offsets from the Image's start."""
    known = [("T_text", 0), ("T_stext", 0x40), ("Tmachine_kexec_post_load", 0x100)]
    rest = [(f"tsymbol_number_{row}", 0x200 + 8 * row) for row in range(count - len(known) - 1)]
    # Longer than 127 codes: its length takes two bytes.
    long = [("T" + "Xy" * 90, 0x3F00)]
    return known + rest + long


def compress(names: list[str]) -> tuple[list[bytes], list[bytes]]:
    """Return the 256 tokens, and each name in codes."""
    tokens = [bytes([code]) if 0x21 <= code < 0x7F else b"" for code in range(256)]
    tokens[0x80], tokens[0x81], tokens[3] = b"symbol_", b"number_", b"machine_"
    codes = []
    for name in names:
        text = name.encode()
        for code in (0x80, 0x81, 3):
            text = text.replace(tokens[code], bytes([code]))
        codes.append(text)
    return tokens, codes


def kallsyms(
    order: str, at: int, base: int, relocated: bool, table: list[tuple[str, int]]
) -> tuple[bytes, int]:
    """Return the tables as they stand at offset *at*, and the offset of relative_base or -1."""
    to = 4 if order.startswith("7.0") else 8
    lead = bytes(4) if order == "7.0 at 4 mod 8" else b""
    at += len(lead)
    tokens, codes = compress([name for name, _ in table])
    names, markers = b"", []
    for row, code in enumerate(codes):
        if row % 256 == 0:
            markers.append(len(names))
        size = len(code)
        names += (bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])) + code
    index, text = [], b""
    for token in tokens:
        index.append(len(text))
        text += token + b"\0"
    seqs = b"".join(row.to_bytes(3, "big") for row in range(len(table)))
    head = aligned(struct.pack("<I", len(table)), to) + aligned(names, to)
    head += aligned(struct.pack(f"<{len(markers)}I", *markers), to)
    tail = aligned(text, to) + struct.pack("<256H", *index)
    first = table[0][1]
    offsets = aligned(struct.pack(f"<{len(table)}I", *(offset - first for _, offset in table)))
    word = struct.pack("<Q", 0 if relocated else base + first)
    if order in ("6.1", "6.3"):
        seqs = aligned(seqs) if order == "6.3" else b""
        return offsets + word + head + seqs + tail, at + len(offsets)
    if order == "6.12":
        blob = head + tail + offsets
        return blob + word + seqs, at + len(blob)
    start = at + len(head + tail)
    places = [offset - (start + 4 * row) for row, (_, offset) in enumerate(table)]
    return lead + head + tail + aligned(struct.pack(f"<{len(table)}i", *places), to) + seqs, -1


def address_of(register: int, here: int, there: int) -> list[int]:
    """The words of ``adrp`` and ``add``, which stand at *here*, for the address *there*."""
    pages = (there >> 12) - (here >> 12)
    return [
        0x90000000 | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5 | register,
        0x91000000 | (there & 0xFFF) << 10 | register << 5 | register,
    ]


def relocate(variant: str, at: int, start: int, end: int) -> bytes:
    """The code at *at* that applies the relocations from *start* to *end*, in one of three forms.

    ``asm`` is __relocate_kernel up to 6.8, ``c`` what compilers make of relocate_kernel() from 6.9;
    ``offsets`` is __relocate_kernel up to 5.11, where *start* counts from KIMAGE_VADDR.
    """
    if variant == "c":
        code = [*address_of(1, at, start), *address_of(2, at + 8, end)]
        code += [0xEB02003F, 0x54000043, 0xD65F03C0]  # cmp x1, x2; b.lo 1f; ret
        code += [0xB9400823, 0xF1100C7F, 0x540000A1]  # 1: ldr w3, [x1, #8]; cmp x3, #0x403; b.ne 2f
        code += [0xF9400024, 0xF9400823, 0x8B000063, 0xF8206883]  # ldr, ldr, add, str
        code += [0x91006021, 0x17FFFFF5]  # 2: add x1, x1, #24; b to the cmp
        return struct.pack(f"<{len(code)}I", *code)
    loop = [0xEB0A013F, 0x54000102]  # 0: cmp x9, x10; b.hs 1f
    loop += [0xA8C1B52C, 0xF85F812E, 0x71100DBF]  # ldp x12, x13, [x9], #24; ldur x14, [x9, #-8]; cmp w13
    loop += [0x54FFFF61, 0x8B1701CE, 0xF837698E, 0x17FFFFF8, 0xD65F03C0]  # b.ne 0b; add; str; b 0b; 1: ret
    if variant == "asm":
        code = [*address_of(9, at, start), *address_of(10, at + 8, end), *loop]
        return struct.pack(f"<{len(code)}I", *code)
    code = [0x18000000 | 17 << 5 | 9, 0x18000000 | 17 << 5 | 10]  # ldr w9, =offset; ldr w10, =size
    code += [
        0xD2800000 | 3 << 21 | (BASE >> 48) << 5 | 11,
        0xF2800000 | 2 << 21 | (BASE >> 32 & 0xFFFF) << 5 | 11,
    ]
    code += [0xF2800000 | 1 << 21 | (BASE >> 16 & 0xFFFF) << 5 | 11]  # mov x11, KIMAGE_VADDR
    code += [
        0x8B17016B,
        0x8B0B0129,
        0x8B0A012A,
        *loop[:-1],
    ]  # add x11, x11, x23; add x9, x9, x11; add x10, x9, x10
    return struct.pack(f"<{len(code) + 2}I", *code, start, end - start)


def relocate_packed(at: int, start: int, end: int, packed_end: int) -> bytes:
    """The code at *at* that applies Elf64_Rela entries, and the RELR table behind them, as from 6.12."""
    code = [*address_of(1, at, start), *address_of(2, at + 8, end)]
    code += [0xEB02003F, 0x54000063, 0xB5000160, 0xD65F03C0]  # cmp x1, x2; b.lo 1f; cbnz x0, 3f; ret
    code += [0xB9400823, 0xF1100C7F, 0x540000A1]  # 1: ldr w3, [x1, #8]; cmp x3, #0x403; b.ne 2f
    code += [0xF9400024, 0xF9400823, 0x8B000063, 0xF8206883]  # ldr, ldr, add, str
    code += [0x91006021, 0x17FFFFF4]  # 2: add x1, x1, #24; b to the cmp
    here = at + 4 * len(code)
    code += [*address_of(2, here, end), *address_of(5, here + 8, packed_end)]  # 3: the second loop's bounds
    code += [0xEB05005F, 0x54000063, 0xD65F03C0]  # cmp x2, x5; b.lo; ret
    return struct.pack(f"<{len(code)}I", *code)


def pack(places: list[int]) -> bytes:
    """The RELR table of *places*, which are in order."""
    entries: list[int] = []
    reach = None
    for place in places:
        ahead = None if reach is None else place - reach
        if ahead is not None and 0 <= ahead < 8 * 63 and ahead % 8 == 0:
            if entries[-1] % 2 == 0:
                entries.append(1)
            entries[-1] |= 2 << ahead // 8
            continue
        entries.append(place)
        reach = place + 8
    return struct.pack(f"<{len(entries) + 1}Q", *entries, 1)  # linkers fill up with empty maps


def packed_image(
    order: str = "7.0",
    table=None,
    entries: list[tuple[int, int]] | None = None,
    behind: int = 0,
    code: bool = True,
) -> bytes:
    """An Image that few Elf64_Rela entries and a RELR table relocate, as Debian's from 6.16 on.

    :param entries: offsets of the words that the RELR table names and the offsets that they point at; 0
        leaves a word 0.
    :param behind: how many zeros the Image ends with.
    """
    table = table or symbols()
    entries = entries if entries is not None else PACKED
    tables, _ = kallsyms(order, TABLES_AT, BASE, False, table)
    body = bytearray(TABLES_AT)
    struct.pack_into("<2s6xQQQ24x4s", body, 0, b"MZ", 0, 0x200000 + behind, 0xA, b"ARM\x64")
    body[0x3000 : 0x3000 + len(BANNER)] = BANNER
    for place, value in entries:
        struct.pack_into("<Q", body, place, value and BASE + value)
    body += aligned(tables)
    start = len(body)
    for row in range(7):
        body += struct.pack("<QQQ", BASE + 0x1000 + 8 * row, 0x403, BASE + 0x200 + 8 * row)
    end = len(body)
    body += pack([BASE + place for place, _ in entries])
    if code:
        words = relocate_packed(RELOCATE_AT, start, end, len(body))
        body[RELOCATE_AT : RELOCATE_AT + len(words)] = words
    return bytes(body + bytes(64 + behind))


# Some of them in packed structures, one of a weak function that is not there.
PACKED = [(0x2000 + 8 * row, 0x200 + 8 * row) for row in range(100)]
PACKED += [(0x2600, 0x100), (0x260C, 0x40), (0x2616, 0x208), (0x2620, 0)]


def image(
    order: str = "6.12",
    relocated: bool = True,
    flags: int = 0xA,
    table=None,
    base: int = BASE,
    code: str | None = "asm",
    text_offset: int = 0,
) -> bytes:
    """An Image whose relocated words, when it has any, are zero and named by Elf64_Rela entries.

    :param code: which form the code that applies them has, or None without any.
    """
    table = table or symbols()
    tables, base_at = kallsyms(order, TABLES_AT, base, relocated, table)
    body = bytearray(TABLES_AT)
    struct.pack_into("<2s6xQQQ24x4s", body, 0, b"MZ", text_offset, 0x200000, flags, b"ARM\x64")
    body[0x3000 : 0x3000 + len(BANNER)] = BANNER
    body[0x3100 : 0x3100 + len(NOTE)] = NOTE
    body += aligned(tables)
    if relocated:
        entries = [(0x2000 + 8 * row, table[row][1]) for row in range(40)]
        if base_at >= 0:
            entries.append((base_at, table[0][1]))
        bounds = (len(body), len(body) + 24 * len(entries))
        if code is not None:
            words = relocate(code, RELOCATE_AT, *(b + text_offset * (code == "offsets") for b in bounds))
            body[RELOCATE_AT : RELOCATE_AT + len(words)] = words
        for place, value in entries:
            body += struct.pack("<QQQ", base + place, 0x403, base + value)
    return bytes(body + bytes(64))


@dataclass
class Elf:
    """The parts of a small ELF file; every field can be set to something wrong."""

    segments: list[tuple[int, bytes]] = field(default_factory=lambda: [(BASE, b"\xc0\x03\x5f\xd6" * 64)])
    symbols: list[tuple[str, int, int, int, int]] = field(default_factory=list)  # name value size info shndx
    rela: list[tuple[int, int, int]] = field(default_factory=list)
    notes: bytes = NOTE
    machine: int = 183
    type: int = 2
    elf_class: int = 2
    encoding: int = 1
    physical: list[int] | None = None  # of each segment; by default its virtual address
    offsets: list[int] | None = None  # of each segment in the file, from its first one
    room: list[int] | None = None  # of each segment in memory, in bytes
    rela_at: int = 0  # the address of the section with *rela*

    def build(self) -> bytes:
        programs = len(self.segments) + 1
        at = 64 + 56 * programs
        table, blobs = b"", b""
        for row, (address, data) in enumerate([*self.segments, (0, self.notes)]):
            kind = 4 if row == len(self.segments) else 1
            physical = self.physical[row] if self.physical and kind == 1 else address
            offset = self.offsets[row] if self.offsets and kind == 1 else len(blobs)
            room = self.room[row] if self.room and kind == 1 else len(data)
            table += struct.pack("<IIQQQQQQ", kind, 7, at + offset, address, physical, len(data), room, 8)
            blobs += aligned(data)
        strings, entries = b"\0", bytes(24)
        for name, value, size, info, place in self.symbols:
            entries += struct.pack("<IBBHQQ", len(strings), info, 0, place, value, size)
            strings += name.encode() + b"\0"
        rela = b"".join(struct.pack("<QQQ", *entry) for entry in self.rela)
        sections = bytes(64)
        tables = ((2, 0, 2, 0, entries), (3, 0, 0, 0, strings), (4, 2, 0, self.rela_at, rela))
        for kind, flags, link, address, data in tables:
            sections += struct.pack(
                "<IIQQQQIIQQ", 0, kind, flags, address, at + len(blobs), len(data), link, 0, 8, 24
            )
            blobs += aligned(data)
        header = struct.pack(
            "<4sBBB9xHHIQQQIHHHHHH", b"\x7fELF", self.elf_class, self.encoding, 1, self.type, self.machine, 1,
            0, 64, at + len(blobs), 0, 64, 56, programs, 64, 4, 0,
        )  # fmt: skip
        return header + table + blobs + sections


def zboot(payload: bytes, kind: bytes = b"gzip") -> bytes:
    header = struct.pack("<4s4sII8x32s", b"MZ\0\0", b"zimg", 64, len(payload), kind)
    return header.ljust(64, b"\0") + payload


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """The builders, and the facts that they build in."""
    return SimpleNamespace(
        image=image,
        elf=Elf,
        zboot=zboot,
        packed_image=packed_image,
        relocate_packed=relocate_packed,
        pack=pack,
        packed=PACKED,
        kallsyms=kallsyms,
        relocate=relocate,
        relocate_at=RELOCATE_AT,
        symbols=symbols,
        note=NOTE,
        build_id=BUILD_ID.hex(),
        base=BASE,
        tables_at=TABLES_AT,
        orders=ORDERS,
    )
