"""The record's list of what boot patches."""

from __future__ import annotations

from dataclasses import replace

from kexec_verify.kexec.context import KexecContext
from kexec_verify.report.patch_sites import patch_sites

from tests.obligations import LAYOUT
from tests.soundness.test_boot_choices import CNP, DIC, REPLACEMENTS, kernel

ISB, RET, CPYP, B = 0xD5033FDF, 0xD65F03C0, 0x1D010443, 0x14000000


def test_each_site_has_its_instructions_both_ways():
    made = kernel(("icache_inval_pou", 4, DIC, (ISB, RET)))
    code = KexecContext(made, LAYOUT, 4096).code("icache_inval_pou")
    (site,) = patch_sites(made, code, {code.address + 4})
    assert (site.at, site.choice, site.replacement, site.both) == (
        code.address + 4, "HAS_CACHE_DIC", ["isb", "ret"], True,
    )  # fmt: skip
    assert "no instruction cache has to be invalidated" in site.meaning
    assert len(site.original) == 2
    assert not patch_sites(made, code, ())[0].both


def test_branches_have_their_target_and_what_has_no_meaning_has_a_text():
    function = kernel().symbol("cpu_do_switch_mm")
    ahead = B | function.address + 16 - REPLACEMENTS >> 2 & 0x3FF_FFFF
    made = kernel(("cpu_do_switch_mm", 0, CNP, (ahead, CPYP)))
    code = KexecContext(made, LAYOUT, 4096).code("cpu_do_switch_mm")
    (site,) = patch_sites(made, code, ())
    assert site.replacement == [f"b {code.where(code.address + 16)}", "cpyp [x3]!, [x1]!, x2!"]


def test_instructions_that_the_kernel_makes_are_not_known():
    made = kernel(("cpu_do_switch_mm", 0, CNP, (ISB,)))
    (entry,) = made.patching.alternatives
    entry = replace(entry, capability=1 << 15 | CNP, replacement_size=0)
    made = replace(made, patching=replace(made.patching, alternatives=(entry,)))
    (site,) = patch_sites(made, KexecContext(made, LAYOUT, 4096).code("cpu_do_switch_mm"), ())
    assert site.replacement == [] and site.original
