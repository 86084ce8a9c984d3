"""The kernel in an RPM package, read within bounds.

Facts: the RPM file format, version 3 and 4 (rpm's docs/manual/format_v4.md): lead, signature and main
header, payload; cpio's "newc" format (Linux Documentation/driver-api/early-userspace/buffer-format.rst).
"""

import gzip
import hashlib
import io
import lzma
import re
import stat
import struct
import zlib
from collections.abc import Iterator

import zstandard
from kexec_verify.errors import TargetError
from kexec_verify.target.compressed import MAX_SIZE

_MAGIC = b"\xed\xab\xee\xdb"
_LEAD = 96  # bytes
_HEADER = b"\x8e\xad\xe8\x01"
_MOST_ENTRIES, _MOST_STORE = 1 << 16, 1 << 28  # rpm's own limits
_DIGEST, _STRINGS = 5092, 8  # the tag of the payload's SHA-256, and the type of its value
_KERNEL = re.compile(r"boot/vmlinuz-[^/]+|(usr/)?lib/modules/[^/]+/vmlinuz")
_MOST_BYTES = 1 << 31  # bytes of unpacked payload that are looked through
_MOST_MEMBERS = 100_000
_LONGEST_NAME = 4096  # bytes
_CHUNK = 1 << 20


def is_rpm(data: bytes) -> bool:
    """Return whether *data* starts as an RPM package does."""
    return data.startswith(_MAGIC)


def kernel_in(data: bytes) -> bytes:
    """Return the first lib/modules/*/vmlinuz or boot/vmlinuz-* in the contents of an ``.rpm`` file.

    :raises TargetError: the package is damaged, holds no kernel, or is compressed in another way than
        gzip, xz or zstd.
    """
    _, signature = _header(data, _LEAD)
    digest, start = _header(data, signature + -signature % 8)
    payload = data[start:]
    found = hashlib.sha256(payload).hexdigest()
    if digest and found != digest:
        raise TargetError(f"expected a payload with SHA-256 {digest}, found {found}")
    try:
        return _search(_Stream(_unpacked(payload)))
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        raise TargetError(f"expected an intact package, found: {error}") from error


def _header(data: bytes, at: int) -> tuple[str, int]:
    """Return the payload's SHA-256 that the header at *at* states, or "", and where the header ends."""
    if data[at : at + 4] != _HEADER or len(data) < at + 16:
        raise TargetError(f"expected an RPM header at byte {at}, found none")
    count, size = struct.unpack_from(">II", data, at + 8)
    end = at + 16 + 16 * count + size
    if count > _MOST_ENTRIES or size > _MOST_STORE or end > len(data):
        raise TargetError(f"expected an RPM header at byte {at}, found {count} entries and {size} bytes")
    store = data[end - size : end]
    for row in range(count):
        tag, kind, offset, _ = struct.unpack_from(">IIII", data, at + 16 + 16 * row)
        if (tag, kind) == (_DIGEST, _STRINGS):
            digest = store[offset : offset + 65]
            # Of SHA-256 alone: another algorithm's has another length.
            return (digest[:64].decode() if re.fullmatch(rb"[0-9a-f]{64}\0", digest) else ""), end
    return "", end


class _Stream:
    """The unpacked payload, read forwards."""

    def __init__(self, pieces: Iterator[bytes]):
        self._pieces = pieces
        self._rest = b""
        self.at = 0

    def read(self, size: int, keep: bool = True) -> bytes:
        """Return the next *size* bytes, or read over them unless they are to be kept.

        :raises TargetError: they end beyond what is looked through.
        """
        if self.at + size > _MOST_BYTES:
            raise TargetError(f"expected a kernel in the first {_MOST_BYTES} bytes, found none")
        self.at += size
        kept = []
        while size:
            self._rest = self._rest or next(self._pieces, b"")
            if not self._rest:
                raise EOFError("its end missing")
            piece, self._rest = self._rest[:size], self._rest[size:]
            size -= len(piece)
            if keep:
                kept.append(piece)
        return b"".join(kept)


def _search(stream: _Stream) -> bytes:
    for _ in range(_MOST_MEMBERS):
        header = stream.read(110)
        if not re.fullmatch(rb"07070[12][0-9a-fA-F]{104}", header):
            raise TargetError(
                f"expected a cpio archive in the newc format, found bytes {header[:6].hex(' ')}"
            )
        fields = [int(header[at : at + 8], 16) for at in range(6, 110, 8)]
        mode, size, length = fields[1], fields[6], fields[11]
        if length > _LONGEST_NAME:
            raise TargetError(f"expected a name of at most {_LONGEST_NAME} bytes, found {length}")
        name = stream.read(length + -(110 + length) % 4)[:length].rstrip(b"\0").decode("utf-8", "replace")
        if name == "TRAILER!!!":
            break
        # Of several links to one file only the last has its bytes.
        wanted = stat.S_ISREG(mode) and size and _KERNEL.fullmatch(name.removeprefix("./").lstrip("/"))
        if wanted and size > MAX_SIZE:
            raise TargetError(f"expected at most {MAX_SIZE} bytes, found {size}")
        data = stream.read(size + -size % 4, keep=bool(wanted))
        if wanted:
            return data[:size]
    raise TargetError("expected a kernel at lib/modules/*/vmlinuz or boot/vmlinuz-*, found none")


def _unpacked(payload: bytes) -> Iterator[bytes]:
    if payload.startswith(b"\xfd7zXZ\0"):
        worker = lzma.LZMADecompressor(memlimit=1 << 30)
        piece = worker.decompress(payload, _CHUNK)
        while piece or not (worker.eof or worker.needs_input):
            yield piece
            piece = b"" if worker.eof else worker.decompress(b"", _CHUNK)
        return
    reader: io.BufferedIOBase | zstandard.ZstdDecompressionReader = io.BytesIO(payload)
    if payload.startswith(b"\x1f\x8b"):
        reader = gzip.GzipFile(fileobj=io.BytesIO(payload))
    elif payload.startswith(b"\x28\xb5\x2f\xfd"):
        reader = zstandard.ZstdDecompressor(max_window_size=1 << 30).stream_reader(payload)
    while piece := reader.read(_CHUNK):
        yield piece
