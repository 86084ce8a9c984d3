"""A strict reader of KTAP version 1, after Documentation/dev-tools/ktap.rst.

Stricter than kernel tools: a line that is of none of the four kinds is an error here, and so
is a missing plan.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_RESULT = re.compile(r"(ok|not ok) (\d+) ([^#]*[^# ])(?: # (.*))?")


@dataclass
class Test:
    """A result line and its subtests; ``skipped`` by directive."""

    name: str
    ok: bool
    note: str
    diagnostics: list[str]
    subtests: list[Test] = field(default_factory=list)

    @property
    def skipped(self) -> bool:
        return self.note.startswith("SKIP")


def read(text: str) -> list[Test]:
    """The tests of the outermost plan.

    :raises ValueError: if the text is not KTAP.
    """
    assert text.endswith("\n")
    lines = text[:-1].split("\n")
    tests, rest = _plan(lines, "")
    if rest:
        raise ValueError(f"after the plan: {rest[0]!r}")
    return tests


def _plan(lines: list[str], indent: str) -> tuple[list[Test], list[str]]:
    if lines[0] != f"{indent}KTAP version 1":
        raise ValueError(f"expected a version line, found {lines[0]!r}")
    match = re.fullmatch(rf"{indent}1\.\.(\d+)", lines[1])
    if match is None:
        raise ValueError(f"expected a plan, found {lines[1]!r}")
    left, tests = lines[2:], []
    for number in range(1, int(match[1]) + 1):
        test, left = _test(left, indent, number)
        tests.append(test)
    return tests, left


def _test(lines: list[str], indent: str, number: int) -> tuple[Test, list[str]]:
    subtests: list[Test] = []
    diagnostics = []
    while True:
        if not lines:
            raise ValueError(f"expected result {number}, found the end")
        if lines[0] == f"{indent}  KTAP version 1" and not subtests:
            subtests, lines = _plan(lines, indent + "  ")
        elif lines[0].startswith(f"{indent}# "):
            diagnostics.append(lines[0][len(indent) + 2 :])
            lines = lines[1:]
        else:
            break
    match = _RESULT.fullmatch(lines[0].removeprefix(indent)) if lines[0].startswith(indent) else None
    if match is None or int(match[2]) != number:
        raise ValueError(f"expected result {number}, found {lines[0]!r}")
    test = Test(match[3], match[1] == "ok", match[4] or "", diagnostics, subtests)
    if subtests and test.ok and not all(sub.ok for sub in subtests):
        raise ValueError(f"{test.name} is ok, and one of its subtests is not")
    return test, lines[1:]
