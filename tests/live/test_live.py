"""A real kernel under QEMU: what the proofs assume holds, and a guest that a debugger changes is caught."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kexec_verify.live.initramfs import archive_of, userland
from kexec_verify.live.loaded import Kimage
from kexec_verify.live.packages import open_archives
from kexec_verify.live.placement import Linked, Placement, linked
from kexec_verify.live.prepared import routine_tables
from kexec_verify.live.run import boot_image
from kexec_verify.live.session import Change, attempt
from kexec_verify.live.session import Session as LiveSession
from kexec_verify.live.stop import Stop
from kexec_verify.report.live_model import Configuration, Seen
from kexec_verify.specs.kimage import IND_DONE, IND_SOURCE
from kexec_verify.specs.kvm_vectors import STUB_HANDLER
from kexec_verify.target import load_kernel, read_target
from kexec_verify.target.debian import PREFIX, newest

pytestmark = [pytest.mark.live, pytest.mark.kernel, pytest.mark.slow]
LIMIT = 600.0
_MASK = (1 << 64) - 1


@dataclass
class Bench:
    """One kernel, ready to be booted any number of times."""

    where: Linked
    image: Path
    initrd: Path

    def run(self, level: str, mode: str, change: Change | None = None, cpu: str = "") -> Configuration:
        return attempt(
            LiveSession(self.where, self.image, self.initrd, level, mode, cpu, LIMIT, None, change)
        )


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str, str], str]) -> Bench:
    return prepared("6.1", tmp_path_factory, require_tool)


@pytest.fixture(scope="module")
def bench_with_kvm(
    tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str, str], str]
) -> Bench:
    """A kernel that enables KVM at boot, so that a crash finds KVM's vectors at EL2."""
    return prepared("6.12", tmp_path_factory, require_tool)


def prepared(
    series: str, tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str, str], str]
) -> Bench:
    require_tool("qemu-system-aarch64", "qemu-system-arm")
    name = newest(series)
    assert name is not None
    data, _ = read_target(f"{PREFIX}{name}")
    kernel = load_kernel(data, f"{PREFIX}{name}", name)
    image = boot_image(data, name)
    folder = tmp_path_factory.mktemp("live")
    paths = folder / "Image", folder / "initramfs"
    content = archive_of(userland(open_archives()).files.items(), image)
    assert content == archive_of(userland(open_archives()).files.items(), image)
    for path, data in zip(paths, (image, content), strict=True):
        path.write_bytes(data)
    return Bench(linked(kernel), *paths)


def false(found: Configuration) -> set[str]:
    """The sentences that are false: identifiers of assumptions, and conclusions in words."""
    told = {check.assumption or check.what for check in found.checks if check.seen is Seen.FALSE}
    return told


@pytest.mark.parametrize(
    ("level", "mode"), [("el1", "load"), ("nvhe", "load"), ("vhe", "load"), ("nvhe", "crash")]
)
def test_what_the_proofs_assume_holds(bench, level, mode):
    found = bench.run(level, mode)
    assert (found.outcome, found.reason, false(found)) == ("entered", "", set())
    held = {check.assumption for check in found.checks if check.seen is Seen.HELD}
    assert {"mmu-on", "globals-found", "kimage-kept", "machine-quiet", "nr-segments"} <= held
    if mode == "load":
        assert {"list-well-formed", "linear-map-copied", "callees-by-contract", "list-defined"} <= held
    else:
        assert {"segments-apart", "segments-kept-clean", "little-endian"} <= held
    assert ("stub-below-answers" in held) == (level == "nvhe")


def test_a_crash_with_kvm_at_el2_enters_as_proved(bench_with_kvm):
    found = bench_with_kvm.run("nvhe", "crash")
    assert (found.outcome, found.reason, false(found)) == ("entered", "", set())
    held = {check.assumption for check in found.checks if check.seen is Seen.HELD}
    assert {"stub-below-answers", "kvm-at-el2"} <= held


def patches_kvm(place: Placement, stop: Stop, kimage: Kimage) -> None:
    """An instruction of KVM's handler that moves an argument becomes a nop."""
    start = place.address(STUB_HANDLER)
    code = place.kernel.read(start, 0x34)
    at = next(i for i in range(0, len(code), 4) if code[i : i + 4] == struct.pack("<I", 0xAA0203E0))
    place.guest.write(place.image_to_phys(start + at), struct.pack("<I", 0xD503201F))


def test_a_wrong_instruction_of_kvm_is_caught(bench_with_kvm):
    told = false(bench_with_kvm.run("nvhe", "crash", patches_kvm))
    assert {
        "patched-as-tables-say",
        "where kimage->start is entered, x0 is dtb_mem and x1 to x3 are 0",
    } <= told


def list_pages(place: Placement, kimage: Kimage) -> Iterator[tuple[int, int]]:
    """Physical address and value of each word in the first page of the list."""
    page = place.linked.page_size
    start = kimage["head"] & -page
    for at in range(start, start + page, 8):
        yield at, place.guest.word(at)


def repeats_destination(place: Placement, stop: Stop, kimage: Kimage) -> None:
    """Two SOURCE words of the list get one destination: a later word becomes the first DESTINATION."""
    words = list(list_pages(place, kimage))
    first = next(word for _, word in words if word & 15 == 1)
    at = [at for at, word in words if word & 15 == IND_SOURCE][2]
    place.guest.write(at, struct.pack("<Q", first))


def names_two_flags(place: Placement, stop: Stop, kimage: Kimage) -> None:
    """A SOURCE word gets a second flag."""
    at, word = next(pair for pair in list_pages(place, kimage) if pair[1] & IND_SOURCE)
    place.guest.write(at, struct.pack("<Q", word | 2))


def protects_destinations(place: Placement, stop: Stop, kimage: Kimage) -> None:
    """The copy of the linear map makes every page of the first destination's table read-only."""
    tables = routine_tables(place, stop, kimage)
    first = next(word for _, word in list_pages(place, kimage) if word & 15 == 1) & -place.linked.page_size
    leaf = tables.walk((first - kimage["phys_offset"]) & _MASK)
    assert leaf is not None
    at, value = _entry(place, tables.pages, leaf.descriptor)
    place.guest.write(at, struct.pack("<Q", value | 1 << 7))


def writes_to_the_control_page(place: Placement, stop: Stop, kimage: Kimage) -> None:
    """The last word of the routine's page changes. The routine runs on: a guest that hangs takes minutes."""
    last = kimage["kern_reloc"] + place.linked.page_size - 4
    place.guest.gdb.write(place.phys_to_linear(last), struct.pack("<I", 0xD503201F))


def patches_machine_kexec(place: Placement, stop: Stop, kimage: Kimage) -> None:
    """An instruction at the end of machine_kexec, which is not reached, becomes a nop."""
    code = place.context.code("machine_kexec")
    place.guest.gdb.write(code.end - 4, struct.pack("<I", 0xD5033F9F))


def sets_done(place: Placement, stop: Stop, kimage: Kimage) -> None:
    """kimage->head gets IND_DONE, as if the image were in place."""
    place.guest.gdb.write(
        kimage.address + place.linked.layout.head, struct.pack("<Q", kimage["head"] | IND_DONE)
    )


def moves_vectors(place: Placement, stop: Stop, kimage: Kimage) -> None:
    """The first instruction of the hyp stub's vectors changes."""
    place.guest.write(stop.register("vbar_el2"), struct.pack("<I", 0xD503201F))


@pytest.mark.parametrize(
    ("change", "caught"),
    [
        (repeats_destination, "list-well-formed"),
        (names_two_flags, "list-one-flag"),
        (protects_destinations, "kimage->start is entered"),
        (writes_to_the_control_page, "control-page-kept"),
        (sets_done, "kimage-kept"),
        (moves_vectors, "stub-below-answers"),
    ],
)
def test_a_doctored_guest_is_caught_by_the_check_that_it_breaks(bench, change: Change, caught: str):
    assert caught in false(bench.run("nvhe", "load", change))


def test_a_patched_instruction_is_told_with_its_place(bench):
    found = bench.run("el1", "load", patches_machine_kexec)
    changed = [
        record for record in found.differences if record.where.startswith("machine_kexec+") and not record.why
    ]
    assert [(record.running, record.linked != record.running) for record in changed] == [("dsb sy", True)]


def test_a_guest_that_dies_is_a_result(bench):
    found = bench.run("el1", "load", protects_destinations)
    assert (found.outcome, found.death is not None) == ("died", True)
    assert found.death is not None
    assert found.death.registers["esr_el1"] >> 26 in (0x21, 0x25)  # an abort, of a fetch or of data
    assert "pages were copied before it" in found.death.word
    assert "read-only" in found.death.entry


def test_a_kernel_that_faults_while_it_loads_is_a_result(bench_with_kvm):
    """6.12 with 52-bit addresses (LPA2): see docs/findings.md."""
    found = bench_with_kvm.run("el1", "load", cpu="max")
    assert found.outcome == "died" and found.death is None
    assert found.reason.startswith("Unable to handle kernel paging request")
    assert ", at trans_pgd_create_copy+" in found.reason
    assert false(found) == {"callees-by-contract"}


def _entry(place: Placement, pages: set[int], descriptor: int) -> tuple[int, int]:
    """Where the table is that has this descriptor, and the descriptor."""
    wanted = struct.pack("<Q", descriptor)
    for table in sorted(pages):
        data = place.guest.read(table, place.linked.page_size)
        for offset in range(0, len(data), 8):
            if data[offset : offset + 8] == wanted:
                return table + offset, descriptor
    raise AssertionError(f"no table has {descriptor:#x}")
