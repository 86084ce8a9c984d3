"""Markdown is read by an implementation of CommonMark: names out of a binary must come out as text."""

from __future__ import annotations

import pytest
from kexec_verify.gate.formats import markdown
from kexec_verify.gate.formats.escape import code_span
from kexec_verify.report.plain import plain
from markdown_it import MarkdownIt

from .. import examples
from ..examples import claim, decided, run

REPORTS = examples.every()


def html(name):
    return MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(markdown.render(REPORTS[name]))


@pytest.mark.parametrize("name", REPORTS)
def test_only_our_own_markup_comes_out(name):
    import re

    tags = set(re.findall(r"</?([a-z0-9]+)", html(name)))
    assert tags <= {"p", "strong", "code", "ul", "li"}


def test_decision_and_reasons_come_first():
    lines = markdown.render(REPORTS["refuted"]).splitlines()
    assert lines[0] == "**kexec-verify FAILED**"
    assert lines[2] == "`gate: failed (1 refuted): 1 PROVED, 1 REFUTED`"
    assert lines[4].startswith("* refuted: `vmlinux` `claim-refuted`: `")
    assert lines[-1] == "Next: `verify replay reports/vmlinux/run.json`"


def test_waived_is_named_and_not_among_the_proved():
    text = markdown.render(REPORTS["waived"])
    assert "* **REFUTED (waived)** `claim-waived`" in text
    assert "1 PROVED, 1 REFUTED (waived)" in text


def test_source_line_is_shown():
    assert "`arch/arm64/kernel/relocate_kernel.S:77`" in markdown.render(REPORTS["located"])


def test_text_fits_a_comment():
    long = decided(run(*(claim(f"claim-{i}", reason="x" * 300, verdict="UNKNOWN") for i in range(1000))))
    assert len(markdown.render(long)) <= markdown.LIMIT


@pytest.mark.parametrize("text", ["", "`", "``", " a ", "a`b``c", "|<b>&[x](y) @you #1", examples.EVIL])
def test_code_span_holds_its_text(text):
    (block,) = MarkdownIt().parse(f"x {code_span(text)} y")[1:2]
    code = [child for child in block.children if child.type == "code_inline"]
    assert len(block.children) == 3
    assert code[0].content.strip() == plain(text).strip()
