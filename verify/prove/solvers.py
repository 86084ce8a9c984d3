"""Solvers: SMT-LIB text in, an answer out."""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from dataclasses import dataclass

from verify.errors import InternalError

SOLVERS = ("z3", "bitwuzla")
TIME_LIMIT = 20.0  # seconds for one question; an obligation that needs more is badly encoded


class Answer(enum.StrEnum):
    """What a solver says of a script."""

    UNSAT = "unsat"
    SAT = "sat"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Reply:
    """A solver's answer, with the time it took in seconds.

    :param core: positions of the assertions that an unsat answer used; None if not asked for.
    """

    solver: str
    answer: Answer
    seconds: float
    core: tuple[int, ...] | None = None


type Replies = tuple[Reply, ...]
"""Answers to one script, z3's first."""


def z3_version() -> str:
    """Name and version of the first solver."""
    import z3

    return f"z3 {z3.get_version_string()}"


def bitwuzla_version() -> str:
    """Name and version of the second solver."""
    import bitwuzla

    return f"bitwuzla {bitwuzla.version()}"


def ask_z3(text: str, limit: float = TIME_LIMIT, seed: int = 0) -> Reply:
    """z3's answer to ``text`` within ``limit`` seconds.

    :raises InternalError: if the text is not SMT-LIB that z3 reads.
    """
    import z3

    started = time.perf_counter()
    context = z3.Context()
    # The plain SMT core: on these texts it is several times faster than z3's own choice.
    solver = z3.SimpleSolver(ctx=context)
    solver.set("timeout", int(limit * 1000))
    solver.set("random_seed", seed)
    try:
        assertions = z3.parse_smt2_string(text.replace("(check-sat)", ""), ctx=context)
    except z3.Z3Exception as error:
        raise InternalError(f"z3 cannot read an obligation: {error}") from error
    for position, assertion in enumerate(assertions):
        solver.assert_and_track(assertion, z3.Bool(f"#{position}", context))
    answer = Answer(str(solver.check()))
    core = None
    if answer is Answer.UNSAT:
        core = tuple(sorted(int(str(name)[1:]) for name in solver.unsat_core()))
    return Reply("z3", answer, time.perf_counter() - started, core)


def model_z3(text: str, names: Sequence[str], limit: float = TIME_LIMIT) -> dict[str, int] | None:
    """Values of some variables in a model of ``text``, or None if z3 finds none in ``limit`` seconds."""
    import z3

    context = z3.Context()
    solver = z3.SimpleSolver(ctx=context)
    solver.set("timeout", int(limit * 1000))
    solver.add(z3.parse_smt2_string(text.replace("(check-sat)", ""), ctx=context))
    if str(solver.check()) != Answer.SAT:
        return None
    model = solver.model()
    values = {str(declared): model[declared] for declared in model.decls() if declared.arity() == 0}
    return {name: values[name].as_long() for name in names if name in values}


def ask_bitwuzla(text: str, limit: float = TIME_LIMIT, seed: int = 0) -> Reply:
    """bitwuzla's answer to ``text`` within ``limit`` seconds.

    :raises InternalError: if the text is not SMT-LIB that bitwuzla reads.
    """
    import bitwuzla

    started = time.perf_counter()
    options = bitwuzla.Options()
    options.set(bitwuzla.Option.TIME_LIMIT_PER, int(limit * 1000))
    if seed:
        options.set(bitwuzla.Option.SEED, seed)
    terms = bitwuzla.TermManager()
    parser = bitwuzla.Parser(terms, options)
    try:
        # The check is made below: the parser's own would print its answer.
        parser.parse(text.replace("(check-sat)", ""), True, False)
    except Exception as error:  # the wheel raises its own and plain exceptions
        raise InternalError(f"bitwuzla cannot read an obligation: {error}") from error
    result = parser.bitwuzla().check_sat()
    answers = {bitwuzla.Result.SAT: Answer.SAT, bitwuzla.Result.UNSAT: Answer.UNSAT}
    return Reply("bitwuzla", answers.get(result, Answer.UNKNOWN), time.perf_counter() - started)


def settle(text: str, limit: float = TIME_LIMIT, seed: int = 0, known: Reply | None = None) -> Replies:
    """Both solvers' answers to ``text``; bitwuzla's alone if that is sat, for then nothing is proved.

    :param known: bitwuzla's answer, if it was asked before.
    """
    second = known or ask_bitwuzla(text, limit, seed)
    return (second,) if second.answer is Answer.SAT else (ask_z3(text, limit, seed), second)


def filter_by(text: str, limit: float = TIME_LIMIT, seed: int = 0) -> Replies:
    """bitwuzla's answer to ``text``: enough where a wrong one can prove nothing."""
    return (ask_bitwuzla(text, limit, seed),)
