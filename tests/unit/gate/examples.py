"""Runs built in code: each status that a property can have, and names that try to break a format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from kexec_verify.gate.decide import Decision, Evidence, decide
from kexec_verify.gate.formats.report import Report, report
from kexec_verify.gate.policy import Policy
from kexec_verify.mutate.model import FaultRecord, MutantRecord, MutationRun
from kexec_verify.report.model import (
    SCHEMA,
    FunctionRecord,
    ObligationRecord,
    PropertyRecord,
    Run,
    TargetRecord,
    WaiverRecord,
)
from kexec_verify.verdict import Verdict

ROUTINE = "arm64_relocate_new_kernel"
WHERE = f"{ROUTINE}+0xe8/0x120"
SHA = "ab" * 32
EVIL = "x\n::error::y\r]]><b a='1'>&\"|#`\x1b[31m\u202e##[add-mask]\x00%,:\ud800"
WAIVER = WaiverRecord("hardware keeps it coherent", "docs/deviations.md", "claim-waived-a", "It *")


def required(name: str, verdict: Verdict = Verdict.PROVED, where: str = "") -> ObligationRecord:
    at = 0xFFFF8000080000E8 if where else None
    return ObligationRecord(name, "It holds.", verdict, at, where, [], [], [], False, [], f"{name}.smt2", SHA)


def claim(name: str, verdict: Verdict = Verdict.PROVED, **fields: Any) -> PropertyRecord:
    known: dict[str, Any] = {
        "id": name,
        "theorem": "T1",
        "statement": "It holds.",
        "verdict": verdict,
        "reason": "" if verdict is Verdict.PROVED else f"{name} does not follow",
        "rests_on": [],
        "assumptions": ["mmu-on"],
        "seconds": 1.5,
        "obligations": [required(f"{name}-a", verdict), required(f"{name}-b")],
    }
    return PropertyRecord(**{**known, **fields})


def counterexample(where: str = WHERE) -> dict[str, Any]:
    path = [
        {"address": 0xFFFF8000080000E4, "where": f"{ROUTINE}+0xe4/0x120", "text": "isb", "changed": {}},
        {
            "address": 0xFFFF8000080000E8,
            "where": where,
            "text": "msr sctlr_el1, x12",
            "changed": {"x1": 2**64 - 1},
        },
    ]
    return {"at": 0xFFFF8000080000E8, "where": where, "effect": "dirty", "path": path}


def refuted(name: str = "claim-refuted", where: str = WHERE, **fields: Any) -> PropertyRecord:
    reason = f"{where}: when SCTLR_EL1 is written: expected clean, found dirty"
    return claim(name, Verdict.REFUTED, reason=reason, counterexample=counterexample(where), **fields)


def waived(name: str = "claim-waived") -> PropertyRecord:
    return refuted(name, waiver=msgspec.structs.replace(WAIVER, obligation=f"{name}-a"))


def undecided(name: str = "claim-undecided", verdict: Verdict = Verdict.UNKNOWN) -> PropertyRecord:
    return claim(name, verdict, obligations=[required("claim-step", verdict, f"{ROUTINE}+0x10/0x120")])


def function(name: str = ROUTINE, sha256: str = SHA) -> FunctionRecord:
    return FunctionRecord(name, 4096, 288, sha256, "symbol", "kimage", 4096, {}, {}, "BTF", [])


def run(*claims: PropertyRecord, name: str = "vmlinux", **fields: Any) -> Run:
    known: dict[str, Any] = {
        "schema": SCHEMA,
        "tool": "kexec-verify 0",
        "started": "2025-01-01T00:00:00+00:00",
        "seconds": 1.0,
        "complete": True,
        "target": TargetRecord(name, f"/boot/{name}", "elf", SHA, None, None),
        "functions": [function()],
        "properties": list(claims or [claim("claim-a"), claim("claim-b")]),
        "assumptions": [],
        "paths": [],
        "versions": {},
        "stages": {},
    }
    return Run(**{**known, **fields})


def mutation(outcome: str = "refuted", sha256: str = SHA, noticed: str = "a probe") -> MutationRun:
    mutant = MutantRecord("nop", 4096, f"{ROUTINE}+0x4/0x120", "dsb sy -> nop", outcome, "dirty", "", 0.1)
    return MutationRun(1, "vmlinux", sha256, 1, 10, 1.0, [mutant], [], [FaultRecord("adds twice", noticed)])


def evidence(item: Run, **fields: Any) -> Evidence:
    return Evidence(item, Path(f"reports/{item.target.name}/run.json"), **fields)


def decided(*runs: Run, policy: Policy | None = None, lines: Any = None) -> Report:
    items = [evidence(item) for item in runs]
    decision: Decision = decide(items, policy or Policy())
    return report(decision, items, lines)


def evil() -> Run:
    """Every name in it that a binary could choose is hostile."""
    where = f"{EVIL}+0x4/0x8"
    broken = refuted("claim-refuted", where, function=EVIL)
    open_ = msgspec.structs.replace(undecided(), function=EVIL, reason=EVIL)
    kept = msgspec.structs.replace(
        waived(), function=EVIL, waiver=WaiverRecord(EVIL, EVIL, "claim-waived-a", "*")
    )
    target = TargetRecord(EVIL, EVIL, "elf", SHA, None, EVIL)
    return run(
        broken, open_, kept, claim("claim-a", function=EVIL), target=target, functions=[function(EVIL)]
    )


def every() -> dict[str, Report]:
    """A report for each kind of run."""
    lines = {0xFFFF8000080000E8: "arch/arm64/kernel/relocate_kernel.S:77"}
    return {
        "proved": decided(run()),
        "refuted": decided(run(claim("claim-a"), refuted())),
        "located": decided(run(claim("claim-a"), refuted()), lines=lambda item, at: lines),
        "undecided": decided(run(claim("claim-a"), undecided(), undecided("claim-v", Verdict.VACUOUS))),
        "waived": decided(run(claim("claim-a"), waived()), policy=Policy(waivers=["*"])),
        "error": decided(run(claim("claim-a", Verdict.ERROR))),
        "incomplete": decided(run(claim("claim-a"), complete=False)),
        "empty": decided(run(properties=[])),
        "several": decided(run(refuted()), run(claim("claim-a"), undecided(), name="Image")),
        "hostile": decided(evil()),
    }
