"""Make small lists of pages, from the smallest on: first systematically, then at random from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from kexec_verify.kexec.abi_variant import AbiVariant
from kexec_verify.refute.scenario import MASK, RAM_PAGES, WORD, Scenario, neighbours
from kexec_verify.specs.kimage import IND_DESTINATION, IND_DONE, IND_INDIRECTION, IND_SOURCE

D, I, S = IND_DESTINATION, IND_INDIRECTION, IND_SOURCE  # noqa: E741

# Where memory lies. Between the first and the two high places each bit is 0 and is 1 once, also those that
# no physical address has: the list machine keeps them. Bits 16 to 19, where CTR_EL0 has DminLine, are set
# in a high place: an address is no line size.
RAM, HIGH = 0x4800_0000, (0x5555_5555_555E_0000, 0xAAAA_AAAA_AA80_0000)
# A kernel's linear map: physical memory is seen from 0xffff_0000_0000_0000 on, and the pages that a plan
# counts lie 128 MiB into it; for a high place further, so that the bits of SCTLR_EL1 that turn things on
# are set in an address once.
_LINEAR_MAP = 0xFFFF_0000_0000_0000
# Where memory is seen from address 0 on, a destination may be 0, which a routine that tests an address treats
# in another way.
AT_ZERO = 0x5000_0000
_INTO = {
    RAM: 0x800_0000,
    HIGH[0]: 0x5555_5F40_0000,
    HIGH[1]: 0x2AAA_A280_0000,
    AT_ZERO: -_LINEAR_MAP,
}

# Pages that plans use for one thing only.
LIST, LIST2, LIST3 = 1, 2, 3
FIRST_DEST, FIRST_SOURCE = 6, 16
_KIMAGE, _DTB, _VECTORS, _ZERO_PAGE, _TABLE = 26, 27, 28, 29, 30


@dataclass(frozen=True)
class Word:
    """A list entry: flags, and the number of a page (None for DONE, which names none).

    :param low: bits between the flags and the page's address, which no word of kexec_core has.
    """

    flags: int
    page: int | None = None
    low: int = 0


DONE = Word(IND_DONE)


@dataclass(frozen=True)
class Plan:
    """A scenario in page numbers, so that it can be cut down.

    :param head: the head word; ``pages``: list pages by number with their words from slot 0 on.
    :param kimage: number of the page that holds struct kimage.
    :param garbage: as in Scenario, and so ``ram``.
    :param el2: el2_vectors is not zero; ``refuses``: and EL2 returns from the HVC; ``vectors``: their
        physical address, where it is not that of a page of the plan.
    """

    name: str
    head: Word
    pages: tuple[tuple[int, tuple[Word, ...]], ...]
    kimage: int = _KIMAGE
    el2: bool = False
    refuses: bool = False
    vectors: int = 0
    dminline: int = 4
    garbage: str = "marked"
    ram: int = RAM
    well_formed: bool = True

    @property
    def words(self) -> int:
        """Return the number of list entries."""
        return 1 + sum(len(words) for _, words in self.pages)


def build(plan: Plan, variant: AbiVariant) -> Scenario:
    """Return the scenario that ``plan`` describes."""
    size = variant.page_size
    layout = variant.layout
    phys_offset = (plan.ram - _INTO[plan.ram] - _LINEAR_MAP) & MASK if layout is not None else 0

    def physical(page: int) -> int:
        return plan.ram + page * size

    def value(word: Word) -> int:
        return word.flags | word.low | (0 if word.page is None else physical(word.page))

    def seen(page: int) -> int:
        return (physical(page) - phys_offset) & MASK

    words = tuple(
        (seen(page) + slot * WORD, value(word))
        for page, content in plan.pages
        for slot, word in enumerate(content)
    )
    listed, sources, dests = _pages(plan)
    # Destinations are written through caches that hold any lines of them and of their neighbours;
    # the list and its sources are clean (kexec_list_flush).
    dirty = neighbours(dests) - listed - (sources - dests) - {plan.kimage}
    if layout is None:
        dirty -= sources
    return Scenario(
        name=plan.name,
        page_size=size,
        phys_offset=phys_offset,
        ram=plan.ram,
        head=value(plan.head),
        words=words,
        start=physical(min(dests, default=6)) + 0x44,  # bit 2 is SCTLR_EL1.C where it does not belong
        dtb_mem=physical(_DTB) + 0x100,
        el2_vectors=plan.vectors or physical(_VECTORS) if plan.el2 and layout is not None else 0,
        ttbr1=physical(_TABLE),
        zero_page=physical(_ZERO_PAGE),
        arch=layout.arch if layout is not None else 0,
        kimage_at=seen(plan.kimage) + 0x200 if layout is not None else 0,
        dminline=plan.dminline,
        hvc="refused" if plan.refuses else "taken",
        garbage=plan.garbage,
        dirty=tuple(sorted(seen(page) for page in dirty)),
        well_formed=plan.well_formed,
    )


def _pages(plan: Plan) -> tuple[set[int], set[int], set[int]]:
    """Return numbers of list, source and destination pages, by the entries' flags in their order."""
    listed = {page for page, _ in plan.pages}
    sources: set[int] = set()
    dests: set[int] = set()
    dest: int | None = None
    for _, words in plan.pages:
        for word in words:
            if word.page is None:
                continue
            if word.flags & S:
                sources.add(word.page)
                if dest is not None:
                    dests.add(dest)
                    dest += 1
            elif word.flags & D and not word.flags & I:
                dest = word.page
    return listed, sources, dests


def is_well_formed(plan: Plan, slots: int) -> bool:
    """Return whether W1 … W7 hold for a plan (tests compare this with specs.kimage.WellFormed).

    :param slots: words that a page holds.
    """
    if plan.head == DONE:
        return True
    if plan.head.flags != I or not plan.pages or plan.head.page != plan.pages[0][0]:
        return False
    copies: list[tuple[int, int]] = []
    dest: int | None = None
    for number, (_, words) in enumerate(plan.pages):
        last = number + 1 == len(plan.pages)
        for slot, word in enumerate(words):
            ends = slot + 1 == len(words)
            if ends:
                follows = None if last else plan.pages[number + 1][0]
                if last and word.flags != IND_DONE:
                    return False
                if not last and (word != Word(I, follows) or slot + 1 != slots):
                    return False
            elif word.page is None or word.low or word.flags not in (D, S):
                return False
            elif word.flags == D:
                dest = word.page
            elif dest is None:
                return False
            else:
                copies.append((word.page, dest))
                dest += 1
    sources, dests = [source for source, _ in copies], [to for _, to in copies]
    listed = {page for page, _ in plan.pages}
    apart = all(source == to or source not in dests for source, to in copies)
    distinct = len(set(dests)) == len(dests) and len(set(sources)) == len(sources)
    return apart and distinct and not listed & {*sources, *dests} and len(listed) == len(plan.pages)


def _listed(name: str, *words: Word) -> Plan:
    return Plan(name, Word(I, LIST), ((LIST, (*words, DONE)),))


def systematic(slots: int, head_test: bool, kimage: bool) -> Iterator[Plan]:
    """Yield the plans that every search starts with, from small to large.

    :param slots: words that a page holds; ``head_test``: the routine tests head for IND_DONE itself;
        ``kimage``: its argument is struct kimage.
    """
    if head_test:
        yield Plan("in place: the head has IND_DONE", DONE, ())
    one = _listed("one page", Word(D, 6), Word(S, 16))
    yield _listed("no words but IND_DONE")
    yield one
    if kimage:
        yield replace(one, name="one page, EL2 takes the call", el2=True)
        yield replace(one, name="one page, EL2 refuses the call", el2=True, refuses=True)
        yield replace(one, name="EL2's vectors at 4 GiB", el2=True, vectors=1 << 32)
    yield _listed("a lone destination", Word(D, 6))
    yield _listed("a page that is in place already", Word(D, 6), Word(S, 6))
    yield _listed("two pages", Word(D, 6), Word(S, 16), Word(S, 17))
    yield _listed("two segments", Word(D, 6), Word(S, 16), Word(D, 9), Word(S, 17))
    yield replace(one, name="struct kimage in a destination page", kimage=6)
    yield replace(
        one, name="struct kimage in a destination page, EL2 refuses", kimage=6, el2=True, refuses=True
    )
    yield replace(one, name="registers are 0 at entry", garbage="zero")
    yield replace(one, name="registers are addresses at entry", garbage="addresses")
    for ram in HIGH:
        yield replace(one, name=f"memory at {ram:#x}", ram=ram)
    if kimage:
        yield replace(_listed("a destination at address 0", Word(D, 0), Word(S, 16)), ram=AT_ZERO)
    ends = Word(IND_DONE, 9, low=0xFF0)
    for ram in (RAM, *HIGH):
        named = Plan(f"the last word names a page, memory at {ram:#x}", Word(I, LIST), ((LIST, (ends,)),))
        yield replace(named, ram=ram)
    for dminline in (6, 9, 2):
        yield replace(one, name=f"lines of {4 << dminline} bytes", dminline=dminline)
    yield _listed("the source follows the destination", Word(D, 6), Word(S, 7))
    yield _listed("the source precedes the destination", Word(D, 6), Word(S, 5))
    yield _listed("a lone destination between", Word(D, 6), Word(S, 16), Word(D, 9), Word(D, 12), Word(S, 17))
    yield _listed("in place within a segment", Word(D, 6), Word(S, 16), Word(S, 7), Word(S, 17))
    yield from arbitrary()
    fill = tuple(Word(D, 12) for _ in range(slots - 2))
    yield Plan(
        "two list pages",
        Word(I, LIST),
        ((LIST, (*fill, Word(D, 6), Word(I, LIST2))), (LIST2, (Word(S, 16), Word(S, 17), DONE))),
    )
    yield Plan(
        "DONE in the last slot",
        Word(I, LIST),
        ((LIST, (*fill[2:], Word(D, 6), Word(S, 16), Word(D, 9), DONE)),),
    )


def arbitrary() -> Iterator[Plan]:
    """Yield lists that kexec_core would not build, and for which the list machine is defined."""

    def plan(name: str, *words: Word, then: tuple[int, tuple[Word, ...]] | None = None) -> Plan:
        found = replace(_listed(name, *words), well_formed=False)
        return found if then is None else replace(found, pages=(*found.pages, then))

    yield plan("a word without a flag", Word(0, 9), Word(D, 6), Word(0, 9), Word(S, 16))
    more = (LIST2, (Word(S, 16), Word(S, 17), DONE))
    yield plan("an indirection amid the page", Word(D, 6), Word(I, LIST2), then=more)
    yield plan("a copy onto a later source", Word(D, 6), Word(S, 16), Word(D, 9), Word(S, 6))
    yield plan("one destination twice", Word(D, 6), Word(S, 16), Word(D, 6), Word(S, 17))
    # The words to come are overwritten by a page that holds others in their place.
    other = (LIST2, (Word(0, 9), Word(0, 9), Word(D, 6), Word(S, 16), DONE))
    yield plan("a list page is overwritten", Word(D, LIST), Word(S, LIST2), then=other)
    # 0xff0: all bits that lie below a page's address whatever the page size, except the flags.
    yield plan("bits below a source's address", Word(D, 6), Word(S, 16, low=0xFF0))
    yield plan("bits below a destination's address", Word(D, 6, low=0xFF0), Word(S, 16))
    more = (LIST2, (Word(D, 6), Word(S, 16), DONE))
    yield plan("bits below an indirection's address", Word(I, LIST2, low=0xFF0), then=more)
    third = (LIST3, (Word(D, 9), Word(S, 18), DONE))
    for flags in (D | S, D | I, I | S, D | I | S):
        page = LIST3 if flags & I else 16
        yield plan(f"a word with flags {flags:#x}", Word(D, 6), Word(flags, page), Word(S, 17), then=third)


def random_plans(seed: int, slots: int) -> Iterator[Plan]:
    """Yield an endless series of well-formed lists of up to a dozen words."""
    numbers = random.Random(seed)
    while True:
        free = list(range(14, 25))
        numbers.shuffle(free)
        words: list[Word] = []
        at = 5
        for _ in range(numbers.randint(1, 3)):
            at += numbers.randint(0, 1)
            words.append(Word(D, at))
            for _ in range(numbers.randint(0, 2)):
                if at < 12:
                    words.append(Word(S, at if numbers.random() < 0.2 else free.pop()))
                    at += 1
        plan = replace(
            _listed("random", *words),
            kimage=numbers.choice((_KIMAGE, _KIMAGE, 6)),
            el2=numbers.random() < 0.5,
            refuses=numbers.random() < 0.5,
            dminline=numbers.choice((2, 3, 4, 5, 6, 9)),
            ram=numbers.choice((RAM, RAM, *HIGH)),
            garbage=numbers.choice(("marked", "marked", "zero", "addresses")),
        )
        if (
            is_well_formed(plan, slots)
            and plan.words <= slots
            and max(_pages(plan)[2], default=0) < RAM_PAGES
        ):
            yield plan


def build_plans(variant: AbiVariant, head_test: bool, seed: int = 0) -> Iterator[Plan]:
    """Yield every plan that a search tries, in order, without end."""
    slots = variant.page_size // WORD
    yield from systematic(slots, head_test, variant.layout is not None)
    yield from random_plans(seed, slots)


def build_scenarios(variant: AbiVariant, head_test: bool = False, seed: int = 0) -> Iterator[Scenario]:
    """Yield the scenarios of ``build_plans``."""
    for plan in build_plans(variant, head_test, seed):
        yield build(plan, variant)
