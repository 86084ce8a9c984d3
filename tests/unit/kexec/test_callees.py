"""Contracts: kept by the callees of the shipped images, and not by callees with a fault."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from kexec_verify.errors import TargetError, UnsupportedError
from kexec_verify.kexec.callees import Callee
from kexec_verify.kexec.context import KexecContext
from kexec_verify.prove.discharge import Discharger, decide
from kexec_verify.specs.contracts import CONTRACTS, Contract, contract
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.target import Kernel, open_target
from kexec_verify.verdict import Verdict

WHOLE = Path(__file__).resolve().parents[3] / "binaries" / "whole"
IMAGES = sorted(WHOLE.glob("*.elf"))
PAGE = 4096
LAYOUT = KimageLayout(648)
BY_LINES = ("dcache_clean_inval_poc", "__flush_dcache_area", "icache_inval_pou", "caches_clean_inval_pou")
PROVED = [name for found in CONTRACTS if not found.assumed and not found.copies for name in found.names]

NOP, RET, ISB, DSB_SY, HVC = 0xD503201F, 0xD65F03C0, 0xD5033FDF, 0xD5033F9F, 0xD4000002


@functools.cache
def opened(path: Path) -> Kernel:
    return open_target(str(path))


def later() -> Kernel:
    return opened(WHOLE / "later-4k-gcc.elf")


def patched(kernel: Kernel, name: str, words: dict[int, int]) -> Kernel:
    symbol = kernel.symbol(name)
    assert symbol is not None
    for offset, word in words.items():
        kernel = kernel.patched(symbol.address + offset, word.to_bytes(4, "little"))
    return kernel


def unproved(kernel: Kernel, name: str, found: Contract | None = None, kind: str = "") -> set[str]:
    """What of the contract's obligations is not proved; all is owed, only names with ``kind`` are asked."""
    found = found or contract(name)
    assert found is not None
    callee = Callee(KexecContext(kernel, LAYOUT, PAGE), name, found, decide)
    callee.prove()
    required = [obligation for obligation in callee.obligations if kind in obligation.name]
    assert required
    results = Discharger(10).discharge(required)
    prefix = f"contract-{name}-"
    return {r.obligation.name.removeprefix(prefix) for r in results if r.verdict is not Verdict.PROVED}


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_callees_of_the_shipped_images_keep_their_contracts(path):
    kernel = opened(path)
    proved = [name for name in PROVED if name not in BY_LINES and kernel.symbol(name) is not None]
    assert {"__hyp_set_vectors", "cpu_do_switch_mm"} <= set(proved)
    for name in proved:
        assert unproved(kernel, name) == set(), name


@pytest.mark.slow
@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_maintenance_of_the_shipped_images_keeps_its_contracts(path):
    kernel = opened(path)
    proved = [name for name in BY_LINES if kernel.symbol(name) is not None]
    assert len(proved) >= 2
    for name in proved:
        assert unproved(kernel, name) == set(), name


LINES = ("data-lines", "instruction-lines")
FAULTS = {
    "clobbers x19": ("__hyp_set_vectors", {0: 0xD2800013}, {"keeps"}),
    "clobbers x29": ("__hyp_set_vectors", {0: 0xD280001D}, {"keeps"}),
    "leaves SP moved": ("__hyp_set_vectors", {0: 0xD10043FF}, {"keeps"}),
    "returns elsewhere": ("__hyp_set_vectors", {0: 0xAA0003FE}, {"returns"}),  # mov x30, x0
    "leaves by a branch": ("__hyp_set_vectors", {16: 0xD61F0020}, {"returns"}),
    "writes above its frame": (
        "__hyp_set_vectors",
        {0: 0xF9000BE0},
        {"access", *LINES},
    ),
    "reads above its frame": ("__hyp_set_vectors", {0: 0xF9400BE2}, {"access"}),
    "changes SCTLR": ("__hyp_set_vectors", {0: 0xD5181001}, {"effect", "keeps"}),
    "changes DAIF": ("__hyp_set_vectors", {0: 0xD50342DF}, {"effect", "keeps"}),
    "asks for something else": ("__hyp_set_vectors", {8: 0xD2800020}, {"asks"}),
    "asks with another address": ("__hyp_set_vectors", {4: 0xD2800001}, {"asks"}),
    "asks twice": ("__hyp_set_vectors", {0: HVC}, {"asks"}),
    "never asks": ("__hyp_set_vectors", {12: NOP}, {"asks"}),
    "asks in passing": ("cpu_do_switch_mm", {56: HVC}, {"effect", "asks", "ensures"}),
    "names another table": ("cpu_do_switch_mm", {52: 0xD5182003}, {"ensures"}),
    "has no ISB at the end": ("cpu_do_switch_mm", {56: NOP}, {"ensures"}),
    "drops TTBR1's table": ("cpu_do_switch_mm", {28: 0xD2800004}, {"effect", "ensures"}),
    "stores below SP": ("cpu_do_switch_mm", {0: 0xF81F83E0}, {"access"}),  # str x0, [sp, #-8]
    "names no reserved table": ("cpu_set_reserved_ttbr0_nosync", {24: NOP}, {"effect", "ensures"}),
    "takes one CPU for all": ("is_hyp_nvhe", {48: NOP}, {"ensures"}),
    "looks at no level": ("is_hyp_nvhe", {52: 0xD2800000}, {"ensures"}),
    "answers the opposite": ("is_hyp_nvhe", {60: 0x9A9F17E0}, {"ensures"}),  # cset x0, eq
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_callee_with_a_fault_does_not_keep_its_contract(fault):
    name, words, expected = FAULTS[fault]
    assert unproved(patched(later(), name, words), name) == expected


LINE_FAULTS = {
    "forgets the DSB": ("dcache_clean_inval_poc", {44: NOP}, "data-lines"),
    "has a DSB of its own domain": ("dcache_clean_inval_poc", {44: 0xD503379F}, "data-lines"),
    "has a DSB for loads": ("dcache_clean_inval_poc", {44: 0xD5033D9F}, "data-lines"),
    "only invalidates": ("dcache_clean_inval_poc", {28: 0xD5087626}, "data-lines"),
    "cleans to unification": ("dcache_clean_inval_poc", {28: 0xD50B7B26}, "data-lines"),
    "misses the last line": ("dcache_clean_inval_poc", {24: 0xAA0003E6}, "data-lines"),  # mov x6, x0
    "stops after one line": ("dcache_clean_inval_poc", {40: NOP}, "data-lines"),
    "takes steps that are too long": ("dcache_clean_inval_poc", {12: 0xD2800107}, "data-lines"),  # mov x7, #8
    "forgets the DSB of icache": ("icache_inval_pou", {44: NOP}, "instruction-lines"),
    "takes the data cache's line": ("icache_inval_pou", {8: 0xD3504C42}, "instruction-lines"),
    # Every line of the range is cleaned by these, and every line below it, which nothing may map.
    "starts below the range": ("dcache_clean_inval_poc", {20: 0x8B0203E6}, "maintained"),  # add x6, xzr, x2
    "starts anywhere": ("icache_inval_pou", {24: 0x8A060007}, "maintained"),  # and x7, x0, x6
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", LINE_FAULTS)
def test_maintenance_with_a_fault_does_not_keep_its_contract(fault):
    name, words, kind = LINE_FAULTS[fault]
    try:
        assert unproved(patched(later(), name, words), name, kind=kind) == {kind}
    except UnsupportedError:
        assert fault == "stops after one line", fault


PLAIN = Contract(("memcpy",), "Changes nothing.", "test")
SUB_SP, ADD_SP = 0xD10043FF, 0x910043FF  # by 16
LDR_X3_SP_8, STR_X3_SP, ADD_X0_8, CMP_X0_X1 = 0xF94007E3, 0xF81F83E3, 0x91002000, 0xEB01001F


def replaced(*words: int) -> Kernel:
    return patched(later(), "memcpy", {4 * index: word for index, word in enumerate(words)})


def test_a_load_beyond_the_frame_in_a_loop_is_required():
    # 0: cmp; b.hs 5; ldr x3, [sp, #8]; add; b 0; 5: ret
    kernel = replaced(CMP_X0_X1, 0x54000082, LDR_X3_SP_8, ADD_X0_8, 0x17FFFFFC, RET)
    assert "access" in unproved(kernel, "memcpy", PLAIN)
    below = replaced(CMP_X0_X1, 0x54000082, 0xF85F83E3, ADD_X0_8, 0x17FFFFFC, RET)  # [sp, #-8]
    assert "access" in unproved(below, "memcpy", PLAIN)
    good = replaced(SUB_SP, CMP_X0_X1, 0x54000082, LDR_X3_SP_8, ADD_X0_8, 0x17FFFFFC, ADD_SP, RET)
    assert unproved(good, "memcpy", PLAIN) == {"scan-terminates"}  # x0 may wrap


def test_a_loop_that_copies_what_no_object_is_is_refused():
    # ldr x3, [x1], #8; str x3, [x0], #8; cmp x0, x2; b.lo
    kernel = replaced(0xF8408423, 0xF8008403, 0xEB02001F, 0x54FFFFA3, RET)
    with pytest.raises(UnsupportedError, match="copies between objects"):
        unproved(kernel, "memcpy", PLAIN)


@pytest.mark.parametrize("store", [0xF9000003, 0x39000003], ids=["str", "strb"])
def test_a_store_through_an_argument_is_refused(store):
    with pytest.raises(UnsupportedError, match="pointer to no known object"):
        unproved(replaced(store, RET), "memcpy", PLAIN)


def test_a_store_to_the_image_or_the_task_is_no_callees():
    contract_ = Contract(("memcpy",), "Changes nothing.", "test", points={"x0": "argument"})
    kinds = {"access", *LINES}
    assert unproved(replaced(0xF9000001, RET), "memcpy", contract_) == kinds  # str x1, [x0]
    assert unproved(replaced(0x39000C01, RET), "memcpy", contract_) == kinds  # strb w1, [x0, #3]
    assert unproved(replaced(0xF9400001, RET), "memcpy", contract_) == set()  # ldr x1, [x0]


def test_a_breakpoint_is_no_return():
    assert unproved(replaced(0xD4200020), "memcpy", PLAIN) >= {"returns"}


def test_register_that_a_callee_is_read_to_keep_is_required(monkeypatch):
    monkeypatch.setattr(
        "kexec_verify.kexec.callees.clobbered", lambda *_: ["x1", "x2"]
    )  # it writes x0 as well
    assert "keeps" in unproved(later(), "is_hyp_nvhe", kind="-keeps")


DSB_NSHST, DSB_NSH, DSB_NSHLD, TLBI = 0xD503369F, 0xD503379F, 0xD503359F, 0xD508871F
FLUSHES = {
    "as the kernel does": ((DSB_NSHST, TLBI, DSB_NSH, ISB), set()),
    "invalidates nothing": ((DSB_NSHST, NOP, DSB_NSH, ISB), {"ensures"}),
    "does not wait": ((DSB_NSHST, TLBI, NOP, ISB), {"ensures"}),
    "waits for loads": ((DSB_NSHST, TLBI, DSB_NSHLD, ISB), {"ensures"}),
    "waits before": ((DSB_NSH, TLBI, NOP, ISB), {"ensures"}),
    "has no ISB": ((DSB_NSHST, TLBI, DSB_NSH, NOP), {"ensures"}),
    "has its ISB first": ((ISB, TLBI, DSB_NSH, NOP), {"ensures"}),
    "changes TTBR0": ((0xD5182000, TLBI, DSB_NSH, ISB), {"effect", "keeps", "ensures"}),
}


@pytest.mark.parametrize("flush", FLUSHES)
def test_a_flush_of_the_tlb_is_complete_and_synchronized(flush):
    words, expected = FLUSHES[flush]
    assert unproved(replaced(*words, RET), "memcpy", contract("local_flush_tlb_all")) == expected


def test_the_proof_is_of_the_function_that_is_called():
    kernel = later()
    name, other = "__hyp_set_vectors", kernel.symbol("cpu_do_switch_mm")
    found = contract(name)
    assert found is not None and other is not None
    with pytest.raises(TargetError, match="expected a symbol __hyp_set_vectors, found none"):
        Callee(KexecContext(kernel, LAYOUT, PAGE), name, found, decide, other.address).prove()
