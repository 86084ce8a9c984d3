"""What live runs do to the verdicts of a finished run, to the ledger, to the gate and to the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from kexec_verify.errors import UsageError
from kexec_verify.gate.decide import Evidence, Rule, decide
from kexec_verify.gate.evidence import gather
from kexec_verify.gate.policy import Policy
from kexec_verify.html.companion_files import CompanionFiles
from kexec_verify.html.page import run_page
from kexec_verify.report.ledger import ledger
from kexec_verify.report.live_model import SCHEMA, CheckRecord, Configuration, DeathRecord, LiveRun, Seen
from kexec_verify.report.live_record import read_live, write_live
from kexec_verify.report.live_verdicts import in_a_line, with_live
from kexec_verify.report.model import SCHEMA as RUN_SCHEMA
from kexec_verify.report.model import FunctionRecord, ObligationRecord, PropertyRecord, Run, TargetRecord
from kexec_verify.report.read import read_runs
from kexec_verify.verdict import Verdict

SHA = "ab" * 32
HELD = CheckRecord("mmu-on", "at an entry", Seen.HELD, "SCTLR = 0x5")
FALSE = CheckRecord("linear-map-copied", "TTBR1", Seen.FALSE, "destination 0x1000 is read-only")
ENDED = CheckRecord("", "kimage->start is entered", Seen.FALSE, "the guest died")


def claim(name: str, verdict: Verdict = Verdict.PROVED, **fields: Any) -> PropertyRecord:
    needed = ObligationRecord(f"{name}-a", "Holds.", verdict, None, "", [], [], [], False, [], "x.smt2", SHA)
    known: dict[str, Any] = {"rests_on": [], "assumptions": ["mmu-on"], "seconds": 1, "obligations": [needed]}
    known |= {"id": name, "theorem": "T1", "statement": "Holds.", "verdict": verdict, "reason": ""}
    return PropertyRecord(**{**known, **fields})


def run(*claims: PropertyRecord) -> Run:
    target = TargetRecord("vmlinux", "vmlinux", "elf", SHA, None, "6.1")
    routine = FunctionRecord("routine", 4096, 288, SHA, "symbol", "kimage", 4096, {}, {}, "BTF", [])
    started = "2026-01-01T00:00:00+00:00"
    return Run(
        RUN_SCHEMA, "kexec-verify 0", started, 1.0, True, target, [routine], list(claims), [], [], {}, {}
    )


def configuration(*checks: CheckRecord, outcome: str = "entered", **fields: Any) -> Configuration:
    known: dict[str, Any] = {
        "level": "nvhe",
        "mode": "load",
        "cpu": "cortex-a57",
        "outcome": outcome,
        "reason": "",
    }
    known |= {
        "checks": list(checks),
        "differences": [],
        "death": None,
        "seconds": 1,
        "cpu_seconds": 1,
        "console": "",
    }
    return Configuration(**{**known, **fields})


def live(*configurations: Configuration, sha256: str = SHA) -> LiveRun:
    started = "2026-01-01T00:00:00+00:00"
    versions = {"QEMU": "7.2"}
    return LiveRun(
        SCHEMA,
        "kexec-verify 0",
        started,
        "vmlinux",
        "vmlinux",
        sha256,
        "6.1",
        versions,
        "",
        list(configurations),
    )


USES = claim("reloc-step", assumptions=["linear-map-copied"])
OTHER = claim("reloc-covered")


def verdicts(found: Run) -> dict[str, Verdict]:
    return {record.id: record.verdict for record in found.properties}


def test_a_proof_that_used_a_false_assumption_is_contradicted():
    found = with_live(run(USES, OTHER), live(configuration(HELD, FALSE)))
    assert verdicts(found) == {"reloc-step": Verdict.CONTRADICTED, "reloc-covered": Verdict.PROVED}
    assert "contradicted by a live run: linear-map-copied is false" in found.properties[0].reason
    assert "destination 0x1000 is read-only" in found.properties[0].reason
    assert found.verdict is Verdict.CONTRADICTED and found.verdict.exit_status == 3


def test_what_rests_on_it_or_is_made_of_it_is_contradicted_too():
    above = claim("reloc-dest-pages", rests_on=["reloc-step"])
    whole = claim("kexec-reaches-entry", parts=["reloc-dest-pages"])
    found = with_live(run(whole, above, USES), live(configuration(FALSE)))
    assert set(verdicts(found).values()) == {Verdict.CONTRADICTED}


def test_what_is_not_proved_keeps_its_verdict():
    refuted = claim("reloc-step", Verdict.REFUTED, assumptions=["linear-map-copied"])
    assert verdicts(with_live(run(refuted), live(configuration(FALSE)))) == {"reloc-step": Verdict.REFUTED}


def test_live_runs_of_other_bytes_say_nothing():
    found = with_live(run(USES), live(configuration(FALSE), sha256="cd" * 32))
    assert verdicts(found) == {"reloc-step": Verdict.PROVED}


def test_a_false_conclusion_that_no_assumption_explains_contradicts_every_proof():
    found = with_live(run(USES, OTHER), live(configuration(HELD, ENDED)))
    assert set(verdicts(found).values()) == {Verdict.CONTRADICTED}


def test_a_false_conclusion_is_explained_by_a_false_assumption_of_the_same_run():
    found = with_live(run(USES, OTHER), live(configuration(FALSE, ENDED)))
    assert verdicts(found)["reloc-covered"] is Verdict.PROVED


def test_an_assumption_in_a_line():
    both = live(configuration(HELD, FALSE), configuration(HELD, level="vhe", cpu="neoverse-n1"))
    assert in_a_line(both, "mmu-on") == "held in 2 of 2 live runs on 6.1"
    told = in_a_line(both, "linear-map-copied")
    assert told == "FALSE in load nvhe cortex-a57 on 6.1: destination 0x1000 is read-only"
    assert in_a_line(both, "ctr-legal") == ""


def test_the_ledger_has_the_line():
    lines = list(ledger([run(USES)], [live(configuration(HELD))]))
    assert "  live: held in 1 of 1 live runs on 6.1" in lines


def saved(folder: Path, made: LiveRun | None) -> Path:
    place = folder / "vmlinux"
    place.mkdir()
    (place / "run.json").write_bytes(msgspec.json.encode(run(USES, OTHER)))
    if made is not None:
        write_live(made, place)
    return place


def test_the_gate_and_every_reader_of_runs_see_the_contradiction(tmp_path):
    place = saved(tmp_path, live(configuration(FALSE)))
    decision = decide(gather([str(place)]), Policy())
    assert [reason.property for reason in decision.reasons] == ["reloc-step"]
    assert decision.exit_status == 3
    assert verdicts(read_runs(tmp_path)[place])["reloc-step"] is Verdict.CONTRADICTED


@pytest.mark.parametrize(
    ("made", "passes"),
    [
        (None, False),
        (live(), False),
        (live(configuration(HELD)), True),
        (live(configuration(HELD, outcome="died")), False),
        (live(configuration(HELD, outcome="stopped")), False),
        (live(configuration(HELD), sha256="cd" * 32), False),
    ],
)
def test_live_runs_can_be_required(tmp_path, made, passes):
    place = saved(tmp_path, made)
    evidence: list[Evidence] = gather([str(place)])
    decision = decide(evidence, Policy(require_live=True))
    assert decision.passed is passes
    assert decide(evidence, Policy()).passed
    assert passes or {reason.rule for reason in decision.reasons} == {Rule.LIVE}


def test_a_live_json_of_another_schema_is_refused(tmp_path):
    place = saved(tmp_path, msgspec.structs.replace(live(), schema=99))
    with pytest.raises(UsageError, match="schema"):
        read_live(place, SHA)


def test_the_page_shows_each_value_and_is_not_green():
    death = DeathRecord("0x5810200", {"pc": 0x5810200}, "word 7 of 9", "destination 0x1000: read-only")
    made = live(configuration(HELD, FALSE, ENDED, outcome="died", death=death))
    page = run_page(run(USES, OTHER), CompanionFiles(live=made), "run.json")
    assert "CONTRADICTED" in page and "contradicted by a live run" in page
    assert "word 7 of 9" in page and "SCTLR = 0x5" in page
    assert "<title>PROVED" not in page
    assert 'id="live"' not in run_page(run(USES), CompanionFiles(), "run.json")
