"""Kernels in folders, on standard input, and in Debian and RPM packages that are files."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import struct
import subprocess
import sys

import pytest
import zstandard
from kexec_verify.errors import TargetError
from kexec_verify.target import locate_target, open_target, read_target, rpm

COMPRESS = {
    "none": lambda data: data,
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}
REGULAR, LINK = 0o100644, 0o120777


def cpio(*members: tuple[str, int, bytes]) -> bytes:
    """An archive of members (name, mode, content) in the newc format."""
    found = b""
    for name, mode, data in (*members, ("TRAILER!!!", 0, b"")):
        text = name.encode() + b"\0"
        fields = (1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(text), 0)
        found += b"070701" + b"".join(b"%08x" % field for field in fields) + text
        found += bytes(-len(found) % 4) + data
        found += bytes(-len(found) % 4)
    return found


def header(*strings: tuple[int, int, bytes]) -> bytes:
    """An RPM header with values (tag, type, bytes)."""
    index, store = b"", b""
    for tag, kind, value in strings:
        index += struct.pack(">IIII", tag, kind, len(store), 1)
        store += value + b"\0"
    return b"\x8e\xad\xe8\x01" + bytes(4) + struct.pack(">II", len(strings), len(store)) + index + store


def package(payload: bytes, digest: str = "") -> bytes:
    digest = digest or hashlib.sha256(payload).hexdigest()
    signature = header((1000, 6, b"odd"))
    main = header((1000, 6, b"kernel-core"), (5092, 8, digest.encode()))
    return b"\xed\xab\xee\xdb".ljust(96, b"\0") + signature + bytes(-len(signature) % 8) + main + payload


@pytest.mark.parametrize("how", COMPRESS)
@pytest.mark.parametrize("name", ["./lib/modules/6.12.0/vmlinuz", "/boot/vmlinuz-6.12.0"])
def test_rpm_s_kernel_is_opened(tmp_path, make, how, name):
    other = ("./lib/modules/6.12.0/config", REGULAR, b"no")
    link = ("./boot/vmlinuz-6.12.0", LINK, b"../lib/modules/6.12.0/vmlinuz")
    archive = cpio(other, link, (name, REGULAR, b""), (name, REGULAR, make.image()))
    path = tmp_path / "kernel-core.rpm"
    path.write_bytes(package(COMPRESS[how](archive)))
    assert read_target(str(path)) == (make.image(), "kernel-core.rpm")
    assert open_target(str(path)).symbol("_text").address == make.base


@pytest.mark.parametrize("how", COMPRESS)
def test_rpm_that_is_cut_is_refused_wherever_it_is_cut(make, how):
    data = package(COMPRESS[how](cpio(("boot/vmlinuz-6", REGULAR, make.image()))), digest="other")
    for size in [*range(4, 400, 7), *range(400, len(data) // 2, len(data) // 40)]:
        with pytest.raises(TargetError):
            rpm.kernel_in(data[:size])


BROKEN = {
    "expected a payload with SHA-256 00": package(cpio(), "0" * 64),
    "found none$": package(cpio(("etc/vmlinuz", REGULAR, b"x"))),
    "expected a cpio archive in the newc format, found bytes 42 5a": package(b"BZh" + bytes(200)),
    "expected a name of at most 4096 bytes, found 5001": package(cpio(("n" * 5000, REGULAR, b""))),
    "expected an RPM header at byte 96, found 4294967295 entries": b"\xed\xab\xee\xdb".ljust(96, b"\0")
    + b"\x8e\xad\xe8\x01"
    + bytes(4)
    + b"\xff" * 40,
}


@pytest.mark.parametrize("expected", BROKEN)
def test_damaged_rpm_is_refused(tmp_path, expected):
    path = tmp_path / "kernel.rpm"
    path.write_bytes(BROKEN[expected])
    with pytest.raises(TargetError, match=expected) as refusal:
        read_target(str(path))
    assert str(refusal.value).startswith(f"{path}: ")


def test_rpm_that_unpacks_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(rpm, "_MOST_BYTES", 1 << 20)
    data = package(zstandard.ZstdCompressor().compress(cpio(("zeros", REGULAR, bytes(1 << 21)))))
    with pytest.raises(TargetError, match="expected a kernel in the first 1048576 bytes, found none"):
        rpm.kernel_in(data)


def test_deb_file_s_kernel_is_opened(tmp_path, make, require_tool):
    require_tool("dpkg-deb", "dpkg")
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "boot").mkdir()
    fields = {
        "Package": "k",
        "Version": "1",
        "Architecture": "arm64",
        "Maintainer": "n <n@n>",
        "Description": "k",
    }
    (tree / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
    (tree / "boot/vmlinuz-6.12").write_bytes(make.image())
    path = tmp_path / "kernel.deb"
    subprocess.run(["dpkg-deb", "--build", tree, path], check=True, capture_output=True, timeout=60)
    assert read_target(str(path)) == (make.image(), "kernel.deb")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(TargetError, match=r"kernel\.deb: expected an intact package"):
        read_target(str(path))


@pytest.mark.parametrize("name", ["vmlinux", "arch/arm64/boot/Image"])
def test_folder_with_a_built_kernel(tmp_path, make, name):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(make.image())
    assert locate_target(str(tmp_path)) == str(path)
    assert open_target(str(tmp_path)).source == str(path)


def test_standard_input(make):
    script = (
        "import sys\nfrom kexec_verify.target import open_target, read_target\n"
        "assert read_target('-')[1] == 'stdin'\nprint(open_target('-').sha256)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=make.image(), capture_output=True, check=True, timeout=60
    )
    assert done.stdout.decode().strip() == hashlib.sha256(make.image()).hexdigest()
