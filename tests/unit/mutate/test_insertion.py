"""Insertions: the words are what their texts say, and each slot gets each of them."""

import re
import struct
import subprocess

from kexec_verify.mutate.insertion import HARMFUL, additions, insertions, spoils

CODE = bytes.fromhex("1f2003d5 c0035fd6")


def test_words_are_their_texts(require_tool):
    tool = require_tool("llvm-mc", "llvm")
    words = (*HARMFUL, *spoils())
    done = subprocess.run(
        [tool, "-triple=aarch64", "-mattr=+v8.7a", "-show-encoding"],
        input="".join(f"{text}\n" for _, text in words),
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.findall(r"encoding: \[([^\]]*)\]", done.stdout)
    encoded = [int.from_bytes(bytes(int(byte, 16) for byte in each.split(",")), "little") for each in found]
    assert encoded == [word for word, _ in words]


def test_no_word_is_there_twice():
    words = [word for word, _ in (*HARMFUL, *spoils())]
    assert len(set(words)) == len(words)


def test_each_slot_is_replaced_by_each_word():
    found = list(insertions(CODE))
    every = len(HARMFUL) + len(spoils())
    # The second instruction is a ret, which is one of the words.
    assert len(found) == 2 * every - 1
    assert len({changed for _, changed in found}) == len(found)
    for name, changed in found:
        kept = CODE[4:] if name.startswith("+0x0:") else CODE[:4]
        assert (changed[4:] if name.startswith("+0x0:") else changed[:4]) == kept
        assert changed != CODE


def test_only_the_slots_asked_for_are_changed():
    assert all(changed[:4] == CODE[:4] for _, changed in insertions(CODE, [4]))


def test_order_is_fixed():
    assert list(insertions(CODE)) == list(insertions(CODE))


def test_what_is_added_takes_nothing_away():
    # b +8; cbz x0, +8; tbnz x1, #3, -8; b.ne -12
    branches = struct.pack("<4I", 0x1400_0002, 0xB400_0040, 0x371F_FFC1, 0x54FF_FFA1)
    harmful = [word for word, _ in HARMFUL]
    found = [struct.unpack("<5I", changed) for _, changed in additions(branches)]
    assert [(i // len(harmful), each[i // len(harmful)]) for i, each in enumerate(found)] == [
        (slot, word) for slot in range(4) for word in harmful
    ]
    every = len(harmful)
    new = harmful[0]
    # Each branch goes to the same instruction as before; one to where the new one stands goes to that.
    assert found[0] == (new, 0x1400_0002, 0xB400_0040, 0x371F_FFA1, 0x54FF_FF81)
    assert found[every] == (0x1400_0003, new, 0xB400_0040, 0x371F_FFA1, 0x54FF_FF81)
    assert found[2 * every] == (0x1400_0002, 0xB400_0060, new, 0x371F_FFA1, 0x54FF_FF81)
    assert found[3 * every] == (0x1400_0002, 0xB400_0040, 0x371F_FFC1, new, 0x54FF_FF81)
