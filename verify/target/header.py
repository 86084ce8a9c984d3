"""The 64-byte header of an arm64 Image (Documentation/arch/arm64/booting.rst)."""

import struct
from dataclasses import dataclass

from kexec_verify.errors import TargetError

HEADER_SIZE = 64
_MAGIC = b"ARM\x64"
_BASE_ALIGN = 1 << 21  # bytes; a loader puts the Image text_offset behind a multiple of it
_PAGE = 4096
_PAGE_SIZES = {0: None, 1: 4096, 2: 16384, 3: 65536}


@dataclass(frozen=True)
class ImageHeader:
    """What the header says: *text_offset* and *image_size* in bytes, *page_size* or None."""

    text_offset: int
    image_size: int
    page_size: int | None


def is_image(data: bytes) -> bool:
    """Return whether *data* starts with the header of an arm64 Image."""
    return len(data) >= HEADER_SIZE and data[56:60] == _MAGIC


def parse_header(data: bytes, path: str) -> ImageHeader:
    """Read the header that *data* starts with.

    :raises TargetError: it is no arm64 Image, one of a big-endian kernel, or one at no possible address.
    """
    if not is_image(data):
        raise TargetError(f"{path}: expected an arm64 Image, found no header of one")
    text_offset, image_size, flags = struct.unpack_from("<QQQ", data, 8)
    if flags & 1:
        raise TargetError(f"{path}: expected a little-endian kernel, found a big-endian one")
    if text_offset >= _BASE_ALIGN or text_offset % _PAGE:
        raise TargetError(
            f"{path}: expected a text_offset of whole pages below {_BASE_ALIGN:#x}, found {text_offset:#x}"
        )
    return ImageHeader(text_offset, image_size, _PAGE_SIZES[flags >> 1 & 3])
