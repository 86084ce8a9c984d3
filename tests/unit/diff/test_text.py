"""How a comparison is written."""

from __future__ import annotations

import msgspec
from kexec_verify.diff.effects import compared
from kexec_verify.diff.model import CaseDiff, Comparison, Finding, PropertyDiff, Query, Target
from kexec_verify.diff.text import format_comparison, ranges
from kexec_verify.verdict import Verdict

TARGET = Target("k", "0" * 64, "6.1", "kimage", 4096)


def comparison(*cases: CaseDiff) -> Comparison:
    found = (Finding("x", "A sentence.", ()),)
    return Comparison(TARGET, TARGET, (), (), (), cases, (), (), found, (), 1.0)


def test_runs_of_instructions_are_drawn_together():
    assert ranges(["f+0x8", "f+0x4", "f+0xc", "f+0x20", "g+0x0"]) == "f +0x4..0xc,+0x20; g +0x0"


def test_effects_of_one_side_come_first():
    found = compared({"isb": ["f+0x0"], "ic iallu": ["f+0x4"]}, {"isb": ["g+0x0"]})
    assert [(e.kind, e.old, e.new) for e in found] == [
        ("ic iallu", ("f+0x4",), ()),
        ("isb", ("f+0x0",), ("g+0x0",)),
    ]


def test_the_worse_case_is_the_verdict():
    proved = CaseDiff("head has IND_DONE", Verdict.PROVED, (), (), ())
    refuted = CaseDiff("head has no IND_DONE", Verdict.REFUTED, (), (), ())
    assert comparison(proved).verdict is Verdict.PROVED
    assert comparison(proved, refuted).verdict is Verdict.REFUTED
    assert comparison().verdict is Verdict.UNKNOWN


def test_a_refuted_query_is_shown_with_its_model():
    query = Query("diff-entry", "they branch to the same address", Verdict.REFUTED, {"OLD": "0x1"})
    text = "\n".join(format_comparison(comparison(CaseDiff("c", Verdict.REFUTED, (query,), (), ()))))
    assert "REFUTED: diff-entry: they branch to the same address" in text
    assert "OLD = 0x1" in text
    assert "A sentence." in text


def test_verdicts_are_in_the_words_of_run():
    waived = PropertyDiff("p", Verdict.PROVED, Verdict.REFUTED, 1, 0, 0, 0, "why", new_waived=True)
    other = PropertyDiff("q", None, Verdict.PROVED, 0, 0, 0, 1)
    lines = list(format_comparison(msgspec.structs.replace(comparison(), properties=(waived, other))))
    rows = [line.split() for line in lines if line.startswith(("  p ", "  q "))]
    assert [row[:4] for row in rows] == [["p", "PROVED", "REFUTED", "(waived)"], ["q", "-", "PROVED", "0"]]
    assert "      why" in lines
