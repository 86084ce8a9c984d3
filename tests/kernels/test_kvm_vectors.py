"""KVM's host vectors of a real kernel are proved, and a run refutes them with one wrong instruction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from kexec_verify import Verdict, verify
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.kvm_vectors import HostVector, StubHandler
from kexec_verify.kexec.layout import stated_layout
from kexec_verify.prove.discharge import Discharger
from kexec_verify.specs.kvm_vectors import HOST_HVC, STUB_HANDLER
from kexec_verify.target import Kernel
from kexec_verify.target.write_elf import write_elf

pytestmark = [pytest.mark.kernel, pytest.mark.slow]
SERIES = ("linux-image-6.1.*[0-9]-arm64", "linux-image-6.12.*[0-9]-arm64")
MOVE, WRONG_MOVE = 0xAA02_03E0, 0xAA03_03E0  # mov x0, x2 and mov x0, x3
NOP, ISB, BR_X5, BR_X6 = 0xD503_201F, 0xD503_3FDF, 0xD61F_00A0, 0xD61F_00C0


def context(kernel: Kernel) -> KexecContext:
    layout, page_size = stated_layout(kernel), kernel.page_size
    assert layout is not None and page_size is not None
    return KexecContext(kernel, layout, page_size)


def patched(kernel: Kernel, symbol: str, old: int, new: int) -> Kernel:
    """The kernel with the last such instruction of a function and of what it branches to replaced."""
    code = context(kernel).code(symbol)
    places = [at for piece in code.pieces for at in piece.addresses]
    at = [at for at in places if int.from_bytes(kernel.read(at, 4), "little") == old][-1]
    return kernel.patched(at, new.to_bytes(4, "little"))


def undecided(kernel: Kernel) -> set[str]:
    found = set()
    for kind in (HostVector, StubHandler):
        proof = kind(context(kernel))
        proof.prove()
        results = Discharger().discharge(proof.obligations)
        found |= {result.obligation.name for result in results if result.verdict is not Verdict.PROVED}
    return found


@pytest.mark.parametrize("series", SERIES)
def test_kvm_answers_as_the_stub_does(debian_kernel: Callable[[str], Kernel], series: str):
    kernel = debian_kernel(series)
    assert undecided(kernel) == set()
    assert undecided(patched(kernel, STUB_HANDLER, MOVE, WRONG_MOVE)) == {"kvm-handler-soft-restart"}
    assert "kvm-handler-synced" in undecided(patched(kernel, STUB_HANDLER, ISB, NOP))
    assert undecided(patched(kernel, HOST_HVC, BR_X5, BR_X6)) == {"kvm-vector-passes"}


def test_a_wrong_instruction_is_refuted_by_a_run(debian_kernel: Callable[[str], Kernel], tmp_path: Path):
    kernel = patched(debian_kernel(SERIES[1]), STUB_HANDLER, MOVE, WRONG_MOVE)
    path = tmp_path / "wrong.elf"
    write_elf(kernel, path)
    run = verify(path, properties=["stub-soft-restart"], cache=False)
    record = next(record for record in run.properties if record.id == "stub-soft-restart")
    assert record.verdict is Verdict.REFUTED
    assert record.counterexample is not None
    assert "x0 = 0x5eed00000003" in record.counterexample["found"]
