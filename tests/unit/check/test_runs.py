"""Checking a finished run again: what holds, what is refused, what is found out."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from types import UnionType
from typing import get_origin

import msgspec
import pytest
from click.testing import CliRunner

from verify.check import text as module
from verify.check.model import FILE, Check
from verify.check.runs import Options, check_run
from verify.cli import check as command
from verify.errors import InternalError, TargetError, UsageError, VerifyError
from verify.logic import FALSE, ult, var
from verify.prove.smtlib import script
from verify.prove.solvers import Answer, Reply
from verify.report import model
from verify.verdict import Verdict

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
    return text, filled(
        model.ObligationRecord, name=name, verdict=verdict, idle=idle, text=path, sha256=digest
    )


def write(
    folder: Path, properties: dict[str, list], rests_on=None, claimed=None, complete: bool = True
) -> Path:
    """A run's folder: property to its obligations; claimed PROVED unless said otherwise."""
    (folder / "obligations").mkdir(parents=True)
    records = []
    for name, owed in properties.items():
        for text, record in owed:
            (folder / record.text).write_text(text)
        records.append(
            filled(
                model.PropertyRecord,
                id=name,
                verdict=(claimed or {}).get(name, Verdict.PROVED),
                rests_on=(rests_on or {}).get(name, []),
                obligations=[record for _, record in owed],
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
    return folder


@pytest.fixture
def run(tmp_path) -> Path:
    return write(tmp_path / "run", {"a": [obligation(VALID), obligation(ALSO_VALID, "other")]})


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
    owed = [obligation(INVALID, verdict=Verdict.UNKNOWN)]
    result = check_run(write(tmp_path / "run", {"a": owed}, claimed={"a": Verdict.UNKNOWN}))
    assert result.faults == []


def test_a_property_is_not_proved_by_unproved_obligations(tmp_path):
    folder = write(tmp_path / "run", {"a": [obligation(VALID), obligation(INVALID, verdict=Verdict.UNKNOWN)]})
    assert found(folder) == {"a": Verdict.UNKNOWN}
    assert check_run(folder).faults


def test_a_property_without_obligations_is_not_proved(tmp_path):
    assert found(write(tmp_path / "run", {"a": []})) == {"a": Verdict.UNKNOWN}


def test_a_property_rests_on_others_by_the_record(tmp_path):
    owed = [obligation(VALID)]
    open_one = [obligation(INVALID, verdict=Verdict.UNKNOWN)]
    claimed = {"c": Verdict.UNKNOWN}
    folder = write(
        tmp_path / "run", {"a": owed, "b": owed, "c": open_one}, {"a": ["b"], "b": ["c"]}, claimed=claimed
    )
    assert found(folder) == dict.fromkeys("abc", Verdict.UNKNOWN)
    assert [fault.split(":")[0] for fault in check_run(folder).faults] == ["a", "b"]


def test_a_property_rests_on_others_by_the_specs(tmp_path):
    """A record that names no grounds is held to those of the specs."""
    folder = write(tmp_path / "run", {"reloc-memory-safe": [obligation(VALID)]})
    assert found(folder) == {"reloc-memory-safe": Verdict.UNKNOWN}


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
    assert result.faults


def test_cvc5_is_asked_where_it_is_installed(run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="cvc5"):
        check_run(run, Options(third=True))


def test_a_text_has_one_goal(run):
    with pytest.raises(VerifyError, match="one goal"):
        module._live("(check-sat)\n", 1.0)


def test_certificates_are_counted(tmp_path, require_tool):
    require_tool("cadical", "cadical")
    owed = [obligation(VALID), obligation(VALID, "other"), obligation(INVALID, "open", Verdict.UNKNOWN)]
    folder = write(tmp_path / "run", {"a": owed}, claimed={"a": Verdict.UNKNOWN})
    result = check_run(folder, Options(certificates=True))
    assert (result.certified, result.faults) == (2, [])
    assert result.uncertified == {"UNKNOWN: there is no proof to certify": 1}
    assert "cadical" in result.versions["sat"]


def test_a_rejected_certificate_is_a_fault(tmp_path, require_tool):
    require_tool("cadical", "cadical")
    result = check_run(write(tmp_path / "run", {"a": [obligation(INVALID)]}), Options(certificates=True))
    assert result.certified == 0
    assert any("the clauses can be satisfied" in fault for fault in result.faults)


def test_without_a_sat_solver_nothing_is_certified(run, monkeypatch):
    monkeypatch.setattr("verify.check.certify.shutil.which", lambda name: None)
    result = check_run(run, Options(certificates=True))
    assert (result.certified, result.faults) == (0, [])
    assert result.uncertified == {"no cadical installed": 2}


def test_the_command_says_what_it_found(run, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "require_independence", lambda: None)  # angr is loaded in this process
    done = CliRunner().invoke(command.check, [str(run), "-j", "1"], standalone_mode=False)
    assert done.return_value == 0
    assert "the record holds" in done.output
    assert msgspec.json.decode((run / FILE).read_bytes(), type=Check).schema == 1
    wrong = write(tmp_path / "wrong", {"a": [obligation(INVALID)]})
    done = CliRunner().invoke(command.check, [str(wrong), "-j", "1"], standalone_mode=False)
    assert done.return_value == 1
    assert "the record does not hold" in done.output
    assert done.output.splitlines()[-1].startswith("next: verify run ")


def test_angr_takes_no_part(run):
    done = subprocess.run(
        [sys.executable, "-m", "verify", "check", str(run), "-j", "2"],
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
