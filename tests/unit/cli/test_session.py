"""What a cached run is found by."""

from __future__ import annotations

import pytest
from kexec_verify.cli.session import Session
from kexec_verify.cli.terminal import Terminal

WAIVER = """[[waiver]]
property = "inplace-restart"
variant = "kimage"
obligation = "mk-a"
sentence = "b"
reason = "{}"
reference = "d"
"""


@pytest.fixture
def key(tmp_path, monkeypatch):
    """Returns what a run of one target is kept under, by the options of the command."""
    monkeypatch.chdir(tmp_path)

    def call(target="vmlinux", **options):
        with Session(Terminal(), tmp_path / "reports", **options) as session:
            return session._query("0" * 64, target, session.place("vmlinux", target))

    return call


def test_key_depends_on_the_contents_of_waivers(key, tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text(WAIVER.format("one"))
    one = key(waiver_files=(mine,))
    assert one == key(waiver_files=(mine,)) and one != key()
    mine.write_text(WAIVER.format("two"))
    assert key(waiver_files=(mine,)) not in (one, key())


def test_key_depends_on_the_request(key):
    assert key() == key()
    keys = [key(), key("a/vmlinux"), key(patterns=("reloc-covered",)), key(seed=1)]
    assert len(set(keys)) == len(keys)
