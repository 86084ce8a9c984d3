"""Scripts by the names of addresses: equal for code that was moved, different for anything else."""

from __future__ import annotations

from array import array

from kexec_verify.diff.address_names import AddressNames, without_offsets
from kexec_verify.target import Kernel, Segment
from kexec_verify.target.symbols import ListedNames, SymbolTable

BASE = 0xFFFF_8000_0800_0000


def kernel(*symbols: tuple[str, int]) -> Kernel:
    names, addresses = zip(*symbols, strict=True)
    table = SymbolTable(ListedNames(names), array("Q", addresses))
    return Kernel("k", "k", "elf", "0", None, None, 4096, (Segment(BASE, bytes(4096)),), table)


def test_labels_are_named_and_constants_kept():
    places = AddressNames(kernel(("f", BASE), ("g", BASE + 0x40)))
    text = f"(assert (! t0 :named |0:branch taken at {BASE + 0x44:#x}|)) (_ bv{BASE + 0x40} 64)"
    assert (
        places.relabelled(text) == f"(assert (! t0 :named |0:branch taken at g+0x4|)) (_ bv{BASE + 0x40} 64)"
    )
    assert places.unplaced(text).endswith("(_ at g+0x0)")


def test_a_name_of_two_addresses_is_not_used():
    places = AddressNames(kernel(("f", BASE), ("f", BASE + 0x40)))
    assert places.name(BASE + 4) == "f+0x4"
    assert places.name(BASE + 0x44) == f"{BASE + 0x44:#x}"


def test_sentences_lose_their_offsets():
    places = AddressNames(kernel(("f", BASE)))
    assert places.sentence(f"at f+0x44/0x80 it is {BASE + 8:#x}") == "at f it is f"
    assert without_offsets("|0:at f+0x44| (_ bv4 64)") == "|0:at f| (_ bv4 64)"
