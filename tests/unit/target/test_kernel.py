"""Addresses of a kernel by name."""

from __future__ import annotations

from array import array

import pytest
from kexec_verify.target import Kernel, Segment
from kexec_verify.target.symbols import ListedNames, SymbolTable

BASE = 0xFFFF_8000_0800_0000


def kernel(*sizes: int) -> Kernel:
    """A kernel with the functions f and, 0x40 bytes later, g."""
    table = SymbolTable(
        ListedNames(["f", "g"]), array("Q", [BASE, BASE + 0x40]), array("Q", sizes) if sizes else None
    )
    return Kernel("k", "k", "elf", "0", None, None, 4096, (Segment(BASE, bytes(4096)),), table)


@pytest.mark.parametrize(
    ("offset", "sizes", "where"),
    [
        (0, (0x20, 0x10), "f+0x0/0x20"),
        (0x1C, (0x20, 0x10), "f+0x1c/0x20"),
        (0x20, (0x20, 0x10), f"{BASE + 0x20:#x}"),  # between two functions
        (0x20, (), "f+0x20/0x40"),  # without sizes a function ends where the next one starts
        (0x44, (), "g+0x4"),
        (0x50, (0x20, 0x10), f"{BASE + 0x50:#x}"),
        (0x20_0000, (), f"{BASE + 0x20_0000:#x}"),  # data behind the last name
        (-4, (), f"{BASE - 4:#x}"),
    ],
)
def test_where_is_as_the_kernel_prints_it(offset, sizes, where):
    assert kernel(*sizes).where(BASE + offset) == where


def test_call_of_a_function_s_start_is_its_name():
    assert [kernel().called(BASE + offset) for offset in (0, 0x40, 4)] == ["f", "g", "f+0x4/0x40"]
