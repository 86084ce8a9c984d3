"""The guest's initramfs: busybox, kexec and its libraries, a script, and the kernel to load (cpio, newc).

The bytes depend on the packages and on the kernel alone: no date, owner or file number of this machine.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from kexec_verify.errors import TargetError
from kexec_verify.live.packages import PROGRAMS, Archive, Archives, library_packages
from kexec_verify.target.deb import members

READY, LOADED, FAILED = "LIVE ready", "LIVE loaded", "LIVE failed"
"""What the script prints: before it loads an image, after that, and where the load failed."""
COMMANDS = {
    "load": ("kexec -c -l /Image --append='{append}'", "kexec -e -x -y"),
    "file": ("kexec -s -l /Image --append='{append}'", "kexec -e -x -y"),
    "crash": ("kexec -c -p /Image --append='{append}'", "echo c > /proc/sysrq-trigger"),
}
"""For each mode: how the image is loaded, and how it is entered (kexec(8), sysrq.rst)."""
_APPEND = "earlycon=pl011,0x9000000 console=ttyAMA0 panic=-1"
_LOADER = "ld-linux-aarch64.so.1"
_MOST_BYTES = 1 << 28
_SCRIPT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
export PATH=/bin:/sbin
$b echo {ready}
read -r line
case "$(cat /proc/cmdline)" in
{cases}
esac
$b poweroff -f
"""
_CASE = """*live.mode={mode}*)
    if {load}; then
        $b echo {loaded}
        read -r line
        {enter}
    else
        $b echo {failed} $?
    fi ;;"""


def script() -> str:
    """Return the guest's first program: it waits for a line before each of its two steps."""
    cases = [
        _CASE.format(mode=mode, load=load.format(append=_APPEND), enter=enter, loaded=LOADED, failed=FAILED)
        for mode, (load, enter) in COMMANDS.items()
    ]
    text = _SCRIPT.format(ready=READY, cases="\n".join(cases))
    return text.replace("$(cat", "$($b cat").replace("        echo", "        $b echo")


@dataclass
class Userland:
    """The guest's files by path, and the packages that they are from."""

    files: dict[str, bytes] = field(default_factory=dict)
    packages: list[Archive] = field(default_factory=list)


def userland(archives: Archives) -> Userland:
    """Fetch busybox, kexec and the libraries that kexec needs.

    :raises TargetError: if a package cannot be fetched, or the libraries are in none of those that
        kexec-tools depends on.
    """
    found = Userland()
    libraries: dict[str, bytes] = {}
    with archives.apt.locked():
        archives.apt.refresh()
        programs = archives.described(PROGRAMS)
        if [archive.name for archive in programs] != list(PROGRAMS):
            raise TargetError(f"expected {' and '.join(PROGRAMS)} in apt's lists, found {len(programs)}")
        for archive in programs:
            content = _content(archives.file(archive))
            found.packages.append(archive)
            for name, data in content.items():
                if name.endswith(("bin/busybox", "sbin/kexec")):
                    found.files[name.removeprefix("usr/")] = data
        if not {"bin/busybox", "sbin/kexec"} <= found.files.keys():
            raise TargetError(f"expected busybox and kexec in the packages, found {sorted(found.files)}")
        looked = list(PROGRAMS)
        while missing := _missing(found.files["sbin/kexec"], libraries):
            depends = [name for archive in found.packages for name in archive.depends]
            following = library_packages(missing, depends, looked)
            if not following:
                raise TargetError(f"expected {', '.join(missing)} in what kexec-tools depends on, found none")
            looked.append(following[0])
            for archive in archives.described(following[:1]):
                found.packages.append(archive)
                content = _content(archives.file(archive))
                libraries |= {n.rpartition("/")[2]: d for n, d in content.items() if ".so" in n}
    for name in (_LOADER, *_needed_by(found.files["sbin/kexec"], libraries)):
        found.files[f"lib/{name}"] = libraries[name]
    return found


def _content(archive: Path) -> dict[str, bytes]:
    """Return the regular files in a package by path; a symbolic link counts as what it names there."""
    files: dict[str, bytes] = {}
    links: dict[str, str] = {}
    with members(archive) as listed:
        for member, package in listed:
            name = member.name.removeprefix("./")
            if member.issym():
                links[name] = member.linkname.rpartition("/")[2]
            elif member.isreg() and member.size <= _MOST_BYTES:
                stream = package.extractfile(member)
                files[name] = stream.read() if stream is not None else b""
    by_name = {name.rpartition("/")[2]: data for name, data in files.items()}
    return files | {name: by_name[target] for name, target in links.items() if target in by_name}


def _needed(elf: bytes) -> list[str]:
    """Return the sonames that an ELF file needs."""
    try:
        section = ELFFile(io.BytesIO(elf)).get_section_by_name(".dynamic")
        return [tag.needed for tag in section.iter_tags() if tag.entry.d_tag == "DT_NEEDED"]
    except (ELFError, AttributeError) as error:
        raise TargetError("expected a dynamically linked ELF file, found none") from error


def _needed_by(elf: bytes, libraries: Mapping[str, bytes]) -> list[str]:
    """Return the sonames that an ELF file and the libraries that it needs need, each once."""
    found: list[str] = []
    todo = _needed(elf)
    while todo:
        name = todo.pop(0)
        if name not in found and name != _LOADER:
            found.append(name)
            todo += _needed(libraries[name]) if name in libraries else []
    return sorted(found)


def _missing(elf: bytes, libraries: Mapping[str, bytes]) -> list[str]:
    return [name for name in (_LOADER, *_needed_by(elf, libraries)) if name not in libraries]


class _Cpio:
    """An archive in the format newc (cpio(5)), written in the order of the calls."""

    def __init__(self) -> None:
        self._out = io.BytesIO()
        self._number = 0

    def add(self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        path = name.encode() + b"\0"
        self._number += 1
        fields = [self._number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0]
        self._out.write(b"070701" + b"".join(b"%08x" % value for value in fields) + path)
        self._pad(4)
        self._out.write(data)
        self._pad(4)

    def _pad(self, size: int) -> None:
        self._out.write(bytes(-self._out.tell() % size))

    def end(self) -> bytes:
        self._number = -1
        self.add("TRAILER!!!", 0)
        self._pad(512)
        return self._out.getvalue()


def archive_of(files: Iterable[tuple[str, bytes]], image: bytes) -> bytes:
    """Return the initramfs with ``files`` by path, the guest's script, and the kernel ``image`` to load."""
    made = _Cpio()
    for folder in ("bin", "dev", "lib", "proc", "sbin", "sys"):
        made.add(folder, 0o040755)
    made.add("dev/console", 0o020600, device=(5, 1))
    made.add("init", 0o100755, script().encode())
    for name, data in sorted(files):
        made.add(name, 0o100755, data)
    made.add("Image", 0o100644, image)
    return made.end()
