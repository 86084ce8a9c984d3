"""What bytes there are to verify: kernels from files and from Debian packages."""

import hashlib
import shlex
import stat
from dataclasses import replace
from pathlib import Path

from kexec_verify.errors import TargetError
from kexec_verify.files import TARGET_LIMIT, printable, read_file, safe_name
from kexec_verify.target.compressed import unpack
from kexec_verify.target.debian import PREFIX, read
from kexec_verify.target.elf import MAGIC, load_elf
from kexec_verify.target.header import is_image
from kexec_verify.target.image import load_image
from kexec_verify.target.kernel import Kernel, Segment
from kexec_verify.target.symbols import Symbol, SymbolTable
from kexec_verify.target.write_elf import write_elf

__all__ = [
    "Kernel",
    "Segment",
    "Symbol",
    "SymbolTable",
    "load_kernel",
    "open_target",
    "read_target",
    "write_elf",
]

_BUILT = ("vmlinux", "arch/arm64/boot/Image")  # where a kernel's build leaves it


def open_target(source: str) -> Kernel:
    """Return the kernel that *source* names.

    :param source: the path of an ELF (vmlinux) or of an Image (vmlinuz, compressed or not), or
        ``debian:PACKAGE``.
    :raises TargetError: it cannot be had, or is no little-endian arm64 kernel.
    """
    data, name = read_target(source)
    return load_kernel(data, source, name)


def read_target(source: str) -> tuple[bytes, str]:
    """Return the contents of the file that *source* names, as they are, and the target's short name.

    :raises TargetError: it cannot be had.
    """
    if source.startswith(PREFIX):
        package = source.removeprefix(PREFIX)
        # The suite is a part of the name, not a folder.
        return read(package), package.replace("/", "_")
    path = Path(source)
    return _read(path, source), path.name


def load_kernel(data: bytes, source: str, name: str) -> Kernel:
    """Return the kernel in the contents of one file.

    :param source: the target as the user typed it, for messages.
    :param name: the kernel's short name; made safe for paths.
    :returns: a kernel whose sha256 is that of *data*, compressed as it may be: it also names the bytes
        that are not loaded, such as a header, a signature or what stands around a payload.
    :raises TargetError: it is no little-endian arm64 kernel.
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
    return kernel if unpacked is data else replace(kernel, sha256=hashlib.sha256(data).hexdigest())


def _read(path: Path, source: str) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            kernel = next((path / name for name in _BUILT if (path / name).is_file()), None)
            command = f"verify run {shlex.quote(str(kernel))}" if kernel else ""
            raise TargetError(f"{source}: expected a file, found a directory", command)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            raise TargetError(f"{source}: expected a file, found a device or a pipe")
        return read_file(path, TARGET_LIMIT)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TargetError(f"{source}: expected a readable file, found: {reason}") from error
