"""Each effect that no rule allows is refuted with a run, whatever register it reads."""

from __future__ import annotations

import pytest
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.callees import Callee
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.soft_restart import SoftRestart
from kexec_verify.mutate.insertion import HARMFUL
from kexec_verify.prove.discharge import Discharger, decide
from kexec_verify.refute.functions.contract_check import broken, runs, shown
from kexec_verify.refute.functions.search import refute
from kexec_verify.specs.contracts import contract
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.target import Kernel, open_target
from kexec_verify.verdict import Verdict

from tests.conftest import BINARIES

MRS_SYS = 0xD5  # bits 31 to 24 of system instructions
EFFECTS = [
    (word & ~31 | register, text)
    for word, text in HARMFUL
    for register in (31, 2)
    if word >> 24 == MRS_SYS and not text.startswith(("mrs", "wf", "dsb", "clrex", "ret", "eret"))
]


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return open_target(str(BINARIES / "whole" / "later-4k-gcc.elf"))


@pytest.mark.parametrize(("word", "text"), EFFECTS, ids=[f"{word:#x}" for word, _ in EFFECTS])
def test_effect_is_shown_by_a_run(kernel, word, text):
    symbol = kernel.symbol("cpu_soft_restart")
    assert symbol is not None
    changed = kernel.patched(symbol.address, word.to_bytes(4, "little"))
    proof = SoftRestart(KexecContext(changed, KimageLayout(648), 4096), decide)
    try:
        proof.prove()
    except UnsupportedError:
        return  # never green
    results = Discharger().discharge([o for o in proof.obligations if o.name == "restart-effect"])
    failing = [result for result in results if result.verdict is not Verdict.PROVED]
    assert failing
    shown = [refute(proof, result, "restart-enters") for result in failing]
    assert any(found is not None and found.at == symbol.address for found in shown)


def test_hvc_in_a_callee_is_shown_up_to_it(kernel):
    """Nothing is known of what comes behind it, so the record ends there."""
    name = "dcache_clean_inval_poc"
    symbol, promised = kernel.symbol(name), contract(name)
    assert symbol is not None and promised is not None
    changed = kernel.patched(symbol.address, (0xD400_0002).to_bytes(4, "little"))
    context = KexecContext(changed, KimageLayout(648), 4096)
    proof = Callee(context, name, promised, decide)
    proof.prove()
    effect = next(o for o in proof.obligations if o.name.endswith("-effect") and o.at == symbol.address)
    other = next(o for o in proof.obligations if o.name.endswith("-returns"))
    run = next(runs(context, promised, proof.code, ()))
    told = broken(run, promised)
    assert told is not None
    record = shown(run, changed, told, effect, "callee-contracts")
    assert record is not None and record.at == symbol.address
    assert record.found == "hvc is executed, which no rule of specs/effects.py allows here"
    assert [step.address for step in record.steps] == [symbol.address]
    assert shown(run, changed, told, other, "callee-contracts") is None
