"""Little-endian words in bytes, read in bulk."""

import sys
from array import array

U16 = "H"
U32 = "I"
U64 = "Q"


def words(code: str, data: bytes | memoryview) -> array[int]:
    """Return *data* as little-endian words of one width.

    :param code: U16, U32 or U64.
    :param data: bytes; a last incomplete word is dropped.
    """
    found: array[int] = array(code)
    usable = len(data) - len(data) % found.itemsize
    found.frombytes(data[:usable])
    if sys.byteorder == "big":
        found.byteswap()
    return found


def align(offset: int, to: int) -> int:
    """Return the least multiple of *to* that is not below *offset*."""
    return -(-offset // to) * to
