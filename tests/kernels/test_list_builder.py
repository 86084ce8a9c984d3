"""kexec_core's functions that build the list, in Debian's kernels: proved, and refuted with a fault."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.layout import stated_layout
from kexec_verify.kexec.list_builder import ListFunction
from kexec_verify.kexec.list_chain import chain
from kexec_verify.kexec.list_code import ADD, BEGIN, FUNCTIONS, TERMINATE
from kexec_verify.prove.discharge import Discharger, vacuous
from kexec_verify.refute.functions.list_run import runs
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.target import Kernel, debian, open_target

pytestmark = pytest.mark.kernel

NOP = 0xD503201F
BACKPORTS = "trixie-backports"
KERNELS = {
    "6.1": "debian:linux-image-6.1.0-56-arm64",
    "6.12": "debian:linux-image-6.12.117+deb12-arm64",
    "6.19": debian.in_suite("debian:linux-image-6.19.14+deb13-arm64", BACKPORTS),
    "6.19, 16 KiB": debian.in_suite("debian:linux-image-6.19.14+deb13-arm64-16k", BACKPORTS),
    "7.3": debian.in_suite("debian:linux-image-7.3.4+deb13-arm64", BACKPORTS),
}
CAMPAIGN = ("6.19", "6.19, 16 KiB")


def context(kernel: Kernel) -> KexecContext:
    assert kernel.page_size is not None
    return KexecContext(kernel, stated_layout(kernel) or KimageLayout(648), kernel.page_size)


def proved(found: KexecContext, name: str) -> tuple[ListFunction, list[str]]:
    """The proof of one function, and what is not proved of it."""
    discharger = Discharger()
    proof = ListFunction(found, name, discharger.decide)
    proof.prove()
    results = discharger.discharge(proof.obligations)
    wrong = [r.obligation.name for r in results if r.verdict.name != "PROVED"]
    return proof, wrong or vacuous(results)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.campaign if n in CAMPAIGN else ()) for n in KERNELS]
)
def test_functions_are_proved_and_each_path_has_a_run(require_tool: Callable[[str, str], str], name: str):
    require_tool("apt-get", "apt")
    found = context(open_target(KERNELS[name]))
    for function in FUNCTIONS:
        proof, wrong = proved(found, function)
        assert wrong == []
        tried = list(runs(proof))
        assert [run.fault for run in tried if run.fault is not None] == []
        for path in {o.path for o in proof.obligations if o.path}:
            assert any(tuple(run.run.trace[: len(path)]) == path for run in tried)
    results = Discharger().discharge(chain(found))
    assert vacuous(results) == [] and {r.verdict.name for r in results} == {"PROVED"}


@pytest.fixture(scope="module")
def kernel(require_tool: Callable[[str, str], str]) -> Kernel:
    require_tool("apt-get", "apt")
    return open_target(KERNELS["6.1"])


FAULTS = {
    "entry is not advanced": (ADD, 0x4C, 0xAA0103E2, "entry"),  # mov x2, x1
    "the terminator is not cleared": (ADD, 0x54, NOP, "word 2"),
    "the page is linked as a DESTINATION": (ADD, 0xB8, 0xB2400021, "word 0"),  # orr x1, x1, #1
    "the page is linked without a flag": (ADD, 0xB8, NOP, "word 0"),
    "the page is not linked": (ADD, 0xC0, NOP, "word 0"),
    "last_entry is a word too low": (ADD, 0xBC, 0x913FC002, "last_entry"),  # add x2, x0, #0xff0
    "the word loses its flag": (ADD, 0x1C, 0x927CEC34, "word"),  # and x20, x1, #~0xf
    "a full page is not noticed": (ADD, 0x3C, NOP, ""),
    "without a page it returns 0": (ADD, 0xDC, 0x52800000, "returns 0x0"),  # mov w0, #0
    "a page for a destination is asked for": (ADD, 0x6C, 0xD2800002, "another page"),  # mov x2, #0
    "DONE is not stored": (TERMINATE, 0x28, NOP, "word 0"),
    "SOURCE is stored for DONE": (TERMINATE, 0x20, 0xD2800100, "word 0"),  # mov x0, #8
    "entry is not set": (BEGIN, 0x58, NOP, "entry"),
    "last_entry is not set": (BEGIN, 0x5C, NOP, "last_entry"),
}
HARMLESS = {
    "entry is read through another register": (ADD, 0x20, 0xF9400660),  # ldr x0, [x19, #8]
    "DONE is formed by orr": (TERMINATE, 0x20, 0xB27E03E0),  # orr x0, xzr, #4
}


def patched(kernel: Kernel, name: str, offset: int, word: int) -> KexecContext:
    symbol = kernel.symbol(name)
    assert symbol is not None
    return context(kernel.patched(symbol.address + offset, struct.pack("<I", word)))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refuted_by_a_run(kernel: Kernel, fault: str):
    name, offset, word, said = FAULTS[fault]
    proof, wrong = proved(patched(kernel, name, offset, word), name)
    assert wrong
    obligation = next(o for o in proof.obligations if o.name in wrong)
    shown = next(run for run in runs(proof) if run.fault is not None).shown(obligation, "list-add-entry")
    assert said in shown.effect


@pytest.mark.parametrize("change", HARMLESS)
def test_a_harmless_change_is_proved(kernel: Kernel, change: str):
    proof, wrong = proved(patched(kernel, *HARMLESS[change]), HARMLESS[change][0])
    assert wrong == []
    assert all(run.fault is None for run in runs(proof))
