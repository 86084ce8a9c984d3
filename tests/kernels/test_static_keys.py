"""Static keys in Debian's machine_kexec_post_load: faults that only a kernel with a key set runs."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from fnmatch import fnmatch

import pytest
from kexec_verify.arm64.lift import Code
from kexec_verify.kexec.abi_variant import recognise
from kexec_verify.kexec.composition import Composition
from kexec_verify.kexec.locate import find_routine
from kexec_verify.kexec.patch_sites import as_linked
from kexec_verify.kexec.post_load import NAME
from kexec_verify.prove.discharge import Discharger
from kexec_verify.refute.functions.record import CallCounterexample, rerun
from kexec_verify.refute.functions.search import refute
from kexec_verify.target import Kernel, open_target
from kexec_verify.target.patching import as_booted
from kexec_verify.verdict import Verdict

pytestmark = pytest.mark.kernel

PACKAGE = "debian:linux-image-6.1.0-56-arm64"
HYP, FIRST, EACH = 0x54, 0x200, 0x238  # where the keys of protected KVM and of two pr_debug decide
ARM_OF_FIRST, ARM_OF_EACH = 0x2DC, 0x280  # the code that runs if one of the latter is set


@pytest.fixture(scope="module")
def kernel(require_tool: Callable[[str, str], str]) -> Kernel:
    require_tool("apt-get", "apt")
    return open_target(PACKAGE)


def start(kernel: Kernel) -> int:
    symbol = kernel.symbol(NAME)
    assert symbol is not None
    return symbol.address


def with_word(kernel: Kernel, offset: int, word: int) -> Kernel:
    return kernel.patched(start(kernel) + offset, struct.pack("<I", word))


def with_target(kernel: Kernel, site: int, target: int) -> Kernel:
    """The kernel whose table of static keys says that the branch at ``site`` goes to ``target``."""
    assert kernel.patching is not None
    (entry,) = (jump for jump in kernel.patching.jumps if jump.code == start(kernel) + site)
    moved = start(kernel) + target - entry.at - 4
    return as_booted(kernel.patched(entry.at + 4, struct.pack("<i", moved)))


def with_key_of(kernel: Kernel, site: int, other: int) -> Kernel:
    """The kernel in whose table the key that decides at ``site`` is the one that decides at ``other``."""
    assert kernel.patching is not None
    found = {jump.code: jump for jump in kernel.patching.jumps}
    entry, key = found[start(kernel) + site], found[start(kernel) + other].key
    return as_booted(kernel.patched(entry.at + 8, struct.pack("<q", key - entry.at - 8 | entry.likely)))


def composed(kernel: Kernel) -> Composition:
    routine = find_routine(kernel)
    variant = recognise(Code(routine.name, routine.address, routine.code), kernel.page_size)
    found = Composition(kernel, variant, routine, Discharger().decide, choices=True)
    found._attempt(NAME, found._post_load)
    return found


def shown(kernel: Kernel, names: str) -> CallCounterexample:
    """The first run that breaks one of the obligations called ``names``."""
    part = composed(kernel).parts[NAME]
    assert part.proof is not None
    owed = [o for o in part.obligations if fnmatch(o.name, names)]
    for result in Discharger().discharge(owed):
        if result.verdict is not Verdict.PROVED:
            found = refute(part.proof, result, "post-load-effects")
            if found is not None:
                return found
    raise AssertionError(f"nothing is refuted; {part.trouble}")


FAULTS = {
    # str xzr, [x20, #0x38]: nr_segments becomes 0.
    "first debug arm": (lambda k: with_word(k, ARM_OF_FIRST + 0x10, 0xF9001E9F), "pl-store", {FIRST}),
    # sub x19, x19, #32: an iteration reads the segment before.
    "arm in the loop": (lambda k: with_word(k, ARM_OF_EACH + 4, 0xD1008273), "pl-access", {EACH}),
    # The branch skips the segments' flush.
    "wrong target": (lambda k: with_target(k, FIRST, 0x268), "pl-segments-clean", {FIRST}),
    # Of another key nothing says that the hyp stub is installed where it is set.
    "another key": (lambda k: with_key_of(k, HYP, EACH), "pl-tables", {HYP}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_that_runs_where_a_key_is_set_is_refuted_with_the_key(kernel: Kernel, fault: str):
    change, names, sites = FAULTS[fault]
    broken = change(kernel)
    found = shown(broken, names)
    assert {at for at, _ in found.patched} == {start(kernel) + site for site in sites}
    assert {choice.partition("@")[2] for choice in found.choices} == {
        kernel.where(start(kernel) + site) for site in sites
    }
    # The file's bytes and the record are enough to run it again.
    assert rerun(json.loads(json.dumps(found.as_dict())), broken.read) == found


def test_harmless_change_behind_a_key_is_proved(kernel: Kernel):
    changed = with_word(kernel, ARM_OF_EACH + 4, 0xD2800002)  # mov x2, #0: another number is printed
    composition = composed(changed)
    part = composition.parts[NAME]
    assert part.trouble is None
    wrong = [r for r in Discharger().discharge(part.obligations) if r.verdict is not Verdict.PROVED]
    assert [result.obligation.sentence for result in wrong] == []
    assert part.code is not None
    assert as_linked(changed, part.code.addresses, composition.proved_both_ways) is None


@pytest.mark.parametrize(
    ("offset", "word", "names"),
    [(0x258, 0xD503201F, "pl-segments-clean"), (HYP + 0xC, 0x1400005F, "pl-tables")],
    ids=["no flush", "no vectors"],
)
def test_fault_that_runs_whatever_the_keys_are_is_shown_as_linked(
    kernel: Kernel, offset: int, word: int, names: str
):
    found = shown(with_word(kernel, offset, word), names)
    assert found.choices == () and found.patched == ()
