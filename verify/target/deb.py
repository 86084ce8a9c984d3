"""The kernel in a Debian package, unpacked by dpkg-deb within bounds."""

import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from kexec_verify.errors import TargetError
from kexec_verify.target.compressed import MAX_SIZE

_MAGIC = b"!<arch>\ndebian-binary"
_KERNEL = re.compile(r"boot/vmlinuz-[^/]+|(usr/)?lib/modules/[^/]+/vmlinuz")
_READ_WHOLE = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_LARGEST_HEADER = 1 << 16  # bytes
_MOST_MEMBERS = 100_000  # the largest packages have some 5,000
_MOST_BYTES = 1 << 32  # bytes of unpacked content that are looked through


def is_deb(data: bytes) -> bool:
    """Return whether *data* starts as a Debian package does (deb(5))."""
    return data.startswith(_MAGIC)


def kernel_in(data: bytes) -> bytes:
    """Return the kernel image in the contents of a ``.deb`` file.

    :raises TargetError: dpkg-deb is missing, or the package is damaged or holds no kernel.
    """
    try:
        with tempfile.NamedTemporaryFile(prefix="kexec-verify-", suffix=".deb") as file:
            file.write(data)
            file.flush()
            return kernel_of(Path(file.name))
    except OSError as error:
        raise TargetError(f"expected room for a temporary file, found: {error.strerror}") from error


def kernel_of(archive: Path) -> bytes:
    """Return the first ./boot/vmlinuz-* or ./usr/lib/modules/*/vmlinuz of *archive*.

    :raises TargetError: dpkg-deb is missing, or the package is damaged or holds no kernel.
    """
    with members(archive) as found:
        for member, content in found:
            if member.offset_data > _MOST_BYTES:
                raise TargetError(f"expected a kernel in the first {_MOST_BYTES} bytes, found none")
            name = member.name.removeprefix("./")
            if not member.isreg() or not _KERNEL.fullmatch(name):
                continue
            if member.size > MAX_SIZE:
                raise TargetError(f"expected at most {MAX_SIZE} bytes, found {member.size}")
            stream = content.extractfile(member)
            if stream is not None:
                data = stream.read(member.size)
                if len(data) != member.size:
                    raise TargetError(f"expected a kernel of {member.size} bytes, found {len(data)}")
                return data
    raise TargetError("expected a kernel at ./boot/vmlinuz-* or usr/lib/modules/*/vmlinuz, found none")


class _Header(tarfile.TarInfo):
    """A member's header; one that holds a name or attributes is read into memory as a whole."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        if found.type in _READ_WHOLE and found.size > _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {found.size} bytes")
        return found


@contextmanager
def members(archive: Path) -> Iterator[Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]]:
    """Return the members of *archive*, one after the other, each with the file that it is read from.

    :raises TargetError: dpkg-deb is missing, or the package is damaged.
    """
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    try:
        worker = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        raise TargetError("expected dpkg-deb for Debian packages, found none on PATH") from error
    try:
        with worker, tarfile.open(fileobj=worker.stdout, mode="r|", tarinfo=_Header) as tar:
            yield ((member, tar) for member, _ in zip(tar, range(_MOST_MEMBERS), strict=False))
            # Only one member is wanted: the rest of the package need not be unpacked.
            worker.kill()
    except tarfile.TarError as error:
        raise TargetError(f"expected an intact package, found: {error}") from error
    finally:
        worker.kill()
