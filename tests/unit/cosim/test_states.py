"""Random states: where they let accesses go, and what they are biased to."""

from __future__ import annotations

import random

import pytest
from kexec_verify.cosim.machine import WINDOW_SIZE, WINDOWS
from kexec_verify.cosim.states import Addressing, addressing, random_state, random_word, unpredictable

LDP = 0xA9410C42  # ldp x2, x3, [x2, #16]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (0xA9410801, Addressing(0, 16)),  # ldp x1, x2, [x0, #16]
        (0xA8C10801, Addressing(0, 0)),  # ldp x1, x2, [x0], #16
        (0xA9BF0801, Addressing(0, -16)),  # stp x1, x2, [x0, #-16]!
        (0xF9400441, Addressing(2, 8)),  # ldr x1, [x2, #8]
        (0xF85F8041, Addressing(2, -8)),  # ldur x1, [x2, #-8]
        (0xF8408441, Addressing(2, 0)),  # ldr x1, [x2], #8
        (0xF8637841, Addressing(2, 0, 3, 3, 3)),  # ldr x1, [x2, x3, lsl #3]
        (0xF863C841, Addressing(2, 0, 3, 6, 0)),  # ldr x1, [x2, w3, sxtw]
        (0xC8DFFC41, Addressing(2)),  # ldar x1, [x2]
        (0x58000041, None),  # ldr x1, .+8
        (0x8B020020, None),  # add x0, x1, x2
    ],
)
def test_addressing_is_read_from_the_bits(word, expected):
    assert addressing(word) == expected


def test_encodings_that_the_architecture_leaves_open():
    assert unpredictable(0xA9410400 | 1)  # ldp x1, x1, [x0, #16]
    assert unpredictable(0xA9C10C42)  # ldp x2, x3, [x2, #16]!
    assert not unpredictable(LDP)
    assert not unpredictable(0x8B020020)


def test_every_access_is_aligned_and_in_a_window():
    rng = random.Random(3)
    for word in (LDP, 0xF8637841, 0xF863C841, 0xF9400441):
        where = addressing(word)
        for _ in range(200):
            state = random_state(rng, word)
            address = state[f"x{where.base}"] + where.displacement
            if where.index is not None:
                index = state[f"x{where.index}"]
                if where.option == 6:
                    index = (index & 0xFFFFFFFF) - ((index >> 31 & 1) << 32)
                address += index << where.shift
            address &= (1 << 64) - 1
            assert address % 8 == 0
            assert any(start <= address <= start + WINDOW_SIZE - 16 for start in WINDOWS)


def test_states_are_those_of_the_seed():
    assert random_state(random.Random(1), LDP) == random_state(random.Random(1), LDP)
    assert random_state(random.Random(1), LDP) != random_state(random.Random(2), LDP)


def test_corner_values_are_common():
    rng = random.Random(4)
    drawn = [random_word(rng, (5,)) for _ in range(2000)]
    for corner in (0, 1, (1 << 64) - 1, 1 << 63, 5):
        assert drawn.count(corner) > 10
