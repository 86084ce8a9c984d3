"""A change of what machine_kexec_post_load prepares is refuted by a run; what is the same is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from kexec_verify.diff.prepared import PREPARED, refuted_preparation
from kexec_verify.diff.side import Side
from kexec_verify.kexec.abi_variant import recognise
from kexec_verify.kexec.composition import Composition
from kexec_verify.kexec.post_load import NAME as POST_LOAD
from kexec_verify.prove.discharge import Discharger, decide
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.target import open_target
from kexec_verify.verdict import Verdict

FILE = Path(__file__).resolve().parents[3] / "binaries" / "whole" / "later-4k-gcc.elf"
LAYOUT = KimageLayout(648)
XZR = 31


def side(label: str, kernel) -> Side:
    """A kernel of which only what PREPARED names is proved."""
    found = Side(label, kernel)
    variant = recognise(found.code, 4096, LAYOUT)
    found.composition = Composition(kernel, variant, found.routine, decide)
    found.composition._attempt(POST_LOAD, found.composition._post_load)
    assert found.post_load is not None
    owed = [o for o in found.post_load.obligations if o.name == PREPARED[0]]
    found.results = Discharger().discharge(owed)
    return found


@pytest.fixture(scope="module")
def sound() -> Side:
    return side("OLD", open_target(str(FILE)))


def with_wrong_kern_reloc(kernel):
    """The kernel with 0 stored to kern_reloc wherever a register is."""
    symbol = kernel.symbol("machine_kexec_post_load")
    code = kernel.read(symbol.address, symbol.size)
    for at in range(0, len(code), 4):
        word = int.from_bytes(code[at : at + 4], "little")
        # STR (immediate, unsigned offset) of 64 bits: Arm ARM, C6.2.317.
        if word >> 22 == 0b11_1110_0100 and (word >> 10 & 0xFFF) * 8 == LAYOUT.kern_reloc:
            kernel = kernel.patched(symbol.address + at, (word | XZR).to_bytes(4, "little"))
    return kernel


def test_a_wrong_kern_reloc_is_refuted_with_inputs(sound):
    wrong = side("NEW", with_wrong_kern_reloc(sound.kernel))
    assert wrong.kernel.sha256 != sound.kernel.sha256
    (query,) = refuted_preparation(sound, wrong)
    assert query.verdict is Verdict.REFUTED and query.model
    assert query.sentence.startswith("NEW: machine_kexec_post_load+0x")
    assert query.sentence.endswith("OLD is proved to do it")
    (query,) = refuted_preparation(wrong, sound)
    assert query.sentence.startswith("NEW: ")
    # If neither does it, the run shows no difference.
    assert refuted_preparation(wrong, wrong) == []


def test_the_same_preparation_is_not_refuted(sound):
    assert refuted_preparation(sound, sound) == []
