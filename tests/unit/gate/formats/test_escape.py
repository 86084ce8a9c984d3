"""Names out of a binary are anybody's text."""

from __future__ import annotations

import pytest
from kexec_verify.gate.formats.escape import command_data, command_property, description, xml
from kexec_verify.report.plain import plain

from ..examples import EVIL


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("arm64_relocate_new_kernel+0xe8/0x120", "arm64_relocate_new_kernel+0xe8/0x120"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\u202eb\u2028c\ufeff", "a\\u202eb\\u2028c\\ufeff"),
        ("\ud800\U000e0001", "\\ud800\\U000e0001"),
        ("##[error]x", "##\\x5berror]x"),
        ("größer → 1", "größer → 1"),
    ],
)
def test_line_has_only_what_is_seen(text, shown):
    assert plain(text) == shown


def test_xml_has_no_markup_left():
    assert not set("<>\"'") & set(xml(EVIL))
    assert "&lt;b a=&apos;1&apos;&gt;&amp;&quot;" in xml(EVIL)


def test_workflow_command_cannot_be_left():
    assert command_data("100%\n") == "100%25\\n"
    assert not set(":,") & set(command_property(EVIL))


def test_ktap_description_has_no_hash():
    assert "#" not in description(EVIL)
    assert description("") == "unnamed"
