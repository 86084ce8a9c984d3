"""Structure layouts from BTF, on blobs built here."""

import contextlib
import struct

import pytest
from kexec_verify.errors import TargetError
from kexec_verify.kexec.layout import stated_layout
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.target.btf import member_offsets
from kexec_verify.target.kernel import Kernel, Segment

FIELDS = ["dtb", "dtb_mem", "kern_reloc", "el2_vectors", "ttbr0", "ttbr1", "zero_page", "phys_offset", "t0sz"]
GENERIC = {"head": 0, "start": 24, "control_code_page": 32, "nr_segments": 56, "segment": 64}
STRUCT, INT, FUNC_PROTO, ENUM = 4, 1, 13, 6


class Builder:
    """Collects types and strings of one blob."""

    def __init__(self):
        self.types, self.strings = b"", b"\0"

    def string(self, text: str) -> int:
        self.strings += text.encode() + b"\0"
        return len(self.strings) - len(text) - 1

    def type(self, kind: int, count: int, tail: bytes, name: str = "") -> None:
        self.types += struct.pack("<III", self.string(name), kind << 24 | count, 0) + tail

    def structure(self, name: str, members: dict[str, int]) -> None:
        tail = b"".join(struct.pack("<III", self.string(m), 1, 8 * at) for m, at in members.items())
        self.type(STRUCT, len(members), tail, name)

    def blob(self) -> bytes:
        padding = b"\0" * (-len(self.types) % 4)
        while len(self.types) < 1 << 16:  # the kernel's own blob is large
            self.type(INT, 0, struct.pack("<I", 0x20), "int")
        header = struct.pack(
            "<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self.types), len(self.types), len(self.strings)
        )
        return header + self.types + self.strings + padding


def kernel(data: bytes) -> Kernel:
    segment = Segment(0xFFFF800008000000, b"\0" * 64 + data + b"\0" * 64)
    return Kernel(
        name="k",
        source="k",
        format="elf",
        sha256="0" * 64,
        build_id=None,
        version=None,
        page_size=None,
        segments=(segment,),
        symbols=(),
    )


def kimage(arch_at: int = 640, order: list[str] = FIELDS) -> bytes:
    build = Builder()
    build.type(ENUM, 2, b"\0" * 16, "colour")
    build.type(FUNC_PROTO, 3, b"\0" * 24)
    build.structure("kimage", {**GENERIC, "arch": arch_at})
    build.structure("kimage_arch", {name: 8 * i for i, name in enumerate(order)})
    return build.blob()


def test_members_of_a_structure_behind_other_kinds_of_type():
    assert member_offsets(kernel(kimage()), "kimage") == {**GENERIC, "arch": 640}


def test_layout_of_struct_kimage():
    assert stated_layout(kernel(kimage(768))) == KimageLayout(776)


def test_fields_out_of_order_are_an_error():
    swapped = [*FIELDS[:5], "zero_page", "ttbr1", *FIELDS[7:]]
    with pytest.raises(TargetError, match="in a row"):
        stated_layout(kernel(kimage(order=swapped)))


def test_a_kernel_without_btf_states_no_layout():
    assert stated_layout(kernel(b"\x9f\xeb\x01\x00" * 9)) is None


def test_damage_never_loops_or_raises_anything_else():
    good = kimage()
    for at in range(0, 400, 7):
        damaged = good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :]
        with contextlib.suppress(TargetError):
            stated_layout(kernel(damaged))


def test_magic_all_over_a_kernel_is_refused():
    data = b"\x9f\xeb\x01\x00" * (1 << 17)
    kernel = Kernel("k", "k", "elf", "0", None, None, 4096, (Segment(1 << 63, data),))
    with pytest.raises(TargetError, match="k: expected one BTF blob, found its magic 65537 times"):
        member_offsets(kernel, "kimage")
