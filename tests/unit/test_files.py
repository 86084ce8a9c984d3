"""Files of anybody: read within bounds, named by one function, locked for a while."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec
import pytest
from kexec_verify import files
from kexec_verify.errors import UsageError
from kexec_verify.files import decode_json, file_sha256, home, printable, read_file, safe_name, take_lock
from kexec_verify.report.place import locked


def test_regular_file_is_read_up_to_its_limit(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_file(path, 5) == b"12345"
    with pytest.raises(OSError, match="5 bytes, more than 4"):
        read_file(path, 4)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/dev/zero")
    for path in (tmp_path / "fifo", tmp_path / "link", Path("/dev/null")):
        for read in (lambda path: read_file(path, 100), file_sha256):
            with pytest.raises(OSError, match="a device, a pipe or a socket"):
                read(path)
    with pytest.raises(IsADirectoryError):
        read_file(tmp_path, 100)
    with pytest.raises(OSError, match="null"):
        read_file(tmp_path / "a\0b", 100)


def test_file_that_states_no_size_is_empty():
    """Reading /proc/kmsg, which is a regular file, waits for the kernel's next message."""
    assert read_file(Path("/proc/self/status"), 100) == b""


def test_large_sparse_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 10 << 30)
    with pytest.raises(OSError, match="more than"):
        file_sha256(path)


@pytest.mark.parametrize("data", [b"[" * 100_000, b'"\xff"', b"Infinity", b"", b"9" * 6000])
def test_malformed_json_has_one_error(data):
    with pytest.raises(msgspec.DecodeError):
        decode_json(data, object)


@pytest.mark.parametrize("name", ["vmlinux", "linux-image-6.1.0-56-arm64=6.1.192-2~x", "ядро.elf", "a_b"])
def test_name_of_a_file_stays(name):
    assert safe_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "/etc/passwd", "a/b", "a b", "x\n", "-o", "~root", "a" * 300, "\udcff"],
)
def test_other_name_is_encoded(name, tmp_path):
    found = safe_name(name)
    assert (tmp_path / found).resolve().parent == tmp_path.resolve()
    (tmp_path / f".{found}.temporary").touch()
    assert safe_name(found) == found
    assert not set(found) & set(" /\\$~\n")


def test_names_that_look_alike_are_told_apart():
    assert len({safe_name(name) for name in ("a b", "a_b", "a/b", "a\nb")}) == 4


def test_bytes_of_a_name_are_shown():
    assert printable("a\udcffb") == "a\\udcffb"


def test_lock_of_a_stopped_process_is_not_waited_for_without_end(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(files, "_LOCK_LIMIT", 0.3)
    monkeypatch.setattr(files, "_LOCK_SILENT", 0.1)
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(UsageError, match="another process has locked it"), locked(tmp_path):
        pass
    assert "waiting for another process" in caplog.text
    os.close(handle)
    other = os.open(tmp_path, os.O_RDONLY)
    take_lock(other, "folder")
    os.close(other)


def test_user_without_a_home(monkeypatch):
    def fail() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", fail)
    with pytest.raises(UsageError, match="set HOME"):
        home()
    from kexec_verify.cache.place import open_cache
    from kexec_verify.key import user_key

    for variable in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "KEXEC_VERIFY_CACHE", "KEXEC_VERIFY_CACHE_KEY"):
        monkeypatch.delenv(variable, raising=False)
    assert user_key() is None
    assert open_cache().counts() == []
