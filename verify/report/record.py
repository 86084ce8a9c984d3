"""Convert an outcome to run.json, and to the files of a report."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Mapping
from datetime import UTC, datetime
from types import MappingProxyType

import kexec_verify
import msgspec
from kexec_verify.digest import engine_versions
from kexec_verify.kexec.abi_variant import AbiVariant
from kexec_verify.kexec.locate import Function
from kexec_verify.prove.discharge import Result
from kexec_verify.refute.scenario import Scenario
from kexec_verify.report import model
from kexec_verify.report.folder import location_of
from kexec_verify.report.invariants import loop_invariants, other_invariants
from kexec_verify.report.listing import list_instructions, loop_heads
from kexec_verify.report.patch_sites import patch_sites
from kexec_verify.report.save import RUN
from kexec_verify.report.seal import FILE as SEAL
from kexec_verify.report.seal import seal_of
from kexec_verify.specs.assumptions import ASSUMPTIONS
from kexec_verify.target import Kernel
from kexec_verify.theorems import CoveredFunction, Finding, Outcome
from kexec_verify.verdict import Verdict
from kexec_verify.waivers import Waiver

TEXTS = "obligations"
_AT = re.compile(r"\bat (0x[0-9a-f]{8,16})\b")


def _obligation(result: Result, outcome: Outcome) -> model.ObligationRecord:
    required = result.obligation
    return model.ObligationRecord(
        name=required.name,
        sentence=required.sentence,
        verdict=result.verdict,
        at=required.at,
        where=outcome.where(required.at) if required.at is not None else "",
        path=list(required.path),
        hypotheses=[label for label, _ in required.hypotheses],
        used=sorted(set(result.used)),
        idle=result.idle,
        answers=[model.SolverAnswer(r.solver, r.answer, round(r.seconds, 4)) for r in result.replies],
        text=_text_file(result),
        sha256=result.digest,
    )


def _property(finding: Finding, outcome: Outcome) -> model.PropertyRecord:
    claim = finding.claim
    shown, waiver = finding.counterexample, finding.waiver
    return model.PropertyRecord(
        id=claim.id,
        theorem=claim.theorem,
        statement=claim.statement,
        verdict=finding.verdict,
        reason=_AT.sub(lambda at: f"at {outcome.where(int(at[1], 16))}", finding.reason),
        rests_on=list(claim.rests_on),
        assumptions=finding.assumptions,
        seconds=round(sum(result.seconds for result in finding.results), 3),
        obligations=[_obligation(result, outcome) for result in finding.results],
        counterexample=msgspec.to_builtins(shown) if shown is not None else None,
        function=claim.function,
        parts=[f.claim.id for f in outcome.findings if f.claim.id in claim.parts],
        waiver=_waiver(waiver) if waiver is not None else None,
    )


def _waiver(waiver: Waiver) -> model.WaiverRecord:
    return model.WaiverRecord(
        waiver.reason, waiver.reference, waiver.obligation, waiver.sentence, waiver.where, waiver.file
    )


def record(
    kernel: Kernel,
    function: Function,
    outcome: Outcome,
    started: datetime,
    queries: dict[str, int] | None = None,
) -> model.Run:
    """Return the run's record.

    :param queries: how many were sent, and how many that an earlier run had answered.
    """
    return model.Run(
        schema=model.SCHEMA,
        tool=f"kexec-verify {kexec_verify.__version__}",
        started=started.isoformat(timespec="seconds"),
        seconds=round((datetime.now(UTC) - started).total_seconds(), 3),
        complete=True,
        target=model.TargetRecord(
            kernel.name,
            kernel.source,
            kernel.format,
            kernel.sha256,
            kernel.build_id,
            kernel.version,
            location_of(kernel.source),
        ),
        functions=[_function(kernel, function, outcome), *_others(kernel, outcome)],
        properties=[_property(finding, outcome) for finding in outcome.findings],
        assumptions=_assumptions(outcome),
        paths=[
            *(_path(path, scenario) for path, scenario in sorted(outcome.paths.items())),
            *(
                model.PathRecord(list(path), "a call", _given(run))
                for path, run in sorted(outcome.runs.items())
            ),
        ],
        versions=engine_versions(),
        queries=queries or {},
        notes=outcome.notes,
        stages={stage: round(seconds, 3) for stage, seconds in outcome.seconds.items()},
        contracts=[model.ContractRecord(c.name, c.sentence, c.how) for c in outcome.contracts],
        globals=[model.GlobalRecord(*known) for known in outcome.globals],
        ends=[
            model.EndRecord(end.function, end.at, outcome.where(end.at), end.kind, list(end.condition))
            for end in outcome.ends
        ],
    )


def _function(kernel: Kernel, function: Function, outcome: Outcome) -> model.FunctionRecord:
    """Return the routine: its bytes, its ABI variant, and how they were found."""
    variant = outcome.variant
    roles = {"entry": variant.entry, "ptr": variant.ptr, "dest": variant.dest} if variant else {}
    results = [result for finding in outcome.findings for result in finding.results]
    return model.FunctionRecord(
        name=function.name,
        address=function.address,
        size=len(function.code),
        sha256=hashlib.sha256(function.code).hexdigest(),
        found_by=function.found_by,
        variant=variant.name if variant else "",
        page_size=variant.page_size if variant else 0,
        roles=roles,
        layout=_layout(variant),
        layout_from=variant.layout_from if variant else "",
        instructions=list_instructions(outcome.code, _covered(results)),
        loops=loop_heads(outcome.code),
        invariants=loop_invariants(outcome.code, variant, results),
        folds_ttbr=variant.folds_ttbr if variant else None,
        tests_head=variant.tests_head if variant else None,
        patch_sites=patch_sites(kernel, outcome.code, outcome.choices),
    )


def _others(kernel: Kernel, outcome: Outcome) -> list[model.FunctionRecord]:
    """Return the functions other than the routine."""
    results = [result for finding in outcome.findings for result in finding.results]
    # A callee's proof keeps no list of what it ran, but each of its obligations has its path.
    ran = _covered(results)
    return [_other(listed, kernel, results, ran, outcome.choices) for listed in outcome.others]


def _other(
    listed: CoveredFunction, kernel: Kernel, results: list[Result], ran: set[int], both: Container[int]
) -> model.FunctionRecord:
    code = listed.code
    return model.FunctionRecord(
        name=code.name,
        address=code.address,
        size=len(code.data),
        sha256=hashlib.sha256(code.data).hexdigest(),
        found_by=f"symbol {code.name}",
        variant="",
        page_size=0,
        roles={},
        layout={},
        layout_from="",
        instructions=list_instructions(code, listed.covered | ran, kernel.called),
        loops=loop_heads(code),
        invariants=other_invariants(listed, results),
        patch_sites=patch_sites(kernel, code, both),
    )


def _given(inputs: Mapping[str, str]) -> list[str]:
    """Return the inputs of a function's run, word by word."""
    return [f"{name} = {value}" for name, value in inputs.items()]


def _path(path: tuple[int, ...], scenario: Scenario | None) -> model.PathRecord:
    if scenario is None:
        return model.PathRecord(list(path), "", [])
    words = [scenario.head, *(value for _, value in scenario.words)]
    return model.PathRecord(list(path), scenario.name, [f"{word:#x}" for word in words])


def _layout(variant: AbiVariant | None) -> dict[str, int]:
    if variant is None or variant.layout is None:
        return {}
    names = ("head", "start", "dtb_mem", "el2_vectors", "ttbr1", "zero_page", "phys_offset")
    return {name: getattr(variant.layout, name) for name in names}


def _assumptions(outcome: Outcome) -> list[model.AssumptionRecord]:
    """Return the assumptions that the run stated or used."""
    stated = {
        label
        for finding in outcome.findings
        for result in finding.results
        for label, _ in result.obligation.hypotheses
    }
    found = []
    for assumption in ASSUMPTIONS.values():
        users = [f.claim.id for f in outcome.findings if assumption.id in f.assumptions]
        if users or assumption.id in stated:
            found.append(
                model.AssumptionRecord(
                    assumption.id,
                    assumption.sentence,
                    assumption.source,
                    assumption.id in stated,
                    users,
                    outcome.witnesses.get(assumption.id, {}),
                )
            )
    return found


def _covered(results: list[Result]) -> set[int]:
    """Return the addresses that some path ran: proved coverage obligations, and every recorded path."""
    covered = {address for result in results if not result.idle for address in result.obligation.path}
    for result in results:
        required = result.obligation
        if (
            required.name.endswith("-covered")
            and required.at is not None
            and result.verdict is Verdict.PROVED
        ):
            covered.add(required.at)
    return covered


def report_files(
    run: model.Run, outcome: Outcome, pages: Mapping[str, str] = MappingProxyType({})
) -> dict[str, bytes]:
    """Return a report's files: run.json, its seal, the obligations' texts, and ``pages`` by name."""
    encoded = msgspec.json.format(msgspec.json.encode(run), indent=1)
    files = {RUN: encoded + b"\n"}
    seal = seal_of(files[RUN])
    if seal is not None:
        files[SEAL] = f"{seal}\n".encode()
    for finding in outcome.findings:
        for result in finding.results:
            files[_text_file(result)] = result.text.encode()
    return files | {name: page.encode(errors="replace") for name, page in pages.items()}


def _text_file(result: Result) -> str:
    return f"{TEXTS}/{result.digest[:24]}.smt2"
