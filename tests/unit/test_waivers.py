"""Waivers: read strictly, matched by property and form, never a proof."""

from __future__ import annotations

import dataclasses
import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from kexec_verify.arm64.lift import Code
from kexec_verify.errors import UsageError
from kexec_verify.kernel_proof import _waive
from kexec_verify.kexec.abi_variant import AbiVariant
from kexec_verify.logic import FALSE
from kexec_verify.obligation import Obligation
from kexec_verify.prove.discharge import Result
from kexec_verify.specs.properties import PROPERTIES
from kexec_verify.theorems import Finding, Outcome
from kexec_verify.verdict import Verdict
from kexec_verify.waivers import FILE, OWN, Waiver, read_waivers, waiver_of

AT = "machine_kexec+0x200/0x214"
KNOWN = ("mk-icache-invalid", "when machine_kexec+0x200 leaves", AT)

GOOD = """
[[waiver]]
property = "inplace-icache-invalid"
variant = "kimage"
obligation = "mk-icache-invalid"
sentence = "when machine_kexec+* leaves"
reason = "known"
reference = "booting.rst"
"""


def test_shipped_waivers_name_known_properties_and_say_why():
    waivers = read_waivers(FILE)
    assert waivers
    for waiver in waivers:
        assert waiver.property in PROPERTIES
        assert waiver.variant in ("kimage", "registers")
        pattern = PROPERTIES[waiver.property].obligations
        assert any(fnmatch.fnmatchcase(waiver.obligation, glob) for glob in pattern)
        assert waiver.sentence != "*"
        assert len(waiver.reason.split()) > 5 and waiver.reference


def test_waiver_is_for_its_property_and_form_alone(tmp_path):
    path = tmp_path / "waivers.toml"
    path.write_text(GOOD)
    waivers = read_waivers(path)
    named = ("mk-icache-invalid", "when machine_kexec+* leaves")
    assert waivers == [
        Waiver("inplace-icache-invalid", "kimage", *named, "known", "booting.rst", "", str(path))
    ]
    assert waiver_of(waivers, "inplace-icache-invalid", "kimage", [KNOWN]) is waivers[0]
    assert waiver_of(waivers, "inplace-icache-invalid", "registers", [KNOWN]) is None
    assert waiver_of(waivers, "inplace-restart", "kimage", [KNOWN]) is None


@pytest.mark.parametrize(
    ("failing", "covered"),
    [
        ([KNOWN], True),
        ([KNOWN, ("mk-icache-invalid", "when machine_kexec+0x8 leaves", AT)], True),
        ([], False),
        ([KNOWN, ("mk-untaken", *KNOWN[1:])], False),
        ([KNOWN, ("mk-icache-invalid", "when cpu_soft_restart leaves", AT)], False),
        ([("mk-icache-invalid-2", *KNOWN[1:])], False),
    ],
)
def test_waiver_covers_the_deviation_that_it_names_and_no_other(tmp_path, failing, covered):
    path = tmp_path / "waivers.toml"
    path.write_text(GOOD)
    found = waiver_of(read_waivers(path), "inplace-icache-invalid", "kimage", failing)
    assert (found is not None) is covered


def outcome(verdict: Verdict, *failing: tuple[str, str, str]) -> Outcome:
    """What came of one property, of which these obligations are not proved."""
    results = [
        Result(Obligation(name, sentence, (), FALSE), Verdict.UNKNOWN, "", (), False)
        for name, sentence, _ in failing
    ]
    finding = Finding(PROPERTIES["inplace-icache-invalid"], verdict, results=results)
    return Outcome(
        Code("f", 0, b""), cast(AbiVariant, SimpleNamespace(name="kimage", tests_head=False)), [finding], {}
    )


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict is not Verdict.REFUTED])
def test_only_what_is_refuted_is_waived(tmp_path, verdict):
    path = tmp_path / "waivers.toml"
    path.write_text(GOOD)
    known = outcome(verdict, KNOWN)
    _waive(known, read_waivers(path))
    assert known.findings[0].waiver is None and len(known.notes) == 1


def test_waiver_that_matches_nothing_is_a_note(tmp_path):
    path = tmp_path / "waivers.toml"
    path.write_text(GOOD + GOOD.replace("kimage", "registers"))
    waivers = [dataclasses.replace(waiver, file=OWN) for waiver in read_waivers(path)]
    waived, another = (
        outcome(Verdict.REFUTED, KNOWN),
        outcome(Verdict.REFUTED, KNOWN, ("mk-untaken", "no", "")),
    )
    _waive(waived, waivers)
    _waive(another, waivers)
    assert waived.findings[0].waiver == waivers[0] and waived.notes == []
    assert another.findings[0].waiver is None
    assert another.notes == [
        "inplace-icache-invalid is REFUTED: its waiver for mk-icache-invalid in specs/waivers.toml "
        "matches nothing here"
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('reason = "known"\n', "", "expected the keys"),
        ('reason = "known"', 'reason = ""', "expected a text that is not empty for reason"),
        ("reason", "excuse", "expected the keys"),
        ('obligation = "mk-icache-invalid"\n', "", "expected the keys"),
        ('sentence = "when machine_kexec+* leaves"\n', "", "expected the keys"),
        ("inplace-icache-invalid", "inplace-anything", "expected a property, found 'inplace-anything'"),
        ('variant = "kimage"', "variant = 1", "expected a text that is not empty for variant"),
        ('variant = "kimage"', 'variant = "any"', "expected one of the variants"),
        ("[[waiver]]", "[[waiver", "expected a file of waivers"),
    ],
)
def test_bad_waivers_are_refused(tmp_path, old, new, message):
    path = tmp_path / "waivers.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(UsageError, match=message):
        read_waivers(path)


def test_missing_file_is_one_clear_line(tmp_path):
    with pytest.raises(UsageError, match="expected a file of waivers, found"):
        read_waivers(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("where", "covered"),
    [("machine_kexec+0x200", True), ("machine_kexec+*", True), ("machine_kexec+0x8", False)],
)
def test_where_tells_two_deviations_of_one_sentence_apart(tmp_path, where, covered):
    path = tmp_path / "waivers.toml"
    path.write_text(GOOD + f'where = "{where}"\n')
    found = waiver_of(read_waivers(path), "inplace-icache-invalid", "kimage", [KNOWN])
    assert (found is not None) is covered


def test_a_users_waiver_of_another_variant_is_a_note_that_names_its_file(tmp_path):
    path = tmp_path / "waivers.toml"
    path.write_text(GOOD.replace("kimage", "registers"))
    known = outcome(Verdict.REFUTED, KNOWN)
    _waive(known, read_waivers(path))
    assert known.findings[0].waiver is None
    assert known.notes == [
        f"inplace-icache-invalid is REFUTED: its waiver for mk-icache-invalid in {path} matches nothing here"
    ]


def test_a_users_file_of_the_same_name_is_not_the_tools_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("specs").mkdir()
    Path(OWN).write_text(GOOD)
    (waiver,) = read_waivers(Path(OWN))
    assert waiver.file != OWN
