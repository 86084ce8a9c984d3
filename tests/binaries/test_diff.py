"""`verify diff` on the corpus: the seed's two states, a kernel and itself, a kernel and a wrong version."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner
from kexec_verify.cache.queries import cached_queries
from kexec_verify.cli.commands import cli
from kexec_verify.diff.compare import compare
from kexec_verify.diff.model import Comparison
from kexec_verify.diff.text import format_comparison
from kexec_verify.target import Kernel, open_target
from kexec_verify.verdict import Verdict

WHOLE = Path(__file__).resolve().parents[2] / "binaries" / "whole"
ROUTINE = "arm64_relocate_new_kernel"
NOP = (0xD503201F).to_bytes(4, "little")


def compared(old: Kernel, new: Kernel) -> Comparison:
    """The two kernels' comparison; the second one's queries are mostly answered by the first one's."""
    with cached_queries(jobs=1) as queries:
        return compare(old, new, queries=queries)


@cache
def seed(compiler: str) -> Comparison:
    names = (WHOLE / f"{state}-4k-{compiler}.elf" for state in ("seed-before", "seed-after"))
    return compared(*(open_target(str(name)) for name in names))


def sentences(found: Comparison) -> dict[str, str]:
    return {finding.id: finding.sentence for finding in found.findings}


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["gcc", pytest.param("clang", marks=pytest.mark.campaign)])
class TestSeed:
    def test_the_relation_is_proved_in_both_cases(self, compiler):
        found = seed(compiler)
        assert [(case.case, case.verdict) for case in found.cases] == [
            ("head has IND_DONE", Verdict.PROVED),
            ("head has no IND_DONE", Verdict.PROVED),
        ]
        assert all(case.queries and not case.open for case in found.cases)
        names = {query.name for query in found.cases[0].queries}
        asked = {"diff-entry", "diff-registers", "diff-mmu-off", "diff-masked", "diff-memory", "diff-level"}
        assert asked <= names
        assert "diff-handover" in {query.name for query in found.cases[1].queries}

    def test_in_place_neither_copies(self, compiler):
        assert sentences(seed(compiler))["in-place-copies-nothing"].startswith(
            "In place neither kernel copies"
        )

    def test_the_routines_test_went_to_c(self, compiler):
        sentence = sentences(seed(compiler))["head-test"]
        assert re.search(rf"OLD's routine has the test itself \({ROUTINE}\+0x28\)", sentence)
        left = (
            r"NEW's has none and depends on the C code's test "
            r"\(machine_kexec_post_load\+0x\w+, machine_kexec\+0x\w+\)"
        )
        assert re.search(left, sentence)

    def test_the_instruction_cache_is_no_longer_invalidated(self, compiler):
        sentence = sentences(seed(compiler))["in-place-icache"]
        assert (
            f"OLD invalidates the instruction cache before the entry (ic iallu at {ROUTINE}+0xa4)" in sentence
        )
        assert "NEW executes no such maintenance from machine_kexec to the entry" in sentence
        assert "no code does it" in sentence

    def test_the_new_routine_reads_through_a_null_pointer(self, compiler):
        sentence = sentences(seed(compiler))["routine-done-new"]
        assert f"uses a null pointer: x6 = 0x0, set at {ROUTINE}+0x1c" in sentence
        assert f"the load of 8 bytes at 0x0 faults, at {ROUTINE}+0x78" in sentence
        assert re.search(r"because of the test in C, machine_kexec\+0x\w+: the routine is proved", sentence)
        assert "routine-done-old" not in sentences(seed(compiler))
        old, new = seed(compiler).entered
        assert (old.faults, new.faults) == (False, True)
        assert old.replayed and new.replayed
        assert new.steps[-1].text == "ldr x5, [x6]"

    def test_only_the_old_post_load_prepares_the_routine_in_place(self, compiler):
        kinds = {effect.kind for effect in seed(compiler).loading if effect.old and not effect.new}
        assert {"call memcpy", "store to kimage"} <= kinds

    def test_functions_and_properties_are_matched(self, compiler):
        found = seed(compiler)
        states = {function.name: function.state for function in found.functions}
        assert states["__cpu_soft_restart"] == states["cpu_do_switch_mm"] == "same"
        assert states["machine_kexec"] == states[ROUTINE] == "changed"
        verdicts = {p.id: (p.old, p.new) for p in found.properties}
        assert verdicts["reloc-step"] == (Verdict.PROVED, Verdict.PROVED)
        assert verdicts["postload-segments-clean"] == (Verdict.PROVED, Verdict.PROVED)
        # As `verify run` judges: the seed has no invalidation in place, and a waiver says why that may be.
        assert verdicts["inplace-icache-invalid"] == (Verdict.PROVED, Verdict.REFUTED)
        (icache,) = (p for p in found.properties if p.id == "inplace-icache-invalid")
        assert (icache.old_waived, icache.new_waived) == (False, True)
        only_new = {o.name for o in found.obligations if o.state == "only new"}
        assert "pl-inplace-copies-nothing" in only_new
        changed = [o for o in found.obligations if o.state == "changed" and o.name == "mk-handover-routine"]
        assert all(at.startswith("machine_kexec+") for o in changed for at in (*o.bytes_old, *o.bytes_new))
        assert changed

    def test_the_text_says_it(self, compiler):
        text = list(format_comparison(seed(compiler)))
        assert {"what is equal", "what changed", "affected properties", "findings"} <= set(text)
        assert text[-1].startswith("same entry, same state, same memory: PROVED")


@pytest.mark.slow
def test_a_kernel_and_itself_differ_in_nothing():
    kernel = open_target(str(WHOLE / "later-4k-clang.elf"))
    found = compared(kernel, kernel)
    assert found.verdict is Verdict.PROVED
    assert {function.state for function in found.functions} == {"same"}
    assert found.obligations == ()
    assert all(p.old == p.new for p in found.properties)
    assert not [e for case in found.cases for e in case.effects if e.old != e.new]
    assert not {"head-test", "in-place-icache"} & set(sentences(found))


@pytest.mark.slow
@pytest.mark.mutant
def test_the_wrong_argument_in_place_is_refuted_with_values():
    kernel = open_target(str(WHOLE / "seed-after-4k-gcc.elf"))
    symbol = kernel.symbol("machine_kexec")
    assert symbol is not None
    code = kernel.read(symbol.address, symbol.size or 0)
    # ldr x2, [x19, #dtb_mem] becomes ldr x2, [x19, #start]: the new kernel gets its own address in x0.
    at = code.index((0xF9414662).to_bytes(4, "little"))
    found = compared(kernel, kernel.patched(symbol.address + at, (0xF9400E62).to_bytes(4, "little")))
    in_place, relocating = found.cases
    assert (in_place.verdict, found.verdict.exit_status) == (Verdict.REFUTED, 1)
    assert relocating.verdict is not Verdict.PROVED
    (shown, *_) = [q for q in in_place.queries if q.verdict is Verdict.REFUTED]
    assert shown.name == "diff-registers"
    assert shown.model["OLD x0"] == shown.model["kimage->dtb_mem"]
    assert shown.model["NEW x0"] == shown.model["kimage->start"]
    assert shown.model["OLD x0"] != shown.model["NEW x0"]
    assert "in-place-icache" not in sentences(found)


@pytest.mark.slow
@pytest.mark.mutant
def test_a_routine_that_goes_elsewhere_is_not_proved_the_same():
    kernel = open_target(str(WHOLE / "seed-after-4k-gcc.elf"))
    symbol = kernel.symbol(ROUTINE)
    assert symbol is not None
    # The last `mov x0, dtb` is gone: the device tree's address does not arrive.
    found = compared(kernel, kernel.patched(symbol.address + 0xCC, NOP))
    in_place, relocating = found.cases
    assert in_place.verdict is Verdict.PROVED
    assert relocating.verdict in (Verdict.UNKNOWN, Verdict.REFUTED)
    assert any("reloc-entry-state" in why for why in relocating.open)


@pytest.mark.slow
def test_a_routine_alone_has_no_way_to_compare():
    names = [WHOLE.parent / f"{variant}-4k-gcc.elf" for variant in ("regs-done-test", "regs-no-test")]
    result = CliRunner().invoke(cli, ["diff", *map(str, names)], standalone_mode=False)
    assert result.return_value == 3
    assert "OLD: machine_kexec: the file has no such symbol" in result.output
    assert "null pointer" in result.output


def test_an_unknown_form_is_bad_input():
    result = CliRunner().invoke(cli, ["diff", "seed-before", "seed-between"])
    assert result.exit_code != 0
    assert "expected a target or a name of the corpus" in str(result.exception)
