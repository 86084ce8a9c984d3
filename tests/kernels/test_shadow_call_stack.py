"""Kernels that keep return addresses on a shadow call stack: a wrong push or pop is not proved."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.locate import find_routine
from kexec_verify.kexec.post_load import PostLoad
from kexec_verify.prove.discharge import Discharger, decide
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.target import Kernel, open_target
from kexec_verify.verdict import Verdict

from tests.corpus_build import load_build

PUSH, POP = 0xF800865E, 0xF85F8E5E  # str x30, [x18], #8 and ldr x30, [x18, #-8]!
NOP, COPY = 0xD503201F, 0xAA1203E9  # mov x9, x18
FLAGS = ("-fsanitize=shadow-call-stack", "-ffixed-x18", "-mbranch-protection=none")
ASKED = ("pl-returns", "pl-access", "pl-store")

pytestmark = pytest.mark.toolchain


@pytest.fixture(scope="module")
def kernel(tmp_path_factory) -> Kernel:
    build = load_build()
    try:
        toolchain = build.gcc()
    except build.BuildError as error:
        pytest.skip(str(error))
    toolchain = replace(toolchain, whole_flags=(*toolchain.whole_flags, *FLAGS))
    out = tmp_path_factory.mktemp("scs")
    build.build_whole(out, toolchain, ["later"])
    (path,) = out.glob("*.elf")
    return open_target(str(path))


def proved(kernel: Kernel) -> bool:
    """Whether post_load returns as it must, and accesses only what it may."""
    proof = PostLoad(KexecContext(kernel, KimageLayout(648), 4096), decide, find_routine(kernel), False, True)
    try:
        proof.prove()
    except UnsupportedError:
        return False
    asked = [obligation for obligation in proof.obligations if obligation.name in ASKED]
    assert {obligation.name for obligation in asked} == set(ASKED)
    return all(result.verdict is Verdict.PROVED for result in Discharger().discharge(asked))


def patched(kernel: Kernel, old: int, new: int) -> Kernel:
    """The kernel with an instruction of post_load replaced, wherever it is there."""
    code = KexecContext(kernel, KimageLayout(648), 4096).code("machine_kexec_post_load")
    found = [at for at in code.addresses if code.at(at).word == old]
    assert found
    for at in found:
        kernel = kernel.patched(at, new.to_bytes(4, "little"))
    return kernel


def test_return_addresses_pass_through_the_shadow_call_stack(kernel):
    assert KexecContext(kernel, KimageLayout(648), 4096).shadow_calls
    assert proved(kernel)


def test_a_copy_of_the_pointer_harms_nothing(kernel):
    assert proved(patched(kernel, NOP, COPY))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (POP, NOP),  # returns to where its last callee returned, x18 too high
        (POP, 0xF85F0E5E),  # ldr x30, [x18, #-16]!: the caller's entry
        (POP, 0xF840865E),  # ldr x30, [x18], #8: what lies above, which a callee may have written
        (POP, 0xF940025E),  # ldr x30, [x18]: the same
        (PUSH, 0xF81F825E),  # stur x30, [x18, #-8]: into the caller's entry
    ],
    ids=hex,
)
def test_a_wrong_push_or_pop_is_not_proved(kernel, old, new):
    assert not proved(patched(kernel, old, new))
