"""A word that a C function leaves dirty is explained by what wrote it and by the maintenance that lacks."""

from __future__ import annotations

import msgspec
import pytest
from kexec_verify.report.explain import explain
from kexec_verify.report.line_causes import line_causes
from kexec_verify.report.model import ContractRecord
from kexec_verify.report.steps import steps_of
from kexec_verify.specs.contracts import CONTRACTS
from kexec_verify.verdict import Verdict

from ..gate import examples

BASE, WORD = 0xFFFF800008036000, 0xFFFF000000400000
NAMES = ("dcache_clean_inval_poc", "__flush_dcache_area", "icache_inval_pou", "memcpy")
SEGMENT = "every word of every segment is clean to the point of coherency"
STALE = "no instruction-cache line holds stale instructions in place of the copied code"
CODE = "the copied code is clean to the point of coherency"


def contract(name):
    """The contract of a callee, as a run records it (ContractRecord)."""
    (found,) = [contract for contract in CONTRACTS if name in contract.names]
    return ContractRecord(name, found.sentence, "proved from its bytes")


def told(*steps, expected=SEGMENT, **inputs):
    """What is said of a run of machine_kexec_post_load: (text, registers that it sets) for each step."""
    record = examples.claim(
        "postload-segments-clean",
        Verdict.REFUTED,
        counterexample={
            "kind": "call",
            "function": "machine_kexec_post_load",
            "inputs": {"the word in question": f"{WORD:#x}", **inputs},
            "expected": f"at machine_kexec_post_load+0x10/0x20 {expected}",
            "found": "dirty, which must equal clean",
            "effect": "machine_kexec_post_load+0x10/0x20: it is dirty",
            "at": BASE + 4 * len(steps),
            "where": "machine_kexec_post_load+0x10/0x20",
            "given": {"registers": {"x0": 0, "x1": 0, "x2": 0}},
            "steps": [
                {"address": BASE + 4 * n, "text": text, "changed": changed}
                for n, (text, changed) in enumerate([*steps, ("ret", {})])
            ],
        },
    )
    run = msgspec.structs.replace(examples.run(record), contracts=[contract(name) for name in NAMES])
    found = explain(run, record)
    return [(point.step, point.sentence) for point in found.causes], found.missing


def setting(**registers):
    return ("ldp x0, x1, [x19]", {name: f"{value:#x}" for name, value in registers.items()})


def test_a_segment_that_no_call_cleans():
    causes, missing = told(("nop", {}), **{"the segment in question": "0"})
    assert causes == []
    assert missing == (
        f"The cache line of {WORD:#x} of segment 0 may be dirty when machine_kexec_post_load is entered. "
        "No call in the run cleans data to the point of coherency."
    )


@pytest.mark.parametrize(
    "name, registers",
    [
        ("dcache_clean_inval_poc", {"x0": WORD - 0x1000, "x1": WORD}),
        ("__flush_dcache_area", {"x0": WORD - 0x1000, "x1": 0x1000}),
    ],
)
def test_a_flush_that_ends_before_the_word(name, registers):
    causes, missing = told(setting(**registers), (f"bl {name}", {"x0": "0xdead"}))
    assert causes == [(2, f"cleans [{WORD - 0x1000:#x}, {WORD:#x}), which does not hold {WORD:#x}")]
    assert missing.endswith(f"No call in the run cleans {WORD:#x}.")


def test_a_flush_whose_range_is_out_of_order():
    size_for_end = setting(x0=WORD, x1=0x1000)
    ((_, sentence),), _ = told(size_for_end, ("bl dcache_clean_inval_poc", {}))
    assert sentence == f"cleans [{WORD:#x}, 0x1000), which ends below its start and does not hold {WORD:#x}"


def test_a_copy_that_comes_after_the_flush():
    flush = ("bl dcache_clean_inval_poc", {})
    copy = [setting(x0=WORD, x1=0x5000, x2=288), ("bl memcpy", {})]
    causes, missing = told(setting(x0=WORD, x1=WORD + 288), flush, *copy, expected=CODE)
    assert [step for step, _ in causes] == [2, 4]
    assert (
        causes[1][1]
        == f"copies to [{WORD:#x}, {WORD + 288:#x}): this makes the cache line at {WORD:#x} dirty"
    )
    assert missing.endswith("The call that cleans it comes before the copy.")


def test_a_copy_that_no_call_cleans_or_invalidates():
    copy = [setting(x0=WORD, x1=0x5000, x2=288), ("bl memcpy", {})]
    assert told(*copy, expected=CODE)[1].endswith("No call in the run cleans data to the point of coherency.")
    flush = [setting(x0=WORD, x1=WORD + 288), ("bl dcache_clean_inval_poc", {})]
    _, missing = told(*copy, *flush, expected=STALE)
    assert missing.endswith("No call in the run invalidates instructions.")


def test_nothing_is_said_of_other_faults_and_of_malformed_records():
    assert told(("nop", {}), expected="it returns 0") == ([], "")
    run = examples.run(examples.refuted())
    for shown in (
        {},
        {"inputs": 1, "given": {}},
        {"inputs": {"the word in question": "x"}, "expected": SEGMENT, "given": {}},
    ):
        assert line_causes(run, shown, steps_of(run, shown)) == ([], "")


@pytest.mark.parametrize(
    "contract", [c for c in CONTRACTS if c.cleans or c.fetches], ids=lambda c: c.names[0]
)
def test_every_contract_that_maintains_a_range_is_recognised(contract):
    run = msgspec.structs.replace(
        examples.run(examples.refuted()),
        contracts=[ContractRecord(contract.names[0], contract.sentence, "proved from its bytes")],
    )
    shown = {
        "inputs": {"the word in question": f"{WORD:#x}"},
        "expected": SEGMENT if contract.cleans else STALE,
        "given": {"registers": {"x0": WORD, "x1": WORD + 64}},
        "steps": [{"address": BASE, "text": f"bl {contract.names[0]}", "changed": {}}],
    }
    points, _ = line_causes(run, shown, steps_of(run, shown))
    assert len(points) == 1
