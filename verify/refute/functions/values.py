"""Find values for a chain's inputs and its callees' answers, most of them default values."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from kexec_verify.arm64.state import FLAGS
from kexec_verify.errors import InternalError
from kexec_verify.kexec.calls import CONTROL_PAGE
from kexec_verify.kexec.context import FRAME_BYTES, KexecContext
from kexec_verify.kexec.image_flush import ImageFlush
from kexec_verify.kexec.machine_kexec import MachineKexec
from kexec_verify.kexec.post_load import PostLoad
from kexec_verify.logic import FALSE, Formula, Term, application, const, constant, ule, var, within
from kexec_verify.obligation import Facts
from kexec_verify.prove.simplest import simplest_model
from kexec_verify.refute.functions.chain import MEMORY, Chain
from kexec_verify.refute.functions.layout import CLEAR_OF_OBJECTS, base
from kexec_verify.substitute import Substitution
from kexec_verify.symbolic.objects import STACK_FRAME, Objects

_ADDRESS = re.compile(r"0x[0-9a-f]+")
_USUAL = {
    "sctlr_el1": 0x34F4_D91D,  # M, C, I, SA and the bits that are 1, as the kernel runs
    "tcr_el1": 0x32_B550_3510,
    "ttbr0_el1": 0x4100_0000,
    "ttbr1_el1": 0x4200_0000,
    "ctr_el0": 0x8444_C004,
    "currentel": 1 << 2,
    "x30": 0xFFFF_8000_0900_0000,
}
_MEMSTART = 0x4000_0000
_UNUSED, _LEFT_BEHIND = 0x5EED_0000_0000, 0xDEAD_0000_0000
"""Of general registers at entry, and after a call: the number of the register is added."""
_CANARY = 0xCAFE_0000_0000
_TASK_BYTES = 1 << 14
_CAME_UP_AT_EL1 = 0xE11_0000_0E11
_DIRTY = 2
_LOST = 3
_STALE = 2
_COPY_BYTES = 1 << 16  # any page of them may be the control page


@dataclass(frozen=True)
class Values:
    """Values of variables by name, and of functions at some arguments; default values for all others.

    A call gives the value of a term or of a formula.
    """

    variables: dict[str, int]
    functions: dict[tuple[str, tuple[int, ...]], int]
    context: KexecContext = field(repr=False)
    _known: list[Substitution] = field(default_factory=list, repr=False)

    def __call__(self, term: Term | Formula) -> Any:
        """Return the term's value, an int, or the formula's, a bool.

        :raises InternalError: if it is not made of constants then.
        """
        if not self._known:
            self._known.append(Substitution(self._variable, self._function))
        found = self._known[0](term)
        if found.op == "BoolV":
            return bool(found.is_true())
        value = constant(found)
        if value is None:
            raise InternalError("a term has no value where every variable has one")
        return value

    def _variable(self, name: str, width: int) -> Term:
        return const(self.variables.get(name, usual(name)), width)

    def _function(self, name: str, width: int, arguments: tuple[Term, ...]) -> Term:
        values = tuple(constant(argument) for argument in arguments)
        assert all(value is not None for value in values)
        known = self.functions.get((name, values))  # type: ignore[arg-type]
        if known is None:
            known = usual_word(self.context, values[0] or 0) if name == MEMORY else 0
        return const(known, width)


def usual(name: str) -> int:
    """Return the default value of the variable called ``name``.

    Registers have different values, so that a run that confuses two of them leaves its path.
    """
    register, _, tag = name.partition("@")
    if register == "icache":
        return _STALE  # any store makes it so, those of a callee to its frame too
    answered = "#" in tag or tag.startswith("hvc")
    if register in _USUAL and not answered:
        return _USUAL[register]
    if register[:1] != "x" or not register[1:].isdigit():
        return 0
    if answered:
        return 0 if register == "x0" else _LEFT_BEHIND + int(register[1:])
    return _UNUSED + int(register[1:])


def leaves(formulas: Iterable[Term | Formula]) -> list[Term]:
    """Return each variable and function application in ``formulas``, and in its arguments, once."""
    found: dict[str, Term] = {}
    done: set[int] = set()
    todo = list(formulas)
    while todo:
        term = todo.pop()
        if term.hash() in done:
            continue
        done.add(term.hash())
        if term.op == "BVS":
            found[term.args[0]] = term
            applied = application(term)
            todo.extend(applied.arguments if applied else ())
        todo.extend(arg for arg in term.args if hasattr(arg, "op"))
    return [found[name] for name in sorted(found)]


class Models(Protocol):
    """A store of models that may help later runs; each is checked before it is used."""

    def find_model(self, key: str) -> dict[str, int] | None:
        """Return the values that are stored under ``key``, if any."""

    def keep_model(self, key: str, model: dict[str, int]) -> None:
        """Store values."""


def solve(
    chain: Chain, further: Facts = (), goal: Formula = FALSE, models: Models | None = None
) -> Values | None:
    """Return values with which control takes the chain, ``further`` holds and ``goal`` does not; else None.

    :param further: in the chain's terms, like ``goal``.
    :param models: of earlier runs; a solver is asked only where the stored one is no model of this chain.
    :raises InternalError: if the solver's model is none.
    """
    # What the run reads must be known to be in its object, whether or not a fact mentions it.
    for link, access in chain.accesses:
        link.bind(access.address), link.bind(access.value)
    facts = (*chain.facts, *further, *chain.regions(), *_copies_apart(chain), *_universal(chain))
    if any(fact.is_false() for _, fact in facts) or goal.is_true():
        return None
    spoken = leaves([*(fact for _, fact in facts), goal])
    facts = (*facts, *_legal(chain, spoken, facts))
    key = _key(chain, spoken) if models is not None else ""
    stored = models.find_model(key) if models is not None else None
    if stored is not None:
        values = _values(chain, spoken, stored)
        if all(values(fact) for _, fact in facts) and not values(goal):
            return values
    probes: Facts = ()
    for number, leaf in enumerate(spoken):
        applied = application(leaf)
        if applied is not None:
            for name, term in _probed(number, leaf, applied.arguments):
                probes = (*probes, ("probe", var(name, term.length) == term))
    model = simplest_model((*facts, *probes), goal, [_wish(chain, leaf) for leaf in spoken])
    if model is None:
        return None
    values = _values(chain, spoken, model)
    for label, fact in facts:
        if not values(fact):
            raise InternalError(f"a model does not satisfy: {label}")
    if values(goal):
        raise InternalError("a model satisfies the goal that it was to refute")
    if models is not None:
        models.keep_model(key, model)
    return values


def _key(chain: Chain, spoken: list[Term]) -> str:
    """Return a name for the chain's model: of the function, its path and its inputs, without addresses."""
    code = chain.proof.code
    names = (_name(leaf) for leaf in spoken)
    offsets = (f"{at - code.address:x}" for at in chain.trace)
    return "\0".join((code.name, chain.place.kind, *names, *offsets))


def _name(leaf: Term) -> str:
    applied = application(leaf)
    return _ADDRESS.sub("", str(leaf.args[0])) if applied is None else applied.function


def _probed(number: int, leaf: Term, arguments: tuple[Term, ...]) -> list[tuple[str, Term]]:
    found = [(f"value {number}", leaf)]
    return found + [(f"argument {number}.{i}", term) for i, term in enumerate(arguments)]


def _values(chain: Chain, spoken: list[Term], model: dict[str, int]) -> Values:
    variables: dict[str, int] = {}
    functions: dict[tuple[str, tuple[int, ...]], int] = {}
    for number, leaf in enumerate(spoken):
        applied = application(leaf)
        if applied is None:
            name = str(leaf.args[0])
            variables[name] = model.get(name, usual(name))
        else:
            # A constant is an address of this kernel, and a stored model may be of another's.
            arguments = (
                model.get(name, 0) if (fixed := constant(term)) is None else fixed
                for name, term in _probed(number, leaf, applied.arguments)[1:]
            )
            functions[applied.function, tuple(arguments)] = model.get(f"value {number}", 0)
    return Values(variables, functions, chain.proof.context)


def _legal(chain: Chain, spoken: list[Term], facts: Facts) -> Facts:
    """Return facts that flags are bits, and that no latest value is lost where every word is assumed so."""
    found: Facts = ()
    kept = any(label == "nothing-lost" for label, _ in facts)
    for leaf in spoken:
        applied = application(leaf)
        if applied is None and str(leaf.args[0]).partition("@")[0] in FLAGS:
            found = (*found, ("a flag is a bit", ule(leaf, const(1, leaf.length))))
        elif applied is not None and applied.function.startswith("L@") and kept:
            found = (*found, ("nothing-lost", leaf != _LOST))
    return found


def _universal(chain: Chain) -> Facts:
    """Return what is assumed of every segment, for an arbitrary one, apart from this run's objects."""
    proof, image = chain.proof, image_of(chain.proof)
    if image is None:
        return ()
    clear = const(proof.context.page_offset + CLEAR_OF_OBJECTS)
    bind = chain.links[0].bind
    return tuple((label, bind(fact)) for label, fact in image.each_segment(clear))


def image_of(proof: object) -> ImageFlush | None:
    """What the function of ``proof`` flushes of an image; None if it flushes nothing."""
    if isinstance(proof, PostLoad):
        return proof.image
    if isinstance(proof, MachineKexec) and proof.image is not None:
        return proof.image.flush
    return None


def _copies_apart(chain: Chain) -> Facts:
    """Return facts that the page that code is copied to is apart from every object."""
    context = chain.proof.context
    found: Facts = ()
    for link in chain.links:
        memory = link.state.memory
        for item in memory.objects if isinstance(memory, Objects) else ():
            if item.name == CONTROL_PAGE and item.base is not None:
                apart = within(link.bind(item.base), const(base(context, CONTROL_PAGE)), _COPY_BYTES)
                found = (*found, ("control-page-apart", apart))
    return found


def _wish(chain: Chain, leaf: Term) -> Formula:
    applied = application(leaf)
    if applied is None:
        return leaf == usual(str(leaf.args[0]))
    if applied.function.startswith("L@"):
        return leaf == _DIRTY
    address = constant(applied.arguments[0]) if applied.function == MEMORY else None
    return leaf == (0 if address is None else usual_word(chain.proof.context, address))


def usual_word(context: KexecContext, address: int) -> int:
    """Return the default value of the word of memory at ``address``."""
    places = context.globals.addresses
    kimage, layout = base(context, "kimage"), context.layout
    words = {
        places.get("kimage_voffset"): (context.globals.low - _MEMSTART) % (1 << 64),
        places.get("memstart_addr"): _MEMSTART,
        places.get("__boot_cpu_mode"): _CAME_UP_AT_EL1,
        kimage + layout.start: 0x6000_0000,
        kimage + layout.dtb_mem: 0x6800_0000,
        kimage + layout.kern_reloc: 0x4800_0000,
        kimage + layout.el2_vectors: 0x4810_0000,
        kimage + layout.ttbr0: 0x4820_0000,
        kimage + layout.t0sz: 16,
    }
    beside = (address - base(context, name) for name in ("the task", STACK_FRAME))
    if any(-FRAME_BYTES <= offset < _TASK_BYTES for offset in beside):
        return _CANARY + address % _TASK_BYTES
    return words.get(address, 0)
