"""Placeholder."""


def lowest_el(word: int) -> int:
    if word & 0xFFD0_0000 == 0xD510_0000:
        return {4: 2, 5: 2, 6: 3, 7: 3}.get(word >> 16 & 7, 0)
    return 0


def unprivileged(word: int) -> bool:
    return word & 0x3F20_0C00 == 0x3800_0800
