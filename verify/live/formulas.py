"""Formulas of the proofs, evaluated on a guest: registers from its debugger, memory from its RAM.

A formula is printed as the solvers get it and evaluated by the rules of `verify/prove/evaluate.py`. So what
is checked is the sentence that proofs use: there is no second wording of it that could differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kexec_verify.arm64.state import GHOSTS
from kexec_verify.logic import Formula, Term
from kexec_verify.prove.evaluate import Evaluator, compile_terms
from kexec_verify.prove.read import read
from kexec_verify.prove.smtlib import Printer

type Registers = Callable[[str], int]
"""From a register's name in the engine, such as ``x0`` or ``ttbr0_el1``, to its value."""
type Words = Callable[[int], int]
"""From an address to the 64-bit word there."""

_CACHES = ("L", "F", "fetch")
"""What functions are called that say what caches hold."""


class UntestableError(Exception):
    """The formula speaks of what no emulator has: caches, or a change that awaits an ISB."""


@dataclass
class State:
    """Values of a formula's variables and functions at one moment of a run.

    :param registers: those of the CPU.
    :param word: memory at a virtual address.
    :param variables: values of further variables by name; they come before the registers.
    :param functions: further functions by name, in place of memory.
    :ivar seen: what was looked up, by name, for the reader.
    """

    registers: Registers
    word: Words
    variables: Mapping[str, int] = field(default_factory=dict)
    functions: Mapping[str, Callable[..., int]] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    def variable(self, name: str) -> int:
        """Return the value of the variable called ``name`` in the printed text."""
        plain = name.strip("|")
        if plain in self.variables:
            value = self.variables[plain]
        else:
            register, _, _ = plain.partition("@")
            if register in GHOSTS:
                raise UntestableError(f"{register} is state that no instruction reads")
            value = self.registers(register)
        self.seen[plain] = value
        return value

    def function(self, name: str) -> Callable[..., int]:
        """Return the function called ``name`` in the printed text."""
        plain = name.strip("|")
        if plain in self.functions:
            return self.functions[plain]
        if plain.partition("@")[0] in _CACHES or plain in ("L0",):
            raise UntestableError("the emulator has no caches")

        def word(address: int) -> int:
            value = self.word(address)
            self.seen[f"[{address:#x}]"] = value
            return value

        return word

    def with_variables(self, **values: int) -> State:
        """Return this state with values for further variables, looked up anew."""
        return State(self.registers, self.word, {**self.variables, **values}, self.functions)


@dataclass(frozen=True)
class _Lookup[T]:
    """A mapping that computes its values, as the evaluator's generated code wants it."""

    get: Callable[[str], T]

    def __getitem__(self, name: str) -> T:
        return self.get(name)


class Compiled:
    """A formula or a term that is evaluated many times.

    :raises UnsupportedError: for an operation that the printer or the evaluator does not have.
    """

    def __init__(self, formula: Formula | Term):
        printer = Printer()
        name = printer.name(formula)
        script = read("\n".join([*printer.declarations, *printer.definitions, "(check-sat)"]))
        node = script.term(list(name.strip("()").split()) if name.startswith("(") else name)
        self._run: Evaluator = compile_terms(script, [node])

    def value(self, state: State) -> int:
        """Return the value in ``state``, unsigned; of a formula 0 or 1.

        :raises UntestableError: if it depends on what an emulator does not have.
        """
        (found,) = self._run(_Lookup(state.variable), _Lookup(state.function))  # type: ignore[arg-type]
        return found

    def holds(self, state: State) -> bool:
        """Return whether the formula is true in ``state``.

        :raises UntestableError: if it depends on what an emulator does not have.
        """
        return bool(self.value(state))
