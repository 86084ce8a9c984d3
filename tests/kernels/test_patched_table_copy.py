"""What boot patches in Debian's trans_pgd_create_copy by 52-bit addresses (LPA2): proved for each choice."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from kexec_verify.arm64.lift import Code
from kexec_verify.kexec.abi_variant import recognise
from kexec_verify.kexec.composition import Composition
from kexec_verify.kexec.locate import find_routine
from kexec_verify.kexec.patch_sites import as_linked
from kexec_verify.kexec.tables import NAME
from kexec_verify.prove.discharge import Discharger
from kexec_verify.target import Kernel, open_target
from kexec_verify.verdict import Verdict

from tests.obligations import troubles

pytestmark = pytest.mark.kernel

ARM = 0x114  # runs where LPA2 is used, and nowhere else
STORES = 0xF9000293  # str x19, [x20]: an address becomes an entry
FMOV = 0x1E604000  # fmov d0, d0: no model


@pytest.fixture(scope="module")
def kernel(require_tool: Callable[[str, str], str]) -> Kernel:
    require_tool("apt-get", "apt")
    return open_target("debian:linux-image-6.12.117+deb12-arm64")


def composed(kernel: Kernel, choices: bool = True) -> tuple[Composition, set[str]]:
    """The parts of the table copy, one for each choice, and the obligations that are not proved."""
    routine, discharger = find_routine(kernel), Discharger()
    code = Code(routine.name, routine.address, routine.code)
    variant = recognise(code, kernel.page_size)
    found = Composition(kernel, variant, routine, discharger.decide, choices=choices)
    found._attempt(NAME, found._tables)
    results = discharger.discharge([o for part in found.parts.values() for o in part.obligations])
    return found, {r.obligation.name for r in results if r.verdict is not Verdict.PROVED}


def with_word(kernel: Kernel, word: int) -> Kernel:
    symbol = kernel.symbol(NAME)
    assert symbol is not None
    return kernel.patched(symbol.address + ARM, struct.pack("<I", word))


def test_copy_is_proved_for_each_choice(kernel: Kernel):
    composition, wrong = composed(kernel)
    parts = composition.parts.values()
    assert len(parts) == 2 and all(part.trouble is None for part in parts)
    assert wrong == set() and troubles(composition) == []
    covered = frozenset().union(*(part.covered for part in parts))
    assert as_linked(kernel, covered, composition.proved_both_ways) is None
    linked, _ = composed(kernel, choices=False)
    assert linked.parts[NAME].covered < covered
    assert "HAS_VA52" in str(as_linked(kernel, covered, linked.proved_both_ways))


def test_a_choice_is_the_same_at_every_site(debian_kernel: Callable[[str], Kernel]):
    """With 16 KiB pages a copy is wrong that is one way at one site and the other at another."""
    composition, wrong = composed(debian_kernel("linux-image-6.12.*[0-9]-arm64-16k"))
    assert len(composition.parts) == 2 and wrong == set()


def test_fault_that_only_a_patched_kernel_runs_is_not_proved(kernel: Kernel):
    broken = with_word(kernel, STORES)
    _, wrong = composed(broken)
    assert wrong & {"tables-leaf", "tables-table"}
    assert composed(broken, choices=False)[1] == set()  # as it is linked nothing runs it


def test_what_cannot_be_executed_is_not_proved(kernel: Kernel):
    composition, wrong = composed(with_word(kernel, FMOV))
    assert wrong == set()
    assert troubles(composition)
