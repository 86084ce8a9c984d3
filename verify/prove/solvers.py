"""Solvers: SMT-LIB text in, an answer out.

A limit counts work, not wall-clock time, so that no answer depends on the machine's load: for z3 it
is z3's own count of steps (rlimit), for bitwuzla the CPU time of its thread.
"""

from __future__ import annotations

import enum
import itertools
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kexec_verify.errors import InternalError

SOLVERS = ("z3", "bitwuzla")
TIME_LIMIT = 20.0  # seconds of CPU time for one query; an obligation that needs more is badly encoded
# Steps of z3 in a second of CPU time: 2.1 to 6.4 million for its slowest queries. The slowest
# of Debian's 6.1 and 6.12 needs 6.2 million in all, a thirteenth of TIME_LIMIT.
Z3_STEPS_PER_SECOND = 4_000_000
_MOST_STEPS = (1 << 32) - 1  # of z3's parameter
_HANGS = 60.0  # times the limit, wall-clock: z3 is stopped then, in case it counts no steps any more


class Answer(enum.StrEnum):
    """A solver's answer to a script."""

    UNSAT = "unsat"
    SAT = "sat"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Reply:
    """A solver's answer, with the time it took in seconds.

    :param core: positions of the assertions that an unsat answer used; None if not requested.
    :param model: values of a sat answer's :func:`leaves`; None if not requested.
    """

    solver: str
    answer: Answer
    seconds: float
    core: tuple[int, ...] | None = None
    model: tuple[int, ...] | None = None


type Replies = tuple[Reply, ...]
"""Answers to one script; z3's is the first."""


def z3_version() -> str:
    """Return name and version of the first solver."""
    import z3

    return f"z3 {z3.get_version_string()}"


def bitwuzla_version() -> str:
    """Return name and version of the second solver."""
    import bitwuzla

    return f"bitwuzla {bitwuzla.version()}"


def ask_z3(text: str, limit: float = TIME_LIMIT, seed: int = 0) -> Reply:
    """Return z3's answer to ``text`` within the steps of ``limit`` seconds.

    :raises InternalError: if the text is not SMT-LIB that z3 reads.
    """
    import z3

    started = time.perf_counter()
    context = _z3_context()
    # On these texts several times faster than z3's own choice: definitions by equations are substituted.
    solver = z3.Then("simplify", "propagate-values", "solve-eqs", "smt", ctx=context).solver()
    limit_z3(solver, limit)
    solver.set("random_seed", seed)
    try:
        solver.add(z3.parse_smt2_string(text.replace("(check-sat)", ""), ctx=context))
    except z3.Z3Exception as error:
        raise InternalError(f"z3 cannot read an obligation: {error}") from error
    return Reply("z3", Answer(str(solver.check())), time.perf_counter() - started)


def limit_z3(solver: Any, limit: float) -> None:
    """Limit each check of a z3 solver to the steps of ``limit`` seconds; then it gives no answer."""
    solver.set("rlimit", min(int(limit * Z3_STEPS_PER_SECOND), _MOST_STEPS))
    solver.set("timeout", int(limit * _HANGS * 1000))
    solver.set("ctrl_c", False)  # else z3 takes SIGINT for itself, and nobody else learns of it


_contexts: list[Any] = []  # the one in use
_queries = itertools.count()
_QUERIES = 256  # to one context, for what it remembers of them


def _z3_context() -> Any:
    """Return a z3 context; shared by many queries, because making one takes longer than most."""
    import z3

    if next(_queries) % _QUERIES == 0:
        _contexts[:] = [z3.Context()]
    return _contexts[0]


def model_z3(text: str, names: Sequence[str], limit: float = TIME_LIMIT) -> dict[str, int] | None:
    """Return values of some variables in a model of ``text``; None if z3 finds none in ``limit`` seconds."""
    import z3

    context = z3.Context()
    solver = z3.SimpleSolver(ctx=context)
    limit_z3(solver, limit)
    solver.add(z3.parse_smt2_string(text.replace("(check-sat)", ""), ctx=context))
    if str(solver.check()) != Answer.SAT:
        return None
    model = solver.model()
    values = {str(declared): model[declared] for declared in model.decls() if declared.arity() == 0}
    return {name: values[name].as_long() for name in names if name in values}


_LEAF = re.compile(
    r"^\((?:declare-fun (\|[^|]*\|) \(\)|define-fun (\w+) \(\) \(_ BitVec \d+\) \(\|)", re.MULTILINE
)


def leaves(text: str) -> list[str]:
    """Return the names of a script's variables and of its function applications, in its order."""
    return [variable or application for variable, application in _LEAF.findall(text)]


def ask_bitwuzla(
    text: str, limit: float = TIME_LIMIT, seed: int = 0, core: bool = False, model: bool = False
) -> Reply:
    """Return bitwuzla's answer to ``text`` within ``limit`` seconds of CPU time.

    :param core: also return which assertions an unsat answer used.
    :param model: also return the values of a sat answer's :func:`leaves`.
    :raises InternalError: if the text is not SMT-LIB that bitwuzla reads.
    """
    import bitwuzla

    started = time.perf_counter()
    options = bitwuzla.Options()
    options.set(bitwuzla.Option.PRODUCE_UNSAT_CORES, core)
    options.set(bitwuzla.Option.PRODUCE_MODELS, model)
    if seed:
        options.set(bitwuzla.Option.SEED, seed)
    terms = bitwuzla.TermManager()
    parser = bitwuzla.Parser(terms, options)
    try:
        # The check is made below: the parser's own would print its answer.
        parser.parse(text.replace("(check-sat)", ""), True, False)
    except Exception as error:  # the wheel raises its own and plain exceptions
        raise InternalError(f"bitwuzla cannot read an obligation: {error}") from error
    solver = parser.bitwuzla()
    asserted = [
        term.id() for term in solver.get_assertions()
    ]  # the check replaces them by what it makes of them
    end, earliest = time.thread_time() + limit, time.perf_counter() + limit
    # The thread's time asks the system: it cannot have passed before wall-clock time has.
    solver.configure_terminator(lambda: time.perf_counter() > earliest and time.thread_time() > end)
    answers = {bitwuzla.Result.SAT: Answer.SAT, bitwuzla.Result.UNSAT: Answer.UNSAT}
    answer = answers.get(solver.check_sat(), Answer.UNKNOWN)
    used: tuple[int, ...] | None = None
    if core and answer is Answer.UNSAT:
        used = tuple(sorted(asserted.index(term.id()) for term in solver.get_unsat_core()))
    values: tuple[int, ...] | None = None
    if model and answer is Answer.SAT:
        terms = (solver.get_value(parser.parse_term(name)) for name in leaves(text))
        values = tuple(int(term.value(2), 2) for term in terms)
    return Reply("bitwuzla", answer, time.perf_counter() - started, used, values)


def settle(text: str, limit: float = TIME_LIMIT, seed: int = 0) -> Replies:
    """Return both solvers' answers to ``text``; only bitwuzla's if that is sat (nothing is proved then)."""
    second = ask_bitwuzla(text, limit, seed, True)
    return (second,) if second.answer is Answer.SAT else (ask_z3(text, limit, seed), second)


def filter_by(text: str, limit: float = TIME_LIMIT, seed: int = 0) -> Replies:
    """Return bitwuzla's answer to ``text``, for uses where a wrong answer cannot prove anything."""
    return (ask_bitwuzla(text, limit, seed),)
