"""The page of a sweep: every kernel and property in word, icon and colour, and never greener than it is."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from kexec_verify.html.index import write_index
from kexec_verify.html.sweep import sweep_page, write_sweep
from kexec_verify.sweep import journal
from kexec_verify.sweep.model import Function, Row
from kexec_verify.sweep.rows import error_row
from kexec_verify.verdict import Verdict

from ..sweep.examples import TOOL, finished, package
from . import example


class Cells(HTMLParser):
    """The matrix as (tone, words, link) of each cell, row after row."""

    def __init__(self, page: str):
        super().__init__()
        self.rows: list[list[tuple[str, str, str]]] = []
        self._cell: list[str] | None = None
        self.feed(page[page.index('id="matrix"') : page.index('id="properties"')])

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self._cell = [named.get("class") or "", "", ""]
        elif tag == "a" and self._cell:
            self._cell[2] = named["href"]
        elif tag == "use" and self._cell:
            self._cell[1] += f"[{named['href'].removeprefix('#i-')}]"

    def handle_endtag(self, tag):
        if tag == "td" and self._cell:
            self.rows[-1].append(tuple(self._cell))
            self._cell = None

    def handle_data(self, data):
        if self._cell:
            self._cell[1] += data


def cells(page: str) -> list[list[tuple[str, str, str]]]:
    return [row for row in Cells(page).rows[2:] if row]


def rows(reports: Path) -> list[Row]:
    first = example.run(
        example.claim("reloc-step"),
        example.claim("reloc-later", theorem="T2"),
        name="linux-image-6.1.0-44-arm64",
    )
    second = example.run(
        example.claim("reloc-step", Verdict.REFUTED, waiver=example.WAIVER),
        example.claim("reloc-later", Verdict.UNKNOWN, theorem="T2"),
        name="linux-image-6.12.9+deb12-arm64",
    )
    return [
        finished(reports, package("6.12.9+deb12-arm64", "6.12.9-1"), second),
        finished(reports, package("6.1.0-44-arm64", "6.1.164-1"), first),
        error_row(package("6.1.0-45-arm64", "6.1.170-1"), TOOL, "expected a network, found none", 2),
    ]


def test_each_cell_has_word_icon_colour_and_leads_to_the_property(tmp_path):
    found = cells(sweep_page(rows(tmp_path)))
    anchors = re.findall(r'<tr id="say-([^"]+)"', sweep_page(rows(tmp_path)))
    good = [("cell good", "[proved]PROVED", f"linux-image-6.1.0-44-arm64/index.html#{a}") for a in anchors]
    link = "linux-image-6.12.9%2Bdeb12-arm64/index.html#"
    assert found == [
        good,
        [("why bad", "[error]ERROR expected a network, found none", "")],
        [
            ("cell warn", "[waived]REFUTED (waived)", link + anchors[0]),
            ("cell warn", "[unknown]UNKNOWN", link + anchors[1]),
        ],
    ]


def test_the_links_are_places_in_the_kernels_own_pages(tmp_path):
    from kexec_verify.html.write import write_page

    row = finished(tmp_path, package())
    page = write_page(tmp_path / row.name / "run.json").read_text()
    link = cells(sweep_page([row]))[0][0][2]
    assert f'id="{link.partition("#")[2]}"' in page


def test_kernels_are_in_order_of_version_then_flavour(tmp_path):
    names = [("6.1.0-9-arm64", "6.1.27-1"), ("6.1.0-10-arm64", "6.1.37-1"), ("6.1.0-10-rt-arm64", "6.1.37-1")]
    names += [("6.12.9+deb12-arm64", "6.12.9-1")]
    listed = [finished(tmp_path, package(*name)) for name in reversed(names)]
    page = sweep_page(listed)
    places = [page.index(f">{name}</a>") for name, _ in names]
    assert places == sorted(places)
    assert page.index("Linux 6.1<") < page.index("Linux 6.12<")


def word(page: str) -> tuple[str, str]:
    banner = re.search(r'class="banner prose (\w+)".*?class="word">([^<]+)<', page, re.DOTALL)
    assert banner
    return banner[1], banner[2]


@pytest.mark.parametrize(
    ("changed", "tone", "expected"),
    [
        ({}, "good", "2 PROVED"),
        ({"complete": False}, "warn", "INCOMPLETE"),
        ({"properties": []}, "warn", "UNKNOWN"),
        ({"error": "no network", "properties": []}, "bad", "ERROR"),
    ],
)
def test_the_banner_is_green_only_if_everything_is(tmp_path, changed, tone, expected):
    good = finished(tmp_path, package("6.1.0-44-arm64"))
    other = msgspec.structs.replace(finished(tmp_path, package("6.1.0-45-arm64")), **changed)
    assert word(sweep_page([good, other])) == (tone, expected)


@pytest.mark.parametrize(
    ("verdict", "tone"),
    [(v, "bad" if v in ("REFUTED", "ERROR") else "warn") for v in Verdict if v != "PROVED"],
)
def test_the_banner_is_as_bad_as_the_worst_kernel(tmp_path, verdict, tone):
    good = finished(tmp_path, package("6.1.0-44-arm64"))
    run = example.run(example.claim("a", verdict), name="bad")
    assert word(sweep_page([good, finished(tmp_path, package("6.1.0-45-arm64"), run)]))[0] == tone


def test_a_waived_refutation_is_amber_and_said(tmp_path):
    run = example.run(
        example.claim("a", Verdict.REFUTED, waiver=example.WAIVER), example.claim("b"), name="waived"
    )
    assert word(sweep_page([finished(tmp_path, package(), run)])) == (
        "warn",
        "1 PROVED, except what is waived",
    )


def test_nothing_is_not_green():
    assert word(sweep_page([])) == ("warn", "NOTHING VERIFIED")


def test_a_property_that_a_kernel_lacks_and_what_differs_is_shown(tmp_path):
    both = finished(tmp_path, package("6.1.0-44-arm64"), example.run(example.claim("a"), example.claim("b")))
    one = finished(tmp_path, package("6.1.0-45-arm64"), example.run(example.claim("a")))
    page = sweep_page([both, one])
    assert [cell[0] for cell in cells(page)[1]] == ["cell good", "none"]
    assert "<code>b</code>: PROVED in 1" in page and "absent in 1" in page
    assert "None: each property has the same verdict" in sweep_page([both])


def test_a_run_by_another_tool_is_marked(tmp_path):
    old = finished(tmp_path, package("6.1.0-44-arm64"), tool="71" * 32, finished="2025-01-01T00:00:00+00:00")
    new = finished(tmp_path, package("6.1.0-45-arm64"), finished="2025-01-02T00:00:00+00:00")
    assert sweep_page([old, new]).count("earlier tool") == 1
    assert "earlier tool" not in sweep_page([new])


def test_equal_functions_have_the_same_letter(tmp_path):
    contents = [("c1", "s1"), ("c2", "s1"), ("c1", "s1"), ("c3", "s2")]
    listed = [
        finished(tmp_path, package(f"6.1.0-{n}-arm64"), functions=[Function("f", 0x1000, 8, *content)])
        for n, content in enumerate(contents, 44)
    ]
    page = sweep_page(listed)
    letters = re.findall(r'<td class="letter( rare)?">([^<]+)</td>', page)
    assert letters == [("", "A1"), ("", "A2"), ("", "A1"), (" rare", "B")]


def test_hostile_names_stay_text(tmp_path):
    run = example.run(
        example.claim(example.HOSTILE, Verdict.UNKNOWN, reason=example.HOSTILE, statement=example.HOSTILE),
        name="hostile",
    )
    hostile = Function(example.HOSTILE, 0x1000, 8, example.HOSTILE, example.HOSTILE)
    listed = [
        finished(tmp_path, package(), run, functions=[hostile], flavour=example.HOSTILE),
        msgspec.structs.replace(
            error_row(package("6.1.0-45-arm64"), TOOL, example.HOSTILE, 2),
            package=example.HOSTILE,
            version=f"6.1{example.HOSTILE}",
        ),
    ]
    listed.append(msgspec.structs.replace(listed[0], name='x" onclick="alert(1)', package="other"))
    page = sweep_page(listed)
    assert "<script>alert" not in page
    assert 'onclick="alert' not in page
    assert "\u202e" not in page
    assert "49" not in re.findall(r"\{\{[^}]*\}\}|&amp;\\u202e(49)", page)
    assert page.count("<script>") == 1


def test_the_page_loads_nothing(tmp_path):
    page = sweep_page(rows(tmp_path))
    assert "default-src 'none'" in page
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)


def test_the_index_leads_to_the_page_once_there_is_one(tmp_path):
    assert "sweep.html" not in write_index(tmp_path).read_text()
    journal.add(tmp_path, finished(tmp_path, package()))
    assert write_sweep(tmp_path) == tmp_path / "sweep.html"
    assert 'href="sweep.html"' in write_index(tmp_path).read_text()
