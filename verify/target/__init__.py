"""What bytes there are to verify: kernels from files and from Debian packages."""

import hashlib
import stat
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

from kexec_verify.errors import TargetError
from kexec_verify.files import TARGET_LIMIT, printable, read_file, safe_name
from kexec_verify.target import deb, rpm
from kexec_verify.target.compressed import MAX_SIZE, unpack
from kexec_verify.target.debian import PREFIX, read
from kexec_verify.target.elf import MAGIC, load_elf
from kexec_verify.target.header import is_image
from kexec_verify.target.image import load_image
from kexec_verify.target.kernel import Kernel, Segment
from kexec_verify.target.patching import as_booted
from kexec_verify.target.symbols import Symbol, SymbolTable
from kexec_verify.target.write_elf import write_elf

__all__ = [
    "Kernel",
    "Segment",
    "Symbol",
    "SymbolTable",
    "load_kernel",
    "locate_target",
    "open_target",
    "read_target",
    "write_elf",
]

STDIN = "-"  # the target that is read from standard input
_BUILT = ("vmlinux", "arch/arm64/boot/Image")  # where a kernel's build leaves it


def open_target(source: str) -> Kernel:
    """Return the kernel that *source* names.

    :param source: the path of an ELF (vmlinux), of an Image (vmlinuz, compressed or not), of a
        ``.deb`` or ``.rpm`` package, or of a folder in which a kernel was built; ``-`` for standard
        input; or ``debian:PACKAGE``.
    :raises TargetError: it cannot be had, or is no little-endian arm64 kernel.
    """
    source = locate_target(source)
    data, name = read_target(source)
    return load_kernel(data, source, name)


def locate_target(source: str) -> str:
    """Return the path of the kernel in *source* where that is a folder in which one was built, else *source*.

    :raises TargetError: the folder holds no kernel.
    """
    path = Path(source)
    if source in ("", STDIN) or source.startswith(PREFIX) or not _is_folder(path):
        return source
    for name in _BUILT:
        if (path / name).is_file():
            return str(path / name)
    wanted = " or ".join(_BUILT)
    raise TargetError(f"{printable(source)}: expected {wanted} in this folder, found neither")


def read_target(source: str) -> tuple[bytes, str]:
    """Return the bytes of the kernel file that *source* names, and the target's short name.

    They are as in the file; of a package they are the kernel's in it.

    :raises TargetError: it cannot be had.
    """
    if source.startswith(PREFIX):
        package = source.removeprefix(PREFIX)
        # The suite is a part of the name, not a folder.
        return read(package), package.replace("/", "_")
    if source == STDIN:
        return _from_package(_standard_input(), source), "stdin"
    path = Path(locate_target(source))
    return _from_package(_read(path, source), source), path.name


def load_kernel(data: bytes, source: str, name: str) -> Kernel:
    """Return the kernel in the contents of one file, with what every boot patches in it (as_booted).

    :param source: the target as the user typed it, for messages.
    :param name: the kernel's short name; made safe for paths.
    :returns: a kernel whose sha256 is that of *data*, compressed as it may be: it also names the bytes
        that are not loaded, such as a header, a signature or what surrounds a payload.
    :raises TargetError: it is no little-endian arm64 kernel, or its tables of patch sites cannot be read.
    """
    source = printable(source)
    if not data:
        raise TargetError(f"{source}: expected an arm64 kernel, found an empty file")
    unpacked = unpack(data, source)
    if unpacked.startswith(MAGIC):
        kernel = load_elf(unpacked, source, safe_name(name))
    elif is_image(unpacked):
        kernel = load_image(unpacked, source, safe_name(name))
    else:
        found = unpacked[:8].hex(" ")
        raise TargetError(f"{source}: expected an ELF file or an arm64 Image, found bytes {found}")
    kernel = as_booted(kernel)
    return kernel if unpacked is data else replace(kernel, sha256=hashlib.sha256(data).hexdigest())


def _from_package(data: bytes, source: str) -> bytes:
    try:
        if deb.is_deb(data):
            return deb.kernel_in(data)
        return rpm.kernel_in(data) if rpm.is_rpm(data) else data
    except TargetError as error:
        raise TargetError(f"{printable(source)}: {error}") from error


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # reading it says why
        return False


@cache  # it can be read once, and a target may be read to be checked and again to be proved
def _standard_input() -> bytes:
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise TargetError("standard input: expected a kernel, found a terminal or nothing")
    pieces, left = [], MAX_SIZE + 1
    try:
        while left and (piece := sys.stdin.buffer.read(min(left, 1 << 20))):
            pieces.append(piece)
            left -= len(piece)
    except OSError as error:
        raise TargetError(f"standard input: expected a kernel, found: {error.strerror}") from error
    if not left:
        raise TargetError(f"standard input: expected at most {MAX_SIZE} bytes, found more; name the file")
    return b"".join(pieces)


def _read(path: Path, source: str) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            raise TargetError(f"{source}: expected a file, found a device or a pipe")
        return read_file(path, TARGET_LIMIT)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TargetError(f"{source}: expected a readable file, found: {reason}") from error
