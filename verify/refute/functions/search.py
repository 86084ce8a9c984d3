"""Find runs of a function: one along each path of a proof, and one that breaks a property."""

from __future__ import annotations

from collections.abc import Iterable

from kexec_verify.arm64.execute import Exit
from kexec_verify.errors import InternalError
from kexec_verify.logic import FALSE
from kexec_verify.obligation import Obligation
from kexec_verify.prove.discharge import Result
from kexec_verify.refute.functions.chain import Chain, Place, Proof, chains, places
from kexec_verify.refute.functions.confirm import confirm, inputs, stored
from kexec_verify.refute.functions.describe import failing, named
from kexec_verify.refute.functions.effects import Inputs
from kexec_verify.refute.functions.path_run import PathRun
from kexec_verify.refute.functions.record import CallCounterexample, chosen, ending, executed, further, rerun
from kexec_verify.refute.functions.values import Models, Values, solve
from kexec_verify.symbolic.detours import JOINED

type Path = tuple[int, ...]

CHAINS = 60  # tried for one place; what is reached at all is reached by one of the shortest
_NOT_OF_A_RUN = ("untaken", "position-independent")
"""Obligations that no single run at the link address can break."""


def witnesses(
    proof: Proof, paths: Iterable[Path], models: Models | None = None
) -> dict[Path, dict[str, str] | None]:
    """Return, for each path, inputs by the kernel's names with which the real bytes take it; else None.

    :raises InternalError: if a run differs from the path that it is to take.
    """
    return {path: _witness(proof, path, models) for path in paths}


def taken(proof: Proof, paths: Iterable[Path]) -> list[Inputs]:
    """Return inputs with which the real bytes take the paths, for those paths that have any.

    :raises InternalError: if a run differs from the path that it is to take.
    """
    found = (_taken(proof, path) for path in paths)
    return [run[2] for run in found if run is not None]


def _witness(proof: Proof, path: Path, models: Models | None) -> dict[str, str] | None:
    found = _taken(proof, path, models)
    return None if found is None else named(*found)


def _taken(proof: Proof, path: Path, models: Models | None = None) -> tuple[Chain, Values, Inputs] | None:
    for place in _ends(proof, path):
        for chain in chains(proof, place, CHAINS):
            values = solve(chain, models=models) if _can_run(chain) else None
            if values is not None:
                given = inputs(chain, values)
                confirm(chain, values, given)
                return chain, values, given
    return None


def _ends(proof: Proof, path: Path) -> list[Place]:
    asked = Obligation("path", "", (), FALSE, path[-1], path)
    found = list(places(proof, asked))
    return [place for place in found if place.kind == "end"] or found


def leaving(proof: Proof, most: int) -> list[Inputs]:
    """Yield inputs of runs to the ends of paths, along at most ``most`` paths to each.

    :raises InternalError: if a run differs from the path that it is to take.
    """
    found: list[Inputs] = []
    for number, segment in enumerate(proof.segments):
        for step in segment.ends:
            if not isinstance(step.then, Exit) or step.then.kind == JOINED:
                continue
            for chain in chains(proof, Place(number, step.state, "end", step.then), most):
                values = solve(chain) if _can_run(chain) else None
                if values is not None:
                    given = inputs(chain, values)
                    confirm(chain, values, given)
                    found.append(given)
    return found


def refute(proof: Proof, result: Result, property_id: str) -> CallCounterexample | None:
    """Return a confirmed run on which the obligation of ``result`` does not hold; None if none was found.

    :raises InternalError: if a run differs from the path that it is to take.
    """
    obligation = result.obligation
    if obligation.name.endswith(_NOT_OF_A_RUN):
        return None
    for place in places(proof, obligation):
        for chain in chains(proof, place, CHAINS):
            hypotheses = tuple((label, chain.bind(fact)) for label, fact in obligation.hypotheses)
            further = tuple(fact for fact in hypotheses if fact[0] not in chain.links[-1].segment.guessed)
            values = solve(chain, further, chain.bind(obligation.goal)) if _can_run(chain) else None
            if values is not None:
                given = inputs(chain, values)
                run = confirm(chain, values, given)
                return _record(chain, values, given, run, obligation, property_id)
    return None


def _can_run(chain: Chain) -> bool:
    """One set of bytes takes the chain: no static key is turned on the way."""
    return chain.proof.code.as_taken(chain.trace) is not None


def _record(
    chain: Chain, values: Values, given: Inputs, run: PathRun, obligation: Obligation, property_id: str
) -> CallCounterexample:
    proof, place = chain.proof, chain.place
    code = proof.code.as_taken(chain.trace)
    assert code is not None
    at = place.subject.at if place.subject is not None else run.trace[-1]
    where = code.where(at)
    found = obligation.fault or failing(chain, values, obligation.goal)
    fault = f"must hold: {obligation.sentence.removeprefix(f'at {where} ')}; found: {found}"
    memory = stored(chain, values, place.state)
    mapped = {address: run.read(address, 1) for address in memory}
    shown = CallCounterexample(
        function=code.name,
        property=property_id,
        obligation=obligation.sentence,
        inputs=named(chain, values, given),
        expected=obligation.sentence,
        found=found,
        effect=f"{where}: {obligation.fault or fault}",
        at=at,
        where=where,
        steps=executed(code, run, proof.context.kernel.called),
        code=(code.address, len(code.data)),
        further=further(code),
        resumed=tuple(sorted(code.warnings)),
        given=given,
        el=code.el,
        ending=ending(run, {at: byte for at, byte in mapped.items() if byte is not None}),
        **chosen(proof.context, code),
    )
    if rerun(shown.as_dict(), proof.context.kernel.read) != shown:
        raise InternalError(f"the record of {property_id} is not what was run")
    return shown
