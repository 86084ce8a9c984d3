"""The guest's initramfs: the format, and that only its contents count."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from kexec_verify.live.initramfs import COMMANDS, FAILED, LOADED, READY, archive_of, script
from kexec_verify.live.packages import library_packages

FILES = [("bin/busybox", b"busybox"), ("lib/libc.so.6", b"libc"), ("sbin/kexec", b"kexec")]


def test_the_order_in_which_files_are_found_does_not_count():
    assert archive_of(FILES, b"image") == archive_of(reversed(FILES), b"image")


def test_contents_count():
    assert archive_of(FILES, b"image") != archive_of(FILES, b"other")


def names(archive: bytes) -> dict[str, bytes]:
    """The files of a newc archive, read by its own description (initramfs buffer format)."""
    found, at = {}, 0
    while archive[at : at + 6] == b"070701":
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        size, length = fields[6], fields[11]
        name = archive[at + 110 : at + 110 + length - 1].decode()
        start = at + 110 + length + (-(110 + length) % 4)
        found[name] = archive[start : start + size]
        at = start + size + (-size % 4)
    return found


def test_each_file_is_in_the_archive_and_a_trailer_ends_it():
    found = names(archive_of(FILES, b"the kernel"))
    assert found["Image"] == b"the kernel"
    assert found["sbin/kexec"] == b"kexec"
    assert found["init"] == script().encode()
    assert list(found)[-1] == "TRAILER!!!"


def test_the_script_has_every_mode_and_says_how_far_it_came():
    text = script()
    assert all(f"*live.mode={mode}*)" in text for mode in COMMANDS)
    assert all(told in text for told in (READY, LOADED, FAILED))


@pytest.mark.skipif(shutil.which("sh") is None, reason="no shell")
def test_the_script_is_a_shell_script():
    done = subprocess.run(
        ["sh", "-n"], input=script(), text=True, capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_libraries_are_looked_for_where_their_names_point_first():
    depends = ["libext2fs2", "libxencall1", "zlib1g", "debconf", "libc6"]
    found = library_packages(["libxencall.so.1"], depends, ["libc6"])
    assert found == ["libxencall1", "libext2fs2", "zlib1g"]
