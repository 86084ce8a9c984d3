"""The calls by which boot maps the linear map: those not seen are UNSUPPORTED, and wrong ones are refuted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.locate import find_function
from kexec_verify.kexec.protections import Protections
from kexec_verify.prove.discharge import Discharger
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.specs.page_tables import MAPPERS, SET_FIXMAP
from kexec_verify.target import Kernel, open_target
from kexec_verify.verdict import Verdict

from tests.unit.kexec.test_context import NOP, call

pytestmark = pytest.mark.kernel

BOOT = "paging_init"
MOVK, DIRTY_AND_XN, XN = 0xF2E00000, 0xE8 << 5, 0x68 << 5  # movk xN, #bits 48 to 63, lsl #48


@pytest.fixture(scope="module")
def kernel(require_tool: Callable[[str, str], str]) -> Kernel:
    require_tool("apt-get", "apt")
    return open_target("debian:linux-image-6.12.117+deb12-arm64")


def failing(kernel: Kernel) -> list[int | None]:
    """The calls whose protection is not proved to be right."""
    discharger = Discharger()
    proof = Protections(KexecContext(kernel, KimageLayout(648), 4096), discharger.decide)
    results = discharger.discharge(proof.prove())
    assert results
    return [r.obligation.at for r in results if r.verdict is not Verdict.PROVED]


def with_words(kernel: Kernel, change: Callable[[int, int], int]) -> Kernel:
    """The kernel with each word of paging_init as ``change`` makes it, of its address and the word."""
    code = find_function(kernel, BOOT)
    for at in range(code.address, code.end, 4):
        old = int.from_bytes(kernel.read(at, 4), "little")
        new = change(at, old)
        if new != old:
            kernel = kernel.patched(at, new.to_bytes(4, "little"))
    return kernel


def in_place_of_calls(kernel: Kernel, new: Callable[[int], int]) -> Kernel:
    """The kernel in which paging_init has another instruction for each call that makes entries."""
    mappers = [symbol.address for name in MAPPERS if (symbol := kernel.symbol(name)) is not None]

    def change(at: int, word: int) -> int:
        return new(at) if word in [call(at, mapper) for mapper in mappers] else word

    changed = with_words(kernel, change)
    assert changed != kernel
    return changed


def test_each_call_is_proved(kernel: Kernel):
    assert failing(kernel) == []


def test_protection_without_dirty_is_not_proved(kernel: Kernel):
    wrong = with_words(kernel, lambda at, w: w & ~0x1FFFE0 | XN if w & ~0x1F == MOVK | DIRTY_AND_XN else w)
    assert wrong != kernel
    code = find_function(kernel, BOOT)
    assert all(code.address <= (at or 0) < code.end for at in failing(wrong))
    assert failing(wrong)


def test_kernel_in_which_boot_calls_no_such_function_is_refused(kernel: Kernel):
    with pytest.raises(UnsupportedError, match=r"no call in paging_init .* that maps the linear map"):
        failing(in_place_of_calls(kernel, lambda at: NOP))


def test_boot_that_accesses_tables_itself_is_refused(kernel: Kernel):
    fixmap = kernel.symbol(SET_FIXMAP)
    assert fixmap is not None
    done: list[int] = []

    def once(at: int) -> int:
        done.append(at)
        return call(at, fixmap.address) if len(done) == 1 else int.from_bytes(kernel.read(at, 4), "little")

    with pytest.raises(UnsupportedError, match="paging_init that accesses tables itself"):
        failing(in_place_of_calls(kernel, once))


def test_protection_that_is_not_known_is_refused(kernel: Kernel):
    """It is loaded from memory, as no kernel does: that it may be wrong refutes nothing."""
    loads = 0xF9400084  # ldr x4, [x4], where movk is

    def change(at: int, word: int) -> int:
        return loads if word & ~0x1F == MOVK | DIRTY_AND_XN else word

    with pytest.raises(UnsupportedError, match="a protection that is not known"):
        failing(with_words(kernel, change))
