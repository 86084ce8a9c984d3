"""Lists in a made-up guest: each condition of W1 to W7 broken in turn."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest
from kexec_verify.live.checks import Checks
from kexec_verify.live.lists import KexecList, ListError, check_list, walk
from kexec_verify.report.live_model import Seen
from kexec_verify.specs.kimage import IND_DESTINATION, IND_DONE, IND_INDIRECTION, IND_SOURCE

PAGE = 4096
D, IND, DONE, S = IND_DESTINATION, IND_INDIRECTION, IND_DONE, IND_SOURCE
HEAD_AT, LIST, SECOND = 0x4000_0000, 0x4001_0000, 0x4001_1000
A, B, X, Y, CONTROL = 0x4010_0000, 0x4010_1000, 0x4020_0000, 0x4020_1000, 0x4030_0000
GOOD = [A | D, X | S, Y | S, SECOND | IND]
MORE = [0x4011_0000 | D, 0x4022_0000 | S, DONE]


class Guest:
    """RAM of which only a few pages are not zero."""

    def __init__(self, pages: dict[int, list[int]]):
        self.pages = {at: struct.pack(f"<{len(words)}Q", *words) for at, words in pages.items()}

    def is_ram(self, physical: int, size: int = 1) -> bool:
        return 0x4000_0000 <= physical < 0x6000_0000

    def read(self, physical: int, size: int) -> bytes:
        return self.pages.get(physical, b"").ljust(size, b"\0")


def seen(
    first: list[int], second: list[int] = MORE, head: int = LIST | IND, kern_reloc: int = CONTROL
) -> dict[str, set[Seen]]:
    """What the checks of a list show, by assumption."""
    guest: Any = Guest({LIST: first, SECOND: second})
    found = walk(guest, HEAD_AT, head, PAGE)
    checks = Checks()
    place: Any = SimpleNamespace(guest=guest)
    check_list(place, found, 0x1_0000_0000, kern_reloc, checks)
    told: dict[str, set[Seen]] = {}
    for record in checks.records:
        name = f"{record.assumption} {record.what}" if record.what[:1] == "W" else record.assumption
        told.setdefault(name, set()).add(record.seen)
    return told


def false(*arguments: Any, **named: Any) -> set[str]:
    return {name for name, results in seen(*arguments, **named).items() if Seen.FALSE in results}


def test_a_good_list_breaks_nothing():
    results = seen(GOOD)
    assert set().union(*results.values()) == {Seen.HELD}
    assert {"list-defined", "list-one-flag", "pages-below-top", "list-well-formed W5"} <= results.keys()


def test_the_list_machine_finds_every_copy():
    guest: Any = Guest({LIST: GOOD, SECOND: MORE})
    found: KexecList = walk(guest, HEAD_AT, LIST | IND, PAGE)
    assert found.copied == [(A, X), (B, Y), (0x4011_0000, 0x4022_0000)]
    assert found.pages == {LIST, SECOND}


@pytest.mark.parametrize(
    ("first", "second", "broken"),
    [
        ([X | S, A | D, Y | S, SECOND | IND], MORE, "list-defined"),
        ([A | D, X | S | D, SECOND | IND], MORE, "list-one-flag"),
        (GOOD, [A | D, 0x4022_0000 | S, DONE], "list-well-formed W5"),
        (GOOD, [0x4011_0000 | D, B | S, DONE], "list-well-formed W6"),
        (GOOD, [LIST | D, 0x4022_0000 | S, DONE], "list-well-formed W7"),
    ],
)
def test_each_fault_is_found_by_its_formula(first, second, broken):
    assert broken in false(first, second)


def test_a_page_that_is_its_own_destination_is_allowed():
    assert false([A | D, A | S, SECOND | IND]) == set()


def test_the_routine_may_not_be_overwritten():
    assert false(GOOD, kern_reloc=B) == {"control-page-apart"}


def test_a_head_with_done_is_no_list_to_copy():
    assert false(GOOD, head=DONE) == {"list-head"}


@pytest.mark.parametrize("first", [[A | D, 0x7000_0000 | IND], [A | D, LIST | IND]])
def test_a_list_that_leaves_ram_or_has_no_end_is_an_error(first, monkeypatch):
    monkeypatch.setattr("kexec_verify.live.lists._MOST_WORDS", 100)
    with pytest.raises(ListError):
        seen(first)
