"""The shipped images of the whole path: what is in them, and runs from post_load to the new kernel."""

from __future__ import annotations

import ctypes
import hashlib
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path

import capstone
import pytest
import unicorn
from elftools.elf.elffile import ELFFile
from unicorn import arm64_const as arm64

from tests.corpus_build import load_build

BINARIES = Path(__file__).resolve().parents[2] / "binaries"
MANIFEST = json.loads((BINARIES / "manifest.json").read_text())
IMAGES = [BINARIES / entry["file"] for entry in MANIFEST["whole"]]

PAGE = 4096
DESTINATION, INDIRECTION, DONE, SOURCE = 1, 2, 4, 8
HEAD, START, CONTROL_CODE_PAGE, NR_SEGMENTS, SEGMENTS, DTB_MEM = 0, 24, 32, 56, 64, 648
KERN_RELOC, EL2_VECTORS, TTBR0 = 656, 664, 672
KIMAGE_SIZE = 768

IN_COMMON = {
    "machine_kexec": "STT_FUNC",
    "machine_kexec_post_load": "STT_FUNC",
    "arm64_relocate_new_kernel": "STT_FUNC",
    "cpu_do_switch_mm": "STT_FUNC",
    "memcpy": "STT_FUNC",
    "cpus_are_stuck_in_kernel": "STT_FUNC",
    "smp_crash_stop_failed": "STT_FUNC",
    "__hyp_set_vectors": "STT_FUNC",
    "el1_sync": "STT_FUNC",
    "__hyp_stub_vectors": "STT_OBJECT",
    "kimage_voffset": "STT_OBJECT",
    "memstart_addr": "STT_OBJECT",
    "idmap_pg_dir": "STT_OBJECT",
    "swapper_pg_dir": "STT_OBJECT",
    "reserved_pg_dir": "STT_OBJECT",
    "kexec_crash_image": "STT_OBJECT",
    "__boot_cpu_mode": "STT_OBJECT",
}
IN_SEED = IN_COMMON | {
    "__cpu_soft_restart": "STT_FUNC",
    "__flush_dcache_area": "STT_FUNC",
    "flush_icache_range": "STT_FUNC",
    "caches_clean_inval_pou": "STT_FUNC",
    "arm64_relocate_new_kernel_size": "STT_OBJECT",
    "idmap_t0sz": "STT_OBJECT",
}
SYMBOLS = {
    "seed-before": IN_SEED,
    "seed-after": IN_SEED | {"is_hyp_callable": "STT_FUNC"},
    "later": IN_COMMON
    | {
        "cpu_soft_restart": "STT_FUNC",
        "is_hyp_nvhe": "STT_FUNC",
        "cpu_set_reserved_ttbr0_nosync": "STT_FUNC",
        "dcache_clean_inval_poc": "STT_FUNC",
        "icache_inval_pou": "STT_FUNC",
        "caches_clean_inval_pou": "STT_FUNC",
        "trans_pgd_copy_el2_vectors": "STT_FUNC",
        "trans_pgd_create_copy": "STT_FUNC",
        "trans_pgd_idmap_page": "STT_FUNC",
        "trans_pgd_stub_vectors": "STT_OBJECT",
        "empty_zero_page": "STT_OBJECT",
    },
}


def state_of(path: Path) -> str:
    return path.name.partition("-4k-")[0]


@dataclass
class Image:
    """An ELF file's loaded bytes from its lowest address on, its symbols and its code."""

    state: str
    base: int
    content: bytes
    symbols: dict[str, tuple[int, int, str]]
    text: tuple[int, bytes]

    @classmethod
    def read(cls, path: Path) -> Image:
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            loaded = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
            base = min(segment["p_vaddr"] for segment in loaded)
            end = max(segment["p_vaddr"] + segment["p_memsz"] for segment in loaded)
            content = bytearray(end - base)
            for segment in loaded:
                at = segment["p_vaddr"] - base
                content[at : at + segment["p_filesz"]] = segment.data()
            symbols = {
                symbol.name: (symbol["st_value"], symbol["st_size"], symbol["st_info"]["type"])
                for symbol in elf.get_section_by_name(".symtab").iter_symbols()
                if symbol.name and symbol["st_info"]["type"] != "STT_FILE"
            }
            text = elf.get_section_by_name(".text")
            return cls(state_of(path), base, bytes(content), symbols, (text["sh_addr"], text.data()))

    def address(self, name: str) -> int:
        return self.symbols[name][0]

    def code(self, name: str) -> bytes:
        at, size, _ = self.symbols[name]
        return self.content[at - self.base : at - self.base + size]


# Where the run has things. RAM is seen at its physical address and through the linear map.
RAM, RAM_SIZE = 0x4000_0000, 0x40_0000
IMAGE_AT = 0x4800_0000
PAGE_OFFSET = 0xFFFF_0000_0000_0000
VMEMMAP_START = -(1 << 42) % (1 << 64)
START_AT, DTB = 0x6000_0040, 0x4_1234_5000
RETURN_AT = 0x7000_0000

KIMAGE, CONTROL, LIST, SEGMENT, SOURCES, STACK_TOP, TASK, POOL = (
    RAM + n * PAGE for n in (1, 2, 3, 16, 32, 64, 65, 80)
)
SEGMENT_SIZES = (3 * PAGE, PAGE)


def linear(physical: int) -> int:
    return physical - RAM + PAGE_OFFSET


def struct_page(physical: int) -> int:
    return VMEMMAP_START + (physical - RAM) // PAGE * 64


# Instructions that leave a mark, by their word without the register.
MARKS = {
    0xD50B7E20: "dc civac",
    0xD5087620: "dc ivac",
    0xD50B7B20: "dc cvau",
    0xD50B7520: "ic ivau",
    0xD5087500: "ic iallu",
    0xD5088700: "tlbi vmalle1",
}
HVC, BLR = 0xD4000002, 0xD63F0000

# System registers as Unicorn takes them: CRn, CRm, op0, op1, op2.
TCR = (2, 0, 3, 0, 2)
CTR = (0, 0, 3, 3, 1)
SP_EL0 = (4, 1, 3, 0, 0)


@dataclass
class Run:
    """One machine with an image, a kimage and what was seen on the way."""

    image: Image
    in_place: bool
    el2: bool
    marks: list[tuple[str, int]] = field(default_factory=list)
    hypercalls: list[list[int]] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cpu = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        size = -(-len(self.image.content) // PAGE) * PAGE
        self.ram = ctypes.create_string_buffer(RAM_SIZE)
        self.kernel = ctypes.create_string_buffer(self.image.content, size)
        for at, length, memory in (
            (RAM, RAM_SIZE, self.ram),
            (linear(RAM), RAM_SIZE, self.ram),
            (IMAGE_AT, size, self.kernel),
            (self.image.base, size, self.kernel),
        ):
            # One memory at two addresses is what the MMU would make of it.
            self.cpu.mem_map_ptr(at, length, unicorn.UC_PROT_ALL, memory)
        for at in (START_AT, RETURN_AT):
            self.cpu.mem_map(at & -PAGE, PAGE)
        self.vectors = self.physical("__hyp_stub_vectors")
        self.set_up()
        self.cpu.hook_add(unicorn.UC_HOOK_CODE, self.step)

    def physical(self, name: str) -> int:
        return self.image.address(name) - self.image.base + IMAGE_AT

    def put(self, at: int, *words: int) -> None:
        self.cpu.mem_write(at, struct.pack(f"<{len(words)}Q", *words))

    def get(self, at: int) -> int:
        return struct.unpack("<Q", self.cpu.mem_read(at, 8))[0]

    def set_up(self) -> None:
        address = self.image.address
        self.put(address("kimage_voffset"), self.image.base - IMAGE_AT)
        self.put(address("memstart_addr"), RAM)
        mode = 0xE12 if self.el2 else 0xE11
        self.cpu.mem_write(address("__boot_cpu_mode"), struct.pack("<II", mode, mode))
        if self.image.state == "later":
            self.put(address("control_pages"), *(struct_page(POOL + n * PAGE) for n in range(8)))

        head = DONE if self.in_place else LIST | INDIRECTION
        words = {HEAD: head, START: START_AT, CONTROL_CODE_PAGE: struct_page(CONTROL), DTB_MEM: DTB}
        words[NR_SEGMENTS] = len(SEGMENT_SIZES)
        at = SEGMENT
        entries = []
        source = SOURCES
        for n, size in enumerate(SEGMENT_SIZES):
            words |= {SEGMENTS + 32 * n + 16: at, SEGMENTS + 32 * n + 24: size}
            entries.append(at | DESTINATION)
            for _ in range(size // PAGE):
                self.put(source, *(source + 8 * slot for slot in range(PAGE // 8)))
                entries.append(source | SOURCE)
                source += PAGE
            # A gap between the segments.
            at += size + PAGE
        for offset, word in words.items():
            self.put(KIMAGE + offset, word)
        self.put(LIST, *entries, DONE)

        # The stack protector's value lies off the current task, which is in sp_el0.
        self.system(SP_EL0, TASK)
        # T0SZ = 25 and some bits that have to stay.
        self.tcr_before = 0x5_0050_0019
        self.system(TCR, self.tcr_before)
        # EL1 with its own stack pointer and no exception masked.
        self.cpu.reg_write(arm64.UC_ARM64_REG_PSTATE, 5)

    def system(self, register: tuple[int, ...], value: int | None = None) -> int:
        if value is None:
            return self.cpu.reg_read(arm64.UC_ARM64_REG_CP_REG, register)
        self.cpu.reg_write(arm64.UC_ARM64_REG_CP_REG, (*register, value))
        return value

    def x(self, n: int) -> int:
        return self.cpu.reg_read(getattr(arm64, f"UC_ARM64_REG_X{n}"))

    def in_kernel(self, at: int) -> bool:
        return self.image.base <= at < self.image.base + len(self.kernel)

    def step(self, cpu: unicorn.Uc, at: int, _size: int, _data: object) -> None:
        word = struct.unpack("<I", cpu.mem_read(at, 4))[0]
        mark = MARKS.get(word & ~31)
        if mark is not None:
            self.marks.append((mark, self.x(word & 31) if word & 31 != 31 else 0))
        elif word & ~(31 << 5) == BLR and self.in_kernel(at) and not self.in_kernel(self.x(word >> 5 & 31)):
            self.note_call_out(self.x(word >> 5 & 31))
        elif word == HVC:
            self.hypercalls.append([self.x(n) for n in range(5)])
            self.answer(at)

    def note_call_out(self, target: int) -> None:
        """Remember the state of the machine as the kernel leaves its own addresses."""
        assert not self.left, "the kernel is left once"
        self.left = {"to": target, "tlbi": sum(mark == "tlbi vmalle1" for mark, _ in self.marks)}
        self.left["ttbr0"] = self.cpu.reg_read(arm64.UC_ARM64_REG_TTBR0_EL1)
        self.left["tcr"] = self.system(TCR)
        self.left["daif"] = self.cpu.reg_read(arm64.UC_ARM64_REG_PSTATE) >> 6 & 15

    def answer(self, at: int) -> None:
        """Be EL2 as far as Unicorn has none: change the vectors, or go on in them."""
        call, argument = self.hypercalls[-1][:2]
        next_at = at + 4
        if call == 0:
            self.vectors = argument
        elif call == 1:
            next_at = self.vectors + 0x400
        self.cpu.reg_write(arm64.UC_ARM64_REG_X0, call if call == 1 else 0)
        self.cpu.reg_write(arm64.UC_ARM64_REG_PC, next_at)

    def call(self, name: str, until: int) -> None:
        self.marks.clear()
        self.cpu.reg_write(arm64.UC_ARM64_REG_SP, linear(STACK_TOP))
        self.cpu.reg_write(arm64.UC_ARM64_REG_LR, RETURN_AT)
        self.cpu.reg_write(arm64.UC_ARM64_REG_X0, linear(KIMAGE))
        self.cpu.emu_start(self.image.address(name), until, timeout=20_000_000)
        assert self.cpu.reg_read(arm64.UC_ARM64_REG_PC) == until, f"{name} ended elsewhere"

    def covered(self, mark: str, at: int, size: int) -> bool:
        """Whether `mark` was left on every line of a range."""
        line = 4 << (self.system(CTR) >> 16 & 15)
        seen = {address & -line for name, address in self.marks if name == mark}
        return all(each in seen for each in range(at & -line, at + size, line))


def check_run(image: Image, in_place: bool, el2: bool) -> None:
    """Load and leave as a kernel would; assert what kexec promises at each stage."""
    state = image.state
    run = Run(image, in_place, el2)
    routine = image.code("arm64_relocate_new_kernel")
    segments = [SEGMENT, SEGMENT + SEGMENT_SIZES[0] + PAGE]
    ram_before = bytes(run.ram)

    run.call("machine_kexec_post_load", RETURN_AT)
    assert run.x(0) & 0xFFFF_FFFF == 0
    copied = state == "seed-before" or not in_place
    assert run.get(KIMAGE + KERN_RELOC) == (CONTROL if copied else 0)
    assert bytes(run.cpu.mem_read(CONTROL, len(routine))) == (routine if copied else bytes(len(routine)))
    if copied:
        assert run.covered("dc civac", linear(CONTROL), len(routine))
        assert run.covered("ic ivau", linear(CONTROL), len(routine))
    if in_place:
        for at, size in zip(segments, SEGMENT_SIZES, strict=True):
            assert run.covered("dc civac", linear(at), size)
            # Not far past it: an end taken for a size would be.
            assert not run.covered("dc civac", linear(at) + size, PAGE)
    elif state != "later":
        assert run.covered("dc civac", linear(LIST), 8)
        assert run.covered("dc civac", linear(SOURCES), PAGE)
    assert run.get(KIMAGE + EL2_VECTORS) == (POOL if state == "later" and el2 and not in_place else 0)

    run.call("machine_kexec", START_AT)
    restart = "cpu_soft_restart" if state == "later" else "__cpu_soft_restart"
    to_routine = state == "later" and not in_place
    assert run.left.get("to") == (CONTROL if to_routine else run.physical(restart))
    assert run.left["ttbr0"] == (run.get(KIMAGE + TTBR0) if to_routine else run.physical("idmap_pg_dir"))
    assert run.left["tcr"] == run.tcr_before & ~63 | 16
    assert run.left["daif"] == 15
    assert run.left["tlbi"] == 1

    calls = []
    if el2 and to_routine:
        calls = [[0, POOL], [1, START_AT, DTB, 0, 0]]
    elif el2 and (in_place and state != "seed-before"):
        calls = [[1, START_AT, DTB, 0, 0]]
    elif el2:
        head = DONE if in_place else LIST | INDIRECTION
        calls = [[1, CONTROL, head, START_AT, DTB]]
    assert [call[: len(wanted)] for call, wanted in zip(run.hypercalls, calls, strict=True)] == calls
    assert [run.x(n) for n in range(4)] == [DTB, 0, 0, 0]
    invalidates = state == "seed-before" or not in_place
    assert any(mark == "ic iallu" for mark, _ in run.marks) == invalidates

    if in_place:
        at, size = segments[0] - RAM, segments[-1] + SEGMENT_SIZES[-1] - segments[0]
        assert bytes(run.ram)[at : at + size] == ram_before[at : at + size]
        return
    source = SOURCES
    for at, size in zip(segments, SEGMENT_SIZES, strict=True):
        assert run.cpu.mem_read(at, size) == run.cpu.mem_read(source, size)
        source += size


@pytest.fixture(params=IMAGES, ids=lambda path: path.stem)
def image_path(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_manifest_names_every_image():
    build = load_build()
    expected = {
        f"whole/{state}-{size}-{compiler}.elf"
        for state in build.WHOLE_STATES
        for size in build.WHOLE_PAGE_SIZES
        for compiler in build.TOOLCHAINS
    }
    assert {entry["file"] for entry in MANIFEST["whole"]} == expected
    assert {f"whole/{path.name}" for path in (BINARIES / "whole").iterdir()} == expected


def test_manifest_tells_the_kinds_apart():
    assert {entry["kind"] for entry in MANIFEST["binaries"]} == {"routine"}
    assert {entry["kind"] for entry in MANIFEST["whole"]} == {"whole"}


def test_hashes():
    for entry in MANIFEST["whole"]:
        assert hashlib.sha256((BINARIES / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]


def test_image_has_its_symbols(image_path):
    image = Image.read(image_path)
    for name, kind in SYMBOLS[image.state].items():
        _, size, found = image.symbols[name]
        assert (found, size > 0) == (kind, True), name
    assert image.symbols["machine_kexec"][0] == ELFFile(image_path.open("rb"))["e_entry"]
    assert image_path.stat().st_size < 20 * 1024


def test_image_names_no_machine(image_path):
    content = image_path.read_bytes()
    assert not any(word in content for word in (b"/tmp", b"/home", b"/work", b"/root", b"ziglang"))


def test_routine_is_the_one_that_ships_alone(image_path):
    """The routine is compiled from the same source as its form's own binary, and is the same code."""
    build = load_build()
    variant, _ = build.WHOLE_STATES[state_of(image_path)]
    alone = BINARIES / image_path.name.replace(state_of(image_path), variant, 1)
    name = "arm64_relocate_new_kernel"
    assert Image.read(image_path).code(name) == Image.read(alone).code(name)


def test_image_uses_no_vector_register(image_path):
    address, code = Image.read(image_path).text
    disassembler = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
    disassembler.detail = True
    disassembler.skipdata = True
    for instruction in disassembler.disasm(code, address):
        if instruction.id == 0:
            # Only what pads may be no instruction.
            assert not any(instruction.bytes), instruction
            continue
        read, written = instruction.regs_access()
        names = {instruction.reg_name(register) for register in (*read, *written)}
        assert not any(name[0] in "qdvshb" and name[1:].isdigit() for name in names), instruction


@pytest.mark.parametrize("el2", [False, True], ids=["el1", "el2"])
@pytest.mark.parametrize("in_place", [True, False], ids=["in-place", "relocating"])
def test_image_reaches_the_new_kernel(image_path, in_place, el2):
    check_run(Image.read(image_path), in_place, el2)


def notices(image: Image) -> bool:
    """Whether some run of `image` breaks what kexec promises."""
    for in_place in (True, False):
        for el2 in (False, True):
            try:
                check_run(image, in_place, el2)
            except (AssertionError, ValueError, unicorn.UcError):
                return True
    return False


@pytest.mark.toolchain
@pytest.mark.mutant
def test_faults_show_in_a_run(require_tool, tmp_path):
    """Every wrong version is wrong: no number stands for code that behaves as the right one does."""
    build = load_build()
    require_tool("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")
    require_tool("aarch64-linux-gnu-ld", "binutils-aarch64-linux-gnu")
    toolchain = build.gcc()
    built = build.build_whole(tmp_path, toolchain)
    right = {entry["form"]: tmp_path / Path(entry["file"]).name for entry in built}
    for path in right.values():
        assert not notices(Image.read(path))
    quiet = []
    for fault, states in build.FAULTS.items():
        for entry in build.build_whole(tmp_path, toolchain, states, fault):
            path = tmp_path / Path(entry["file"]).name
            assert path.read_bytes() != right[entry["form"]].read_bytes()
            if not notices(Image.read(path)):
                quiet.append(path.name)
    assert not quiet


@pytest.mark.toolchain
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_sources_give_the_same_bytes_again(compiler, require_tool, tmp_path):
    build = load_build()
    if compiler == "gcc":
        require_tool("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")
        require_tool("aarch64-linux-gnu-ld", "binutils-aarch64-linux-gnu")
    toolchain = build.TOOLCHAINS[compiler]()
    expected = [entry for entry in MANIFEST["whole"] if entry["compiler"] == compiler]
    for key in ("compiler_version", "linker_version"):
        recorded = {entry[key] for entry in expected}
        if recorded != {getattr(toolchain, key)}:
            pytest.skip(f"the corpus was built with {recorded}, here is {getattr(toolchain, key)}")
    entries = build.build_whole(tmp_path, toolchain)
    assert sorted(entries, key=lambda entry: entry["file"]) == expected
    for entry in expected:
        assert (tmp_path / Path(entry["file"]).name).read_bytes() == (BINARIES / entry["file"]).read_bytes()
