"""Which bytes of an Image file are the kernel: what a loader puts into memory of it.

Facts: Documentation/arch/arm64/booting.rst (image_size); arch/arm64/kernel/efi-header.S, which makes
an Image a PE file whose sections have the same offsets in memory and in the file; the PE format
(certificate table), where signed kernels carry their signature behind the sections.
"""

import struct

from kexec_verify.errors import TargetError
from kexec_verify.target.header import HEADER_SIZE, ImageHeader

_LFANEW = 60
_MOST_SECTIONS = 16
_COFF, _SECTION = 24, 40
_DIRECTORIES = 108  # NumberOfRvaAndSizes in the optional header of PE32+; the directories follow it
_CERTIFICATES = 4
_ALIGN = 8


def loaded_image(data: bytes, header: ImageHeader, source: str) -> bytes:
    """Return the bytes of the Image *data* that are loaded with it.

    Behind them in memory is .bss, which the kernel clears.

    :raises TargetError: bytes follow that are no signature, or sections have other offsets in memory.
    """
    sections = _sections(data, source)
    if sections is None:
        if header.image_size and len(data) > header.image_size:
            raise TargetError(
                f"{source}: expected an Image of {header.image_size} bytes, "
                f"found {len(data) - header.image_size} bytes behind it"
            )
        return data
    end = HEADER_SIZE
    for address, offset, size in sections:
        if address != offset:
            raise TargetError(
                f"{source}: expected PE sections in memory where they are in the file, "
                f"found one of offset {offset:#x} at {address:#x}"
            )
        if offset + size > len(data):
            raise TargetError(
                f"{source}: expected an Image up to byte {offset + size}, found {len(data)} bytes"
            )
        end = max(end, offset + size)
    behind = _behind(data, end)
    if behind:
        raise TargetError(
            f"{source}: expected nothing but a signature behind the Image's {end} bytes, found {behind} bytes"
        )
    return data[:end]


def _sections(data: bytes, source: str) -> list[tuple[int, int, int]] | None:
    """Return address, file offset and file size of each PE section with bytes; None if it is no PE."""
    at = _pe(data)
    if at is None:
        return None
    (count,) = struct.unpack_from("<H", data, at + 6)
    (optional,) = struct.unpack_from("<H", data, at + 20)
    first = at + _COFF + optional
    if not 0 < count <= _MOST_SECTIONS or first + _SECTION * count > len(data):
        raise TargetError(f"{source}: expected 1 to {_MOST_SECTIONS} PE sections, found {count}")
    found = []
    for row in range(count):
        address, size, offset = struct.unpack_from("<III", data, first + _SECTION * row + 12)
        if size:
            found.append((address, offset, size))
    return found


def _pe(data: bytes) -> int | None:
    if data[:2] != b"MZ" or len(data) < HEADER_SIZE:
        return None
    at = int(struct.unpack_from("<I", data, _LFANEW)[0])
    return at if data[at : at + 4] == b"PE\0\0" and at + _COFF <= len(data) else None


def _behind(data: bytes, end: int) -> int:
    """Return how many bytes from *end* on are neither padding nor the signature."""
    at = _pe(data)
    assert at is not None
    (optional,) = struct.unpack_from("<H", data, at + 20)
    table = at + _COFF
    directory = table + _DIRECTORIES + 4 + 8 * _CERTIFICATES
    if optional >= directory + 8 - table and directory + 8 <= len(data):
        offset, size = struct.unpack_from("<II", data, directory)
        if size and 0 <= offset - end < _ALIGN and offset + size == len(data):
            return sum(byte != 0 for byte in data[end:offset])
    return len(data) - end
