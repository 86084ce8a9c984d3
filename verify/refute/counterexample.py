"""Describe a counterexample (a list, a memory and a run that break a property) as plain data and as text."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from kexec_verify.arm64.lift import Code
from kexec_verify.refute.cause import Cause
from kexec_verify.refute.effects import End, Run
from kexec_verify.refute.oracle import Iteration, iterations
from kexec_verify.refute.patched import Words
from kexec_verify.refute.scenario import Scenario
from kexec_verify.refute.violation import Violation
from kexec_verify.specs.kimage import IND_DESTINATION, IND_DONE, IND_INDIRECTION, IND_SOURCE

_FLAGS = {
    IND_SOURCE: "SOURCE",
    IND_INDIRECTION: "INDIRECTION",
    IND_DESTINATION: "DESTINATION",
    IND_DONE: "DONE",
}
_SHOWN_WORDS = 16  # in the terminal; of longer lists the middle is left out
_SHOWN_PATH = 12


class ListWord(msgspec.Struct, frozen=True):
    """An entry of the list, in the order in which the list machine reads them.

    :param address: where the routine reads it; None for the head.
    :param flag: names of its flags, ``|`` between them; ``page``: the physical address in it.
    """

    index: int
    address: int | None
    value: int
    flag: str
    page: int


class Page(msgspec.Struct, frozen=True):
    """A page that the list names: physical address, the address that the routine uses, its roles."""

    physical: int
    seen: int
    roles: tuple[str, ...]


class PathStep(msgspec.Struct, frozen=True):
    """An executed instruction and the general registers that it changed."""

    address: int
    where: str
    text: str
    changed: dict[str, int]


class Counterexample(msgspec.Struct, frozen=True):
    """A run that breaks a property.

    :param effect: the bad effect in one sentence; ``at``, ``where``: the instruction that has it.
    :param list: every word up to IND_DONE; ``pages``: those that the words name.
    :param path: the last instructions up to the effect, of ``instructions`` executed.
    :param registers: x0 … x30 at the effect; ``system``: system registers there.
    :param end: how the whole run ends.
    :param causes: the steps that the effect comes from.
    :param choices: the capabilities that are set, of those that decide over the bytes.
    :param patched: what stands in the code where they are set.
    """

    property: str
    effect: str
    at: int
    where: str
    expected: str
    found: str
    scenario: Scenario
    kimage: dict[str, int]
    list: tuple[ListWord, ...]
    pages: tuple[Page, ...]
    path: tuple[PathStep, ...]
    instructions: int
    registers: dict[str, int]
    system: dict[str, int]
    end: str
    causes: tuple[Cause, ...] = ()
    choices: tuple[str, ...] = ()
    patched: Words = ()


def flag_names(value: int) -> str:
    """Return the flags of a word by the kernel's names, without ``IND_``."""
    return "|".join(name for flag, name in _FLAGS.items() if value & flag) or "none"


def _listed(scenario: Scenario) -> tuple[ListWord, ...]:
    mask = ~(scenario.page_size - 1)
    found = [ListWord(0, None, scenario.head, flag_names(scenario.head), scenario.head & mask)]
    made, memory = iterations(scenario)
    following = [iteration.entry for iteration in made[1:]]
    if made:
        # No iteration is made for the last word, so none can have changed it since it was read.
        following.append(memory.read(made[-1].next_at))
    for index, (iteration, value) in enumerate(zip(made, following, strict=True), 1):
        found.append(ListWord(index, iteration.next_at, value, flag_names(value), value & mask))
    return tuple(found)


def _pages(scenario: Scenario) -> tuple[Page, ...]:
    roles: dict[int, list[str]] = {}

    def add(seen: int, role: str) -> None:
        known = roles.setdefault(seen & -scenario.page_size, [])
        if role not in known:
            known.append(role)

    made: list[Iteration] = iterations(scenario)[0]
    for iteration in made:
        add(iteration.next_at, "list")
        if iteration.kind == "source":
            add(iteration.addr, "source")
            add(iteration.dest, "destination")
        elif iteration.kind == "destination":
            add(iteration.addr, "destination")
    if scenario.kimage:
        add(scenario.kimage_at, "struct kimage")
        for name in ("zero_page", "ttbr1"):
            add(scenario.seen(getattr(scenario, name)), name)
    shift = scenario.phys_offset
    return tuple(
        Page((seen + shift) & (1 << 64) - 1, seen, tuple(names)) for seen, names in sorted(roles.items())
    )


def describe(
    code: Code, scenario: Scenario, violation: Violation, run: Run, end: End, causes: tuple[Cause, ...] = ()
) -> Counterexample:
    """Return the counterexample of a violation.

    :param run: up to the bad effect, with its path; ``end``: how the run ends if it continues.
    """
    steps = tuple(
        PathStep(
            step.at,
            code.where(step.at),
            code.text(code.at(step.at)),
            {f"x{number}": value for number, value in step.changed},
        )
        for step in run.path
    )
    context = run.context
    return Counterexample(
        property=violation.property,
        effect=violation.effect,
        at=violation.at,
        where=code.where(violation.at),
        expected=violation.expected,
        found=violation.found,
        scenario=scenario,
        kimage=scenario.fields(),
        list=_listed(scenario),
        pages=_pages(scenario),
        path=steps,
        instructions=run.count,
        registers={f"x{number}": value for number, value in enumerate(run.registers)},
        system={"sctlr_el1": context.sctlr_el1, "ttbr1_el1": context.ttbr1_el1, "daif": context.daif},
        end=end.kind,
        causes=causes,
    )


def _words(cx: Counterexample) -> Iterator[str]:
    named = {page.physical: page for page in cx.pages}
    for word in cx.list:
        if len(cx.list) > _SHOWN_WORDS and _SHOWN_WORDS // 2 <= word.index < len(cx.list) - _SHOWN_WORDS // 2:
            if word.index == _SHOWN_WORDS // 2:
                yield f"    … {len(cx.list) - _SHOWN_WORDS} more words; the stored counterexample has all"
            continue
        place = "head" if word.address is None else f"{word.address:#x}"
        page = named.get(word.page)
        seen = f"{word.page:#x}" if word.page else ""
        if page is not None and page.seen != page.physical:
            seen += f" seen at {page.seen:#x}"
        yield f"    {place:>18}  {word.value:#018x}  {word.flag:<12} {seen}".rstrip()


def format_counterexample(cx: Counterexample) -> list[str]:
    """Return the counterexample as lines for a terminal, without colour."""
    scenario = cx.scenario
    lines = [f"{cx.property}: {cx.effect}", ""]
    if cx.choices:
        lines.append(f"  on a machine where boot has set {', '.join(cx.choices)}")
    given = "struct kimage" if scenario.kimage else "arguments"
    where = f" at {scenario.kimage_at:#x}" if scenario.kimage else ""
    lines.append(f"  {given}{where}: " + ", ".join(f"{name} {value:#x}" for name, value in cx.kimage.items()))
    hvc = f", EL2 {'takes' if scenario.hvc == 'taken' else 'refuses'} the HVC" if scenario.el2_vectors else ""
    lines.append(f"  pages of {scenario.page_size} bytes, cache lines of {scenario.line_size} bytes{hvc}")
    shape = "well-formed" if scenario.well_formed else "outside W1-W7, but the list machine is defined for it"
    lines.append(f"  list ({len(cx.list)} words, {shape}):")
    lines += _words(cx)
    shown = cx.path[-_SHOWN_PATH:]
    lines.append(f"  run: instructions {cx.instructions - len(shown) + 1} to {cx.instructions}:")
    for step in shown:
        changed = ", ".join(f"{name} = {value:#x}" for name, value in step.changed.items())
        lines.append(f"    {step.where:<42} {step.text}" + (f"  → {changed}" if changed else ""))
    lines.append(f"  expected {cx.expected}")
    lines.append(f"  found    {cx.found}")
    return lines
