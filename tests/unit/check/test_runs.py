"""Checking a finished run again: what holds, what is refused, what is found out."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import UnionType
from typing import get_origin

import msgspec
import pytest
from click.testing import CliRunner
from kexec_verify.check import text as module
from kexec_verify.check.certify import Certificate, Status
from kexec_verify.check.model import FILE, SCHEMA, Check
from kexec_verify.check.runs import Options, check_run
from kexec_verify.cli import check as command
from kexec_verify.cli.check import lines as shown_lines
from kexec_verify.errors import InternalError, TargetError, UsageError, VerifyError
from kexec_verify.logic import FALSE, const, ult, var
from kexec_verify.prove.smtlib import script
from kexec_verify.prove.solvers import Answer, Reply
from kexec_verify.report import model
from kexec_verify.report.read import read_run
from kexec_verify.report.seal import FILE as SEAL
from kexec_verify.report.seal import seal_of
from kexec_verify.specs.properties import PROPERTIES, RELOCATION, WHOLE_PATH, Property
from kexec_verify.verdict import Verdict
from kexec_verify.waivers import read_waivers

SPECS = (*RELOCATION, *WHOLE_PATH)
REAL = "reloc-covered"  # the name of a property, and of its obligations
SENTENCE = (
    "at machine_kexec+0x8 the instruction cache has been invalidated, and a DSB and an ISB have completed it"
)
WAIVER = next(w for w in read_waivers() if w.variant == "kimage")
X, Y = var("x"), var("y")
VALID = script([("below", ult(X, Y))], X != Y)
ALSO_VALID = script([("same", X == Y)], X + 1 == Y + 1)
INVALID = script([("differ", X != Y)], ult(X, Y))
IDLE = script([("never", X != X + 0), ("nor", ult(X, X))], FALSE)


def filled(kind: type, **given):
    """A record of `kind` (msgspec.Struct) with the fields `given`; the others are empty."""
    for wanted in msgspec.structs.fields(kind):
        if wanted.required and wanted.name not in given:
            plain = get_origin(wanted.type) or wanted.type
            given[wanted.name] = None if get_origin(wanted.type) is UnionType else plain()
    return kind(**given)


def obligation(text: str, name: str = "kind", verdict: Verdict = Verdict.PROVED, idle: bool = False):
    """The text and its record (model.ObligationRecord)."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    path = f"obligations/{digest[:24]}.smt2"
    labels = re.findall(r":named \|\d+:(.*)\|", text)
    return text, filled(
        model.ObligationRecord,
        name=name,
        verdict=verdict,
        idle=idle,
        text=path,
        sha256=digest,
        hypotheses=labels,
        sentence=SENTENCE,
    )


def seal(folder: Path) -> None:
    """Seal the folder's run.json as a run does."""
    (folder / SEAL).write_text(seal_of((folder / "run.json").read_bytes()))


def edit(folder: Path, change, sealed: bool = False) -> Path:
    """Change the properties in the folder's run.json, with or without the key for its seal."""
    run = read_run(folder / "run.json")
    properties = change(list(run.properties))
    changed = msgspec.structs.replace(run, properties=properties)
    (folder / "run.json").write_bytes(msgspec.json.encode(changed))
    if sealed:
        seal(folder)
    return folder


def write(
    folder: Path, properties: dict[str, list], rests_on=None, claimed=None, complete: bool = True, **fields
) -> Path:
    """A run's folder: property to its obligations; claimed PROVED unless said otherwise."""
    (folder / "obligations").mkdir(parents=True)
    records = []
    for name, required in properties.items():
        for text, record in required:
            (folder / record.text).write_text(text)
        records.append(
            filled(
                model.PropertyRecord,
                id=name,
                verdict=(claimed or {}).get(name, Verdict.PROVED),
                rests_on=(rests_on or {}).get(name, []),
                obligations=[record for _, record in required],
                **fields,
            )
        )
    run = filled(
        model.Run,
        schema=model.SCHEMA,
        complete=complete,
        properties=records,
        target=filled(model.TargetRecord),
        functions=[filled(model.FunctionRecord)],
    )
    (folder / "run.json").write_bytes(msgspec.json.encode(run))
    seal(folder)
    return folder


@pytest.fixture(autouse=True)
def properties(monkeypatch) -> None:
    """Three properties that every obligation may be one of, in addition to those of the specs."""
    for name in "abc":
        monkeypatch.setitem(PROPERTIES, name, Property(name, "T1", "", ("*",)))


@pytest.fixture
def run(tmp_path) -> Path:
    required = [obligation(VALID, REAL), obligation(ALSO_VALID, REAL)]
    return write(tmp_path / "run", {REAL: required})


def found(folder: Path) -> dict[str, Verdict]:
    return {claim.id: claim.recomputed for claim in check_run(folder).claims}


def test_a_record_that_is_right_holds(run):
    result = check_run(run)
    assert result.faults == []
    assert result.obligations == len(result.texts) == 2
    assert [{a.solver: a.answer for a in t.answers} for t in result.texts] == 2 * [
        {"z3": "unsat", "bitwuzla": "unsat"}
    ]
    assert all(text.live and text.certificate is None for text in result.texts)


def test_processes_give_the_same(run):
    one, two = check_run(run), check_run(run, Options(jobs=2))
    assert (one.claims, [t.sha256 for t in one.texts]) == (two.claims, [t.sha256 for t in two.texts])


def test_a_changed_text_is_an_error(run):
    path = next((run / "obligations").iterdir())
    path.write_text(path.read_text() + "\n")
    with pytest.raises(TargetError, match="expected SHA-256"):
        check_run(run)


def test_a_missing_text_is_an_error(run):
    next((run / "obligations").iterdir()).unlink()
    with pytest.raises(TargetError, match="No such file"):
        check_run(run)


def test_a_text_outside_of_the_run_is_an_error(tmp_path):
    text, record = obligation(VALID)
    (tmp_path / "elsewhere.smt2").write_text(text)
    folder = write(tmp_path / "run", {"a": []})
    encoded = msgspec.json.decode((folder / "run.json").read_bytes())
    outside = msgspec.to_builtins(msgspec.structs.replace(record, text="../elsewhere.smt2"))
    encoded["properties"][0]["obligations"] = [outside]
    (folder / "run.json").write_bytes(msgspec.json.encode(encoded))
    with pytest.raises(TargetError, match="expected a file in"):
        check_run(folder)


def test_no_run_is_an_error(tmp_path):
    with pytest.raises(UsageError):
        check_run(tmp_path)


def test_an_obligation_that_does_not_hold_is_found_out(tmp_path):
    result = check_run(write(tmp_path / "run", {"a": [obligation(VALID), obligation(INVALID)]}))
    assert [claim.recomputed for claim in result.claims] == [Verdict.UNKNOWN]
    assert len(result.faults) == 2 and "claimed PROVED, found z3 sat" in result.faults[0]


def test_an_obligation_that_is_not_claimed_need_not_hold(tmp_path):
    required = [obligation(INVALID, verdict=Verdict.UNKNOWN)]
    result = check_run(write(tmp_path / "run", {"a": required}, claimed={"a": Verdict.UNKNOWN}))
    assert result.faults == []


def test_a_property_is_not_proved_by_unproved_obligations(tmp_path):
    folder = write(tmp_path / "run", {"a": [obligation(VALID), obligation(INVALID, verdict=Verdict.UNKNOWN)]})
    assert found(folder) == {"a": Verdict.UNKNOWN}
    assert check_run(folder).faults


def test_a_property_without_obligations_is_not_proved(tmp_path):
    assert found(write(tmp_path / "run", {"a": []})) == {"a": Verdict.UNKNOWN}


def test_a_property_rests_on_others_by_the_record(tmp_path):
    required = [obligation(VALID)]
    open_one = [obligation(INVALID, verdict=Verdict.UNKNOWN)]
    claimed = {"c": Verdict.UNKNOWN}
    folder = write(
        tmp_path / "run",
        {"a": required, "b": required, "c": open_one},
        {"a": ["b"], "b": ["c"]},
        claimed=claimed,
    )
    assert found(folder) == dict.fromkeys("abc", Verdict.UNKNOWN)
    assert [fault.split(":")[0] for fault in check_run(folder).faults] == ["a", "b"]


def test_a_property_rests_on_others_by_the_specs(tmp_path):
    """A record that names no grounds is held to those of the specs."""
    folder = write(tmp_path / "run", {"reloc-memory-safe": [obligation(VALID)]})
    assert found(folder) == {"reloc-memory-safe": Verdict.UNKNOWN}


def theorem(folder: Path) -> Path:
    """A run of every property about a form, with a valid obligation each."""
    properties = {
        known.id: [obligation(VALID, known.obligations[0].replace("*", "x"))]
        for known in SPECS
        if known.variant in (None, "kimage")
    }
    made = write(folder, properties)
    run = read_run(made / "run.json")
    functions = [filled(model.FunctionRecord, variant="kimage")]
    (made / "run.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(run, functions=functions)))
    seal(made)
    return made


def test_a_theorem_over_all_its_parts_holds(tmp_path):
    result = check_run(theorem(tmp_path / "run"))
    assert (result.faults, result.unsettled, result.exit_status) == ([], [], 0)
    assert set(result.absent) == set("abc")


@pytest.mark.parametrize("how", ["deleted", "refuted", "undecided"])
def test_a_theorem_is_not_proved_without_one_of_its_parts(tmp_path, how):
    """By the specs, whatever the record says that it is made of, and with a seal."""
    name = "kexec-reaches-entry"
    whole = theorem(tmp_path / "run")
    for part in PROPERTIES[name].parts:
        if PROPERTIES[part].variant not in (None, "kimage"):
            continue  # a part of other ABI variants than the run's
        folder = shutil.copytree(whole, tmp_path / part)
        worse = {"refuted": Verdict.REFUTED, "undecided": Verdict.UNKNOWN}.get(how)

        def change(records, part=part, worse=worse):
            if worse is None:
                return [record for record in records if record.id != part]
            return [
                msgspec.structs.replace(
                    record,
                    verdict=worse,
                    obligations=[msgspec.structs.replace(o, verdict=worse) for o in record.obligations],
                )
                if record.id == part
                else record
                for record in records
            ]

        result = check_run(edit(folder, change, sealed=True))
        assert any(fault.startswith(f"{name}: claimed PROVED") for fault in result.faults), part
        assert result.exit_status == 1


def _dropped(records):
    return records[:-1]


def _fewer(records):
    return [msgspec.structs.replace(r, obligations=r.obligations[:1]) for r in records]


def _another_text(records):
    """Each obligation's text is that of the first."""
    first = records[0].obligations[0]
    same = {"text": first.text, "sha256": first.sha256, "hypotheses": first.hypotheses}
    return [
        msgspec.structs.replace(r, obligations=[msgspec.structs.replace(o, **same) for o in r.obligations])
        for r in records
    ]


def _renamed(records):
    return [*records[:-1], msgspec.structs.replace(records[-1], statement="It holds.")]


@pytest.mark.parametrize("change", [_dropped, _fewer, _another_text, _renamed])
def test_an_edited_record_is_not_green(tmp_path, change):
    """What is left of it holds, and it is not what a run wrote."""
    required = [obligation(VALID, "reloc-covered"), obligation(ALSO_VALID, "reloc-covered")]
    folder = write(tmp_path / "run", {"reloc-covered": required, "a": required})
    assert check_run(folder).exit_status == 0
    result = check_run(edit(folder, change))
    assert result.faults == [] and not result.sealed
    assert "no seal" in result.unsettled[0]
    assert result.exit_status == 3


def test_a_verdict_that_is_edited_is_found_out(tmp_path):
    """The key for the seal is of no use here: the solvers do not find it."""
    required = [obligation(VALID), obligation(INVALID, verdict=Verdict.UNKNOWN)]
    folder = write(tmp_path / "run", {"a": required}, claimed={"a": Verdict.UNKNOWN})

    def change(records):
        proved = [msgspec.structs.replace(o, verdict=Verdict.PROVED) for o in records[0].obligations]
        return [msgspec.structs.replace(records[0], verdict=Verdict.PROVED, obligations=proved)]

    assert check_run(folder).exit_status == 3
    result = check_run(edit(folder, change, sealed=True))
    assert (len(result.faults), result.exit_status) == (2, 1)


@pytest.mark.parametrize("name", ["run.seal", "nothing"])
def test_a_run_without_the_seal_of_this_user_is_not_green(run, monkeypatch, name):
    if name == "nothing":
        monkeypatch.setenv("KEXEC_VERIFY_CACHE_KEY", "somebody else's")
    else:
        (run / name).unlink()
    result = check_run(run)
    assert (result.sealed, result.faults, result.exit_status) == (False, [], 3)


def test_a_run_without_properties_is_not_green(tmp_path):
    result = check_run(write(tmp_path / "run", {}))
    assert (result.faults, result.exit_status) == (["the run has no property"], 1)


def test_what_the_run_says_nothing_of_is_named(run):
    said = {known.id for known in SPECS if known.variant is None} | set("abc")
    assert set(check_run(run).absent) == said - {REAL}


def test_an_obligation_of_another_property_proves_nothing(tmp_path):
    folder = write(tmp_path / "run", {REAL: [obligation(VALID, REAL), obligation(VALID, "reloc-init")]})
    result = check_run(folder)
    assert result.claims[0].reason == "reloc-init is no obligation of it"
    assert result.exit_status == 1


def test_a_property_that_the_specs_lack_is_not_proved(tmp_path):
    result = check_run(write(tmp_path / "run", {"own-idea": [obligation(VALID)]}))
    assert (result.claims[0].recomputed, result.exit_status) == (Verdict.UNKNOWN, 1)


def test_other_hypotheses_than_those_of_the_text_are_an_error(run):
    def change(records):
        required = [msgspec.structs.replace(o, hypotheses=["none"]) for o in records[0].obligations]
        return [msgspec.structs.replace(records[0], obligations=required)]

    with pytest.raises(TargetError, match=r"expected the hypotheses \['none'\]"):
        check_run(edit(run, change, sealed=True))


def test_a_property_twice_is_a_fault(run):
    result = check_run(edit(run, lambda records: [*records, *records], sealed=True))
    assert result.faults == [f"{REAL}: the run has it 2 times"]


@pytest.mark.parametrize(
    ("waiver", "status"),
    [
        (model.WaiverRecord(WAIVER.reason, WAIVER.reference, WAIVER.obligation, WAIVER.sentence), 0),
        (model.WaiverRecord(WAIVER.reason, WAIVER.reference, WAIVER.obligation, "*"), 1),
        (model.WaiverRecord("mine", WAIVER.reference, WAIVER.obligation, WAIVER.sentence), 1),
        (None, 1),
    ],
)
def test_a_refuted_property_is_green_with_a_waiver_of_the_specs_alone(tmp_path, monkeypatch, waiver, status):
    known = PROPERTIES[WAIVER.property]
    monkeypatch.setitem(PROPERTIES, WAIVER.property, dataclasses.replace(known, rests_on=()))
    required = [obligation(INVALID, WAIVER.obligation, Verdict.UNKNOWN)]
    folder = write(
        tmp_path / "run",
        {WAIVER.property: required},
        claimed={WAIVER.property: Verdict.REFUTED},
        waiver=waiver,
    )
    assert check_run(kimage(folder)).exit_status == status


def kimage(folder: Path, **changes) -> Path:
    """Give the run in the folder the ABI variant of WAIVER."""
    made = read_run(folder / "run.json")
    functions = [filled(model.FunctionRecord, variant="kimage", **changes)]
    (folder / "run.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(made, functions=functions)))
    seal(folder)
    return folder


def waived_by(folder: Path, monkeypatch, **changes) -> Path:
    """A run whose one property is refuted, and waived by a waiver of the user's own."""
    known = PROPERTIES[WAIVER.property]
    monkeypatch.setitem(PROPERTIES, WAIVER.property, dataclasses.replace(known, rests_on=()))
    required = [obligation(INVALID, WAIVER.obligation, Verdict.UNKNOWN)]
    record = model.WaiverRecord("mine", "ref", WAIVER.obligation, SENTENCE, "", "mine.toml")
    record = msgspec.structs.replace(record, **changes)
    claimed = {WAIVER.property: Verdict.REFUTED}
    return kimage(write(folder, {WAIVER.property: required}, claimed=claimed, waiver=record))


MINE = dataclasses.replace(
    WAIVER, reason="mine", reference="ref", sentence=SENTENCE, where="", file="elsewhere.toml"
)


def test_waiver_of_the_user_holds_if_the_check_is_given_it(tmp_path, monkeypatch):
    folder = waived_by(tmp_path / "run", monkeypatch)
    without = check_run(folder)
    assert without.exit_status == 1
    fault = (
        f"{WAIVER.property}: waived by mine.toml, but no waiver of specs/waivers.toml or --waivers covers it"
    )
    assert without.faults == [fault]
    found = check_run(folder, Options(waivers=(MINE,)))
    assert (found.exit_status, found.faults) == (0, [])


@pytest.mark.parametrize(
    "change",
    [
        {"where": "machine_kexec+0x8"},
        {"variant": "registers"},
        {"sentence": "*"},
        {"reason": "another"},
        {"obligation": "mk-other"},
        {"property": REAL},
    ],
)
def test_another_waiver_of_the_user_covers_nothing(tmp_path, monkeypatch, change):
    folder = waived_by(tmp_path / "run", monkeypatch)
    assert check_run(folder, Options(waivers=(dataclasses.replace(MINE, **change),))).exit_status == 1


def test_waiver_of_another_variant_covers_nothing(tmp_path, monkeypatch):
    folder = kimage(waived_by(tmp_path / "run", monkeypatch), tests_head=True)
    assert check_run(folder, Options(waivers=(MINE,))).exit_status == 1


def test_command_reads_waivers_from_a_file(tmp_path, monkeypatch):
    folder = waived_by(tmp_path / "run", monkeypatch)
    lines = [
        f"{name} = {value!r}" for name, value in dataclasses.asdict(MINE).items() if name != "file" and value
    ]
    (tmp_path / "mine.toml").write_text("[[waiver]]\n" + "\n".join(lines))
    monkeypatch.setattr(module, "require_independence", lambda: None)
    runner = CliRunner()
    options = ["-j", "1", "-q", str(folder)]
    assert runner.invoke(command.check, options, standalone_mode=False).return_value == 1
    waivers = ["--waivers", str(tmp_path / "mine.toml")]
    assert runner.invoke(command.check, [*waivers, *options], standalone_mode=False).return_value == 0


def test_multiplication_that_no_solver_finishes_is_undecided_in_bounded_time(tmp_path):
    a, b = (var(name).zero_extend(64) for name in "ab")
    product = const(0xD3C21BCECCEDA1A5F0B1A3D5B7C9E1F3, 128)
    hard = script([("product", a * b == product)], ult(var("a"), var("b")))
    folder = write(tmp_path / "run", {REAL: [obligation(hard, REAL)]})
    started = time.process_time()
    result = check_run(folder, Options(limit=1))
    assert time.process_time() - started < 30
    assert (result.exit_status, result.faults) == (3, [])
    assert "gave up on it" in result.unsettled[0]
    assert [claim.recomputed for claim in result.claims] == [Verdict.UNKNOWN]


def test_text_that_is_not_begun_in_time_is_undecided(run):
    result = check_run(run, Options(budget=-1))
    assert (result.exit_status, result.faults) == (3, [])
    assert all(text.answers == [] and not text.holds for text in result.texts)
    assert "the time for the whole check was over" in result.unsettled[0]
    assert {claim.recomputed for claim in result.claims} == {Verdict.UNKNOWN}
    assert shown_lines(result, False)[-1] == "the record is not confirmed: not every text is decided"


def test_two_runs_of_one_query_have_one_digest(tmp_path):
    required = [obligation(VALID), obligation(ALSO_VALID)]
    digests = [
        check_run(write(tmp_path / str(n), {"a": some})).claims[0].digest
        for n, some in enumerate([required, required[::-1], required[:1], [required[0], required[0]]])
    ]
    assert digests[0] == digests[1] and len(set(digests)) == 3


def test_a_proof_from_a_contradiction_is_vacuous(tmp_path):
    folder = write(tmp_path / "run", {"a": [obligation(IDLE)], "b": [obligation(IDLE), obligation(VALID)]})
    assert found(folder) == {"a": Verdict.VACUOUS, "b": Verdict.PROVED}


def test_an_incomplete_run_does_not_hold(tmp_path):
    folder = write(tmp_path / "run", {"a": [obligation(VALID)]}, complete=False)
    assert check_run(folder).faults == ["the run is not complete"]


def test_solvers_that_contradict_each_other_are_an_internal_fault(run, monkeypatch):
    monkeypatch.setattr(module, "ask_z3", lambda text, limit: Reply("z3", Answer.SAT, 0.0))
    with pytest.raises(InternalError, match="z3 sat, bitwuzla unsat") as raised:
        check_run(run)
    assert raised.value.exit_code == 70
    kept = sorted(path.name.split(".", 1)[1] for path in (run / module.CONTRADICTIONS).iterdir())
    assert kept == ["bitwuzla.smt2", "z3.smt2"]
    assert any("; z3: sat" in path.read_text() for path in (run / module.CONTRADICTIONS).iterdir())


def test_a_solver_that_does_not_answer_proves_nothing(run, monkeypatch):
    monkeypatch.setattr(module, "ask_z3", lambda text, limit: Reply("z3", Answer.UNKNOWN, 0.0))
    result = check_run(run)
    assert [claim.recomputed for claim in result.claims] == [Verdict.UNKNOWN]
    assert (result.faults, result.exit_status) == ([], 3)
    assert shown_lines(result, False)[-1] == "the record is not confirmed: not every text is decided"


def test_cvc5_is_asked_where_it_is_installed(run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="cvc5"):
        check_run(run, Options(third=True))


def test_a_text_has_one_goal(run):
    with pytest.raises(VerifyError, match="one goal"):
        module._live("(check-sat)\n", 1.0)


def test_certificates_are_counted(tmp_path, require_tool):
    require_tool("cadical", "cadical")
    required = [obligation(VALID), obligation(VALID, "other"), obligation(INVALID, "open", Verdict.UNKNOWN)]
    folder = write(tmp_path / "run", {"a": required}, claimed={"a": Verdict.UNKNOWN})
    result = check_run(folder, Options(certificates=True))
    assert (result.certified, result.faults) == (2, [])
    assert result.unsettled == ["a: the run's own verdict is UNKNOWN"]
    assert result.uncertified == {"UNKNOWN: there is no proof to certify": 1}
    assert "cadical" in result.versions["sat"]


def test_a_rejected_certificate_is_a_fault(tmp_path, require_tool):
    require_tool("cadical", "cadical")
    result = check_run(write(tmp_path / "run", {"a": [obligation(INVALID)]}), Options(certificates=True))
    assert result.certified == 0
    assert any("the clauses can be satisfied" in fault for fault in result.faults)


def test_without_a_sat_solver_there_is_no_certificate_and_no_success(run, monkeypatch):
    monkeypatch.setattr("kexec_verify.check.certify.shutil.which", lambda name: None)
    with pytest.raises(UsageError, match="expected cadical for --certify, found none"):
        check_run(run, Options(certificates=True))


def test_what_is_proved_and_not_certified_is_not_green(run, monkeypatch, require_tool):
    require_tool("cadical", "cadical")
    monkeypatch.setattr(module, "certify", lambda text: Certificate(Status.OUT_OF_REACH, "too large"))
    result = check_run(run, Options(certificates=True))
    assert (result.certified, result.faults, result.exit_status) == (0, [], 3)
    assert result.unsettled == ["a certificate of 2 obligations that are recorded as PROVED"]


def test_the_command_says_what_it_found(run, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "require_independence", lambda: None)  # angr is loaded in this process
    done = CliRunner().invoke(command.check, [str(run), "-j", "1"], standalone_mode=False)
    assert done.return_value == 0
    assert "the record holds" in done.output
    assert msgspec.json.decode((run / FILE).read_bytes(), type=Check).schema == SCHEMA
    wrong = write(tmp_path / "wrong", {"a": [obligation(INVALID)]})
    done = CliRunner().invoke(command.check, [str(wrong), "-j", "1"], standalone_mode=False)
    assert done.return_value == 1
    assert "the record does not hold" in done.output
    assert done.output.splitlines()[-1].startswith("next: verify run ")
    (run / SEAL).unlink()
    done = CliRunner().invoke(command.check, [str(run), "-j", "1"], standalone_mode=False)
    assert done.return_value == 3
    assert "whether it is all that must hold is not established" in done.output


def test_angr_takes_no_part(run):
    done = subprocess.run(
        [sys.executable, "-m", "kexec_verify", "check", str(run), "-j", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    code = "import sys, verify.cli, verify.check.runs, verify.cli.check; sys.exit('angr' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_angr_in_the_process_is_an_internal_fault(monkeypatch):
    monkeypatch.setitem(sys.modules, "angr", module)
    with pytest.raises(InternalError, match="angr is loaded"):
        module.require_independence()
