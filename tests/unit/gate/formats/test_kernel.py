"""One line a finding, as the kernel's build prints them; offsets go into scripts/faddr2line as they are."""

from __future__ import annotations

import re

import pytest
from kexec_verify.gate.formats import kernel

from .. import examples

REPORTS = examples.every()
# As editors and scripts read it: file, line or tool, severity, function+offset/size, text, [id].
LEVEL = "(error|warning|note)"
WITH_LINE = re.compile(rf"([^:]+):(\d+): {LEVEL}: (\S+\+0x[0-9a-f]+/0x[0-9a-f]+): (.*) \[([\w-]+)\]")
WITHOUT = re.compile(rf"([^:]+): {LEVEL}: kexec-verify: (\S+): (.*) \[([\w-]+)\]")


def lines(name):
    return kernel.render(REPORTS[name]).splitlines()


def test_with_debug_information():
    (line,) = lines("located")
    match = WITH_LINE.fullmatch(line)
    assert match
    assert match.groups()[:4] == ("arch/arm64/kernel/relocate_kernel.S", "77", "error", examples.WHERE)
    assert match[6] == "claim-refuted"


def test_without_debug_information():
    (line,) = lines("refuted")
    assert WITHOUT.fullmatch(line).groups()[:3] == ("vmlinux", "error", examples.WHERE)


def test_offset_is_what_faddr2line_takes():
    """scripts/faddr2line splits its argument at the first + and /: symbol, offset, size."""
    (line,) = lines("refuted")
    word = re.search(r"\S+\+0x\S+", line)[0].rstrip(":")
    symbol, _, rest = word.partition("+")
    offset, _, size = rest.partition("/")
    assert (symbol, int(offset, 16), int(size, 16)) == (examples.ROUTINE, 0xE8, 0x120)


def test_undecided_and_waived_say_so():
    assert [WITHOUT.fullmatch(line)[2] for line in lines("undecided")] == ["warning", "warning"]
    assert ": UNKNOWN: " in lines("undecided")[0]
    assert WITHOUT.fullmatch(lines("waived")[0])[2] == "note"
    assert ": REFUTED (waived): " in lines("waived")[0]


def test_proved_is_silent():
    assert lines("proved") == []


def test_what_no_finding_says_is_said():
    assert lines("incomplete") == ["vmlinux: error: kexec-verify: gate: the run was interrupted"]


@pytest.mark.parametrize("name", REPORTS)
def test_one_line_each(name):
    text = kernel.render(REPORTS[name])
    assert all(character.isprintable() for line in text.split("\n") for character in line)
    assert len(lines(name)) >= len(REPORTS[name].findings)
