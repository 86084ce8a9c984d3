"""Describe a chain's values in the kernel's terms: its inputs, and which part of a goal is false."""

from __future__ import annotations

from kexec_verify.arm64.state import UNSYNCED
from kexec_verify.logic import Formula, Term, application, constant, variables
from kexec_verify.refute.functions.chain import MEMORY, Chain
from kexec_verify.refute.functions.effects import Inputs
from kexec_verify.refute.functions.layout import base, word_name
from kexec_verify.refute.functions.values import Values, usual
from kexec_verify.specs.kimage import SEGMENT_BYTES

_LINES = ("clean", "pending", "dirty", "lost")
_FETCHED = ("fetchable", "pending", "stale", "lost")
_GHOSTS = {
    "icache": (
        "invalidated",
        "invalidation issued, not complete",
        "may hold stale instructions",
        "invalidation complete, no ISB since",
    ),
    "translation": ("settled", "written", "in effect", "TLBI issued", "invalidated"),
    "unsynced": ("no change awaits an ISB", "a change awaits an ISB"),
    **dict.fromkeys(UNSYNCED.values(), ("its change does not await an ISB", "its change awaits an ISB")),
    "unfinished": ("complete", "awaits a DSB"),
}
_RELATIONS = {
    "__eq__": "equal",
    "__ne__": "differ from",
    "ULT": "be less than",
    "ULE": "be at most",
    "UGT": "be greater than",
    "UGE": "be at least",
}
_ANSWERED = ("x0", "ttbr0_el1", "ttbr1_el1")


def named(chain: Chain, values: Values, given: Inputs) -> dict[str, str]:
    """Return the run's inputs by the kernel's names: words that are read, and unusual values of the rest."""
    context = chain.proof.context
    found: dict[str, str] = {}
    layout, kimage = context.layout, base(context, "kimage")
    count = given.memory.get(kimage + layout.nr_segments, 0)
    unused = range(kimage + layout.segment + count * SEGMENT_BYTES, kimage + layout.arch)
    for address, word in sorted(given.memory.items()):
        if address in unused and not word:
            continue  # no segment: no path reads it, only assumptions mention it
        found[word_name(context, address)] = f"{word:#x}"
    spoken = {name.partition("@")[0] for name in values.variables if "#" not in name}
    for name, value in given.registers.items():
        if value != usual(f"{name}@") or name in spoken:
            found[name] = f"{value:#x}"
    for number, answer in enumerate(given.answers, 1):
        for name in _ANSWERED:
            if name in answer.registers and (name != "x0" or answer.registers[name]):
                found[f"after call {number}, {answer.name}: {name}"] = f"{answer.registers[name]:#x}"
        for address, data in answer.stores.items():
            if len(data) == 16:
                word = int.from_bytes(bytes.fromhex(data), "little")
                found[f"after call {number}, {answer.name}: {word_name(context, address)}"] = f"{word:#x}"
    if "a" in values.variables:
        found["the word in question"] = f"{values.variables['a']:#x}"
    if "segment" in values.variables:
        found["the segment in question"] = f"{values.variables['segment']}"
    return found


def failing(chain: Chain, values: Values, goal: Formula) -> str:
    """Return the first part of ``goal`` that is false, in values."""
    todo = [goal]
    while todo:
        part = todo.pop(0)
        if values(chain.bind(part)):
            continue
        if part.op == "And":
            todo = list(part.args)
            continue
        return _shown(chain, values, part)
    return "a run in which it does not hold"


def _shown(chain: Chain, values: Values, part: Formula) -> str:
    if part.op == "BoolV":
        return f"a path on which it never holds: {_listed(_registers(chain, values))}"
    if part.op in _RELATIONS:
        left, right = part.args
        sides = [_side(chain, values, left, right), _side(chain, values, right, left)]
        words = [side for side in sides if side is not None]
        return f", which must {_RELATIONS[part.op]} ".join(words)
    return f"values for which it is false: {_listed(_registers(chain, values))}"


def _listed(registers: dict[str, int]) -> str:
    return ", ".join(f"{name} = {value:#x}" for name, value in registers.items())


def _registers(chain: Chain, values: Values) -> dict[str, int]:
    names = ("x0", "x1", "x2", "x3", "x4", "ttbr0_el1", "tcr_el1")
    return {name: values(chain.bind(chain.place.state.registers[name])) for name in names}


def _side(chain: Chain, values: Values, term: Term, other: Term) -> str | None:
    value = values(chain.bind(term))
    state = chain.place.state
    for name, ghost in state.ghosts.items():
        if ghost.hash() == term.hash() and constant(term) is None:
            return f"{name} ({_GHOSTS[name][value] if value < len(_GHOSTS[name]) else value})"
    ghosts = {ghost.hash(): name for name, ghost in state.ghosts.items()}
    if constant(term) is not None and other.hash() in ghosts:
        name = ghosts[other.hash()]
        return f"{_GHOSTS[name][value]}"
    if term.length == 2:
        fetched = any(part.startswith("F@") for part in variables([term, other]))
        return (_FETCHED if fetched else _LINES)[value]
    called = _name(chain, term)
    return f"{called} = {value:#x}" if called else f"{value:#x}"


def _name(chain: Chain, term: Term) -> str | None:
    if constant(term) is not None:
        return None
    for name, value in chain.place.state.registers.items():
        if value.hash() == term.hash():
            return name
    applied = application(chain.bind(term))
    if applied is not None and applied.function == MEMORY:
        address = constant(applied.arguments[0])
        return None if address is None else word_name(chain.proof.context, address)
    return None
