"""The containers that distributions put an arm64 Image into.

Facts: arch/arm64/boot/Makefile (gzip, bzip2, lzma, lzo, lz4 in its legacy frame, xz, zstd);
scripts/Makefile.lib (the unpacked size that some builds append, four bytes);
drivers/firmware/efi/libstub/zboot-header.S (EFI zboot: payload offset, size and type).

Nothing else may follow a compressed stream: a boot loader might go on where this reader stops.
"""

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable

import lz4.block
import lz4.frame
import zstandard
from kexec_verify.errors import TargetError

MAX_SIZE = 1 << 29  # bytes; the largest distribution kernels are near 64 MiB
_LZ4_LEGACY_BLOCK = 8 << 20
_CHUNK = 1 << 12  # bytes; even at the best ratio, one makes less than MAX_SIZE

type Decompress = Callable[[bytes], tuple[bytes, bytes]]
"""Returns what a stream holds, and the bytes behind it."""


def unpack(data: bytes, source: str) -> bytes:
    """Return what *data* contains when it is a known container, else *data* itself.

    :raises TargetError: the container is damaged, truncated, followed by other bytes, or holds more
        than MAX_SIZE bytes.
    """
    for _ in range(3):  # zboot around a compressed Image; never deeper than that
        if data[:2] == b"MZ" and data[4:8] == b"zimg":
            data = _zboot_payload(data, source)
            continue
        for kind, (magic, decompress) in _FORMATS.items():
            if data.startswith(magic):
                data = _decompress(data, kind, decompress, source)
                break
        else:
            return data
    return data


def _zboot_payload(data: bytes, source: str) -> bytes:
    if len(data) < 64:
        raise TargetError(f"{source}: expected an EFI zboot header, found {len(data)} bytes")
    offset, size = struct.unpack_from("<II", data, 8)
    if not size or offset + size > len(data):
        raise TargetError(
            f"{source}: expected an EFI zboot payload of {size} bytes at {offset}, found {len(data)} bytes"
        )
    return data[offset : offset + size]


def _decompress(data: bytes, kind: str, decompress: Decompress, source: str) -> bytes:
    try:
        found, behind = decompress(data)
    except (
        OSError,
        EOFError,
        ValueError,
        RuntimeError,
        MemoryError,
        zlib.error,
        lzma.LZMAError,
        lz4.block.LZ4BlockError,
        zstandard.ZstdError,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise TargetError(f"{source}: expected an Image compressed with {kind}, found {reason}") from error
    if len(found) > MAX_SIZE:
        raise TargetError(f"{source}: expected at most {MAX_SIZE} bytes, found more in its {kind}")
    if behind and behind != struct.pack("<I", len(found)):
        raise TargetError(
            f"{source}: expected nothing behind an Image compressed with {kind}, found {len(behind)} bytes"
        )
    return found


def _gzip(data: bytes) -> tuple[bytes, bytes]:
    worker = zlib.decompressobj(wbits=31)
    found = worker.decompress(data, MAX_SIZE + 1)
    if not worker.eof and len(found) <= MAX_SIZE:
        raise EOFError("its end missing")
    return found, worker.unused_data


def _bzip2(data: bytes) -> tuple[bytes, bytes]:
    worker = bz2.BZ2Decompressor()
    found = worker.decompress(data, MAX_SIZE + 1)
    if not worker.eof and len(found) <= MAX_SIZE:
        raise EOFError("its end missing")
    return found, worker.unused_data


def _xz(data: bytes) -> tuple[bytes, bytes]:
    worker = lzma.LZMADecompressor(memlimit=1 << 30)
    found = worker.decompress(data, MAX_SIZE + 1)
    if not worker.eof and len(found) <= MAX_SIZE:
        raise EOFError("its end missing")
    return found, worker.unused_data


def _zstd(data: bytes) -> tuple[bytes, bytes]:
    # The frame may not say how much it holds: stream it, with a bound.
    worker = zstandard.ZstdDecompressor(max_window_size=1 << 30).decompressobj()
    pieces: list[bytes] = []
    size = 0
    for start in range(0, len(data), _CHUNK):
        piece = worker.decompress(data[start : start + _CHUNK])
        pieces.append(piece)
        size += len(piece)
        if worker.eof or size > MAX_SIZE:
            return b"".join(pieces), worker.unused_data + data[start + _CHUNK :]
    raise EOFError("its end missing")


def _lz4_frame(data: bytes) -> tuple[bytes, bytes]:
    worker = lz4.frame.LZ4FrameDecompressor()
    found: bytes = worker.decompress(data, MAX_SIZE + 1)
    if not worker.eof and len(found) <= MAX_SIZE:
        raise EOFError("its end missing")
    return found, worker.unused_data or b""


def _lz4_legacy(data: bytes) -> tuple[bytes, bytes]:
    pieces: list[bytes] = []
    at, size = 4, 0
    # The appended size is no block: it is shorter than a block's length and content.
    while at + 8 <= len(data) and size <= MAX_SIZE:
        (length,) = struct.unpack_from("<I", data, at)
        block = data[at + 4 : at + 4 + length]
        if len(block) < length:
            raise EOFError("its end missing")
        piece: bytes = lz4.block.decompress(block, uncompressed_size=_LZ4_LEGACY_BLOCK)
        pieces.append(piece)
        size += len(piece)
        at += 4 + length
    return b"".join(pieces), data[at:]


_FORMATS: dict[str, tuple[bytes, Decompress]] = {
    "gzip": (b"\x1f\x8b", _gzip),
    "xz": (b"\xfd7zXZ\0", _xz),
    "zstd": (b"\x28\xb5\x2f\xfd", _zstd),
    "lz4": (b"\x04\x22\x4d\x18", _lz4_frame),
    "legacy lz4": (b"\x02\x21\x4c\x18", _lz4_legacy),
    "bzip2": (b"BZh", _bzip2),
    "lzma": (b"\x5d\0\0", _xz),
}
