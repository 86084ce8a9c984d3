"""Opcode classes, and drawing further encodings of one."""

from __future__ import annotations

import random

from kexec_verify.cosim.classes import classify, mutations
from kexec_verify.cosim.machine import CODE

ADD, ADDS, LDP, B_NE = 0x8B020020, 0xAB020020, 0xA9410801, 0x54000081


def test_a_class_is_a_mnemonic_and_kinds_of_operands():
    assert classify(ADD, CODE).sleigh == "add X X X"
    assert classify(B_NE, CODE).capstone == "b.COND N"
    assert classify(0x54000080, CODE) == classify(B_NE, CODE)
    assert classify(ADD, CODE) != classify(ADDS, CODE)


def test_what_no_decoder_knows_has_no_class():
    assert classify(0x00010000, CODE) is None
    assert classify(0xFFFFFFFF, CODE) is None


def test_drawn_encodings_are_of_the_class_and_differ():
    for word in (ADD, LDP, B_NE, 0x92402C41):
        drawn = mutations([word], CODE, 20, random.Random(1))
        assert len(set(drawn)) == 20
        assert word not in drawn
        assert {classify(other, CODE) for other in drawn} == {classify(word, CODE)}
    assert mutations([ADD], CODE, 20, random.Random(1)) == mutations([ADD], CODE, 20, random.Random(1))
