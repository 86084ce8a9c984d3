"""Callees' contracts and runs of their bytes: a path without a run is VACUOUS, a broken contract is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kexec_verify.errors import InternalError
from kexec_verify.kernel_proof import prove_kernel
from kexec_verify.kexec.locate import find_routine
from kexec_verify.prove.discharge import Discharger
from kexec_verify.refute.functions import paths
from kexec_verify.refute.functions.record import rerun
from kexec_verify.specs.properties import PROPERTIES
from kexec_verify.target import Kernel, open_target
from kexec_verify.theorems import Finding
from kexec_verify.verdict import Verdict

IMAGE = Path(__file__).resolve().parents[2] / "binaries" / "whole" / "later-4k-gcc.elf"
CLAIM = "callee-contracts"
pytestmark = pytest.mark.slow


def kernel(function: str = "", offset: int = 0, word: int = 0) -> Kernel:
    found = open_target(str(IMAGE))
    if not function:
        return found
    symbol = found.symbol(function)
    assert symbol is not None
    return found.patched(symbol.address + offset, word.to_bytes(4, "little"))


def finding(target: Kernel) -> Finding:
    outcome, _ = prove_kernel(target, find_routine(target), [PROPERTIES[CLAIM]], lambda _: None, Discharger())
    return next(found for found in outcome.findings if found.claim.id == CLAIM)


def test_unchanged_callees_keep_their_contracts_on_paths_that_run():
    assert finding(kernel()).verdict is Verdict.PROVED


@pytest.mark.parametrize(
    ("function", "offset", "word", "told"),
    [
        ("dcache_clean_inval_poc", 24, 0xAA0003E6, "to be clean, found dirty"),  # misses the last line
        ("dcache_clean_inval_poc", 20, 0x8B0203E6, "may not be mapped"),  # starts at address 0
        ("icache_inval_pou", 44, 0xD503201F, "to be fetchable, found "),  # forgets the DSB
        ("is_hyp_nvhe", 60, 0x9A9F17E0, ""),  # answers the opposite
        ("cpu_do_switch_mm", 0, 0xF81F83E0, ""),  # stores below SP
    ],
)
def test_a_callee_with_a_fault_is_refuted_by_a_run(function, offset, word, told):
    wrong = kernel(function, offset, word)
    found = finding(wrong)
    assert found.verdict is Verdict.REFUTED, found.reason
    shown = found.counterexample
    assert shown is not None and shown.function == function and told in shown.effect
    record = json.loads(json.dumps(shown.as_dict()))
    assert rerun(record, wrong.read) == shown
    with pytest.raises(InternalError):
        rerun(record, kernel().read)


def test_a_path_that_no_run_takes_is_vacuous(monkeypatch):
    monkeypatch.setattr(paths, "runs", lambda *_: iter(()))
    found = finding(kernel())
    assert found.verdict is Verdict.VACUOUS
    assert "no run was seen to take" in found.reason


def test_a_path_that_has_no_values_is_vacuous(monkeypatch):
    monkeypatch.setattr(paths, "witnesses", lambda proof, wanted, models: dict.fromkeys(wanted))
    assert finding(kernel()).verdict is Verdict.VACUOUS


def test_a_run_that_breaks_what_is_proved_is_an_internal_fault(monkeypatch):
    monkeypatch.setattr(paths, "broken", lambda run, contract: "something")
    with pytest.raises(InternalError, match="callee-contracts is proved, and a run shows: something"):
        finding(kernel())
