"""Debian's kernels: fetched with apt, opened, their routine found, written out and opened again."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from kexec_verify.kexec.locate import find_function, find_routine
from kexec_verify.target import Kernel, debian, open_target, write_elf

pytestmark = pytest.mark.kernel

# Series, flavour, page size, and the suite where it is not one of the host's.
KERNELS = [
    ("6.1", "arm64", 4096, None),
    ("6.12", "arm64", 4096, None),
    ("6.12", "arm64-16k", 16384, None),
    ("5.10", "cloud-arm64", 4096, "bullseye"),
    ("6.16", "cloud-arm64", 4096, "trixie-backports"),
    ("6.17", "cloud-arm64", 4096, "trixie-backports"),
    ("6.18", "cloud-arm64", 4096, "trixie-backports"),
    ("6.19", "arm64-16k", 16384, "trixie-backports"),
    ("7.0", "cloud-arm64", 4096, "trixie-backports"),
    ("7.1", "arm64-16k", 16384, "trixie-backports"),
    ("7.2", "rt-arm64", 4096, "trixie-backports"),
    ("7.3", "arm64", 4096, "trixie-backports"),
]
IC_IALLU = struct.pack("<I", 0xD508751F)
BR = 0xD61F0000


@pytest.fixture(params=KERNELS, ids=lambda param: "-".join(param[:2]))
def opened(request, require_tool: Callable[[str, str], str]) -> tuple[Kernel, int]:
    """The newest kernel of a series and flavour, and the page size that its flavour stands for."""
    for tool, package in (("apt-get", "apt"), ("dpkg-deb", "dpkg")):
        require_tool(tool, package)
    series, flavour, page_size, suite = request.param
    package = debian.newest(series, flavour, suite)
    if package is None:
        pytest.skip(f"the suites hold no {flavour} kernel of {series}")
    return open_target(debian.in_suite(f"debian:{package}", suite)), page_size


def test_routine_is_found_where_the_kernel_copies_it_from(opened):
    kernel, page_size = opened
    routine = find_routine(kernel)
    assert kernel.page_size == page_size
    assert kernel.version in kernel.name
    assert routine.copied_from == routine.address
    # Padding, or what alternatives put in, may follow the routine in the copy.
    assert routine.copied_size is not None and 0 <= routine.copied_size - len(routine.code) <= 16
    assert IC_IALLU in routine.code
    assert struct.unpack("<I", routine.code[-4:])[0] & ~0x3E0 == BR
    restart = next(name for name in ("cpu_soft_restart", "__cpu_soft_restart") if kernel.symbol(name))
    assert find_function(kernel, restart).code
    assert find_function(kernel, "machine_kexec").code


def test_patched_kernel_is_written_out_and_read_back(opened, tmp_path):
    kernel, _ = opened
    routine = find_routine(kernel)
    at = routine.address + routine.code.index(IC_IALLU)
    path = tmp_path / "patched"
    write_elf(kernel.patched(at, struct.pack("<I", 0xD503201F)), path)
    again = open_target(str(path))
    assert find_routine(again).code == routine.code.replace(IC_IALLU, struct.pack("<I", 0xD503201F))
    assert find_routine(again).address == routine.address
    assert len(again.symbols) == len(kernel.symbols)
    assert (again.version, again.page_size) == (kernel.version, kernel.page_size)
