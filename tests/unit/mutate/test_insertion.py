"""Insertions: the words are what their texts say, and each slot gets each of them."""

import re
import subprocess

from verify.mutate.insertion import HARMFUL, insertions, spoils

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
