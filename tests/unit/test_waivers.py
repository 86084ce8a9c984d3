"""Waivers: read strictly, matched by property and form, never a proof."""

from __future__ import annotations

import pytest

from specs.properties import PROPERTIES
from verify.errors import UsageError
from verify.waivers import FILE, Waiver, read_waivers, waiver_of

GOOD = """
[[waiver]]
property = "inplace-icache-invalid"
form = "kimage"
reason = "known"
reference = "booting.rst"
"""


def test_shipped_waivers_name_known_properties_and_say_why():
    waivers = read_waivers(FILE)
    assert waivers
    for waiver in waivers:
        assert waiver.property in PROPERTIES
        assert waiver.form in ("kimage", "registers")
        assert len(waiver.reason.split()) > 5 and waiver.reference


def test_waiver_is_for_its_property_and_form_alone(tmp_path):
    path = tmp_path / "waivers.toml"
    path.write_text(GOOD)
    waivers = read_waivers(path)
    assert waivers == [Waiver("inplace-icache-invalid", "kimage", "known", "booting.rst")]
    assert waiver_of(waivers, "inplace-icache-invalid", "kimage") is waivers[0]
    assert waiver_of(waivers, "inplace-icache-invalid", "registers") is None
    assert waiver_of(waivers, "inplace-restart", "kimage") is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('reason = "known"\n', "", "expected the keys"),
        ('reason = "known"', 'reason = ""', "expected the keys"),
        ("reason", "excuse", "expected the keys"),
        ("inplace-icache-invalid", "inplace-anything", "expected a property, found 'inplace-anything'"),
        ('form = "kimage"', "form = 1", "expected the keys"),
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
