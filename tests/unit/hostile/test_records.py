"""Hostile reports: where a replay writes, what its script says, what beside a run fails nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sqlite3
from pathlib import Path

import msgspec
import pytest
from kexec_verify.cache.store import FILE as DATABASE
from kexec_verify.cache.store import Cache
from kexec_verify.check import text as check_text
from kexec_verify.check.runs import check_run
from kexec_verify.errors import TargetError, UsageError
from kexec_verify.html.index import write_index
from kexec_verify.prove.solvers import Answer, Reply
from kexec_verify.report.debugger import write_out
from kexec_verify.report.read import decode_run, read_run
from kexec_verify.report.replay import recorded
from kexec_verify.sweep import journal
from kexec_verify.sweep.model import SCHEMA as SWEEP_SCHEMA
from kexec_verify.verdict import Verdict

from ..html.example import claim, function, obligation, proved, run, write
from .runs import refuted_run, replaced


@pytest.fixture(scope="module")
def refuted():
    return refuted_run()


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "a\nshell touch escaped"])
def test_replay_writes_into_its_folder_and_its_script_obeys_nobody(refuted, tmp_path, name):
    for item in recorded(refuted):
        shown = item.counterexample
        named = msgspec.structs.replace(shown, property=name, effect="x\nshell touch escaped\n\\")
        written = write_out(dataclasses.replace(item, counterexample=named), tmp_path / "out")
        assert {path.resolve().parent for path in written} == {(tmp_path / "out").resolve()}
        script = written[-1].read_text()
        assert not [line for line in script.splitlines() if line.startswith("shell")]
        assert not script.splitlines()[0].endswith("\\")
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        (("given", "registers", "x0"), 1 << 64, "number 18446744073709551616"),
        (("given", "registers", "shell id"), 1, "register"),
        (("given", "registers", "x0"), ..., "no register"),
        (("given", "length"), 1 << 40, "instructions"),
        (("given", "pages"), list(range(5000)), "5000 pages"),
        (("given", "answers", 0, "stores"), {"4096": "zz"}, "a store of other than bytes"),
        (("code",), [0, 1 << 40], "bytes of code"),
        (("patched",), [[0, "zz"]], "a patch of other than bytes"),
    ],
)
def test_call_that_no_machine_can_be_given(refuted, path, value, found):
    data = msgspec.to_builtins(refuted, str_keys=True)
    data = replaced(data, ("properties", 2, "counterexample", *path), value)
    with pytest.raises(UsageError, match=found):
        recorded(decode_run(msgspec.json.encode(data), "run.json"))


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("page_size", 8192, "pages of 8192 bytes"),
        ("dminline", 40, "DminLine 40"),
        ("ram", 0x4800_0008, "memory at"),
        ("words", [[1, 1]], "a word outside of memory"),
        ("hvc", "x", "an HVC that is x"),
    ],
)
def test_list_that_no_machine_can_have(refuted, field, value, found):
    data = msgspec.to_builtins(refuted, str_keys=True)
    data = replaced(data, ("properties", 1, "counterexample", "scenario", field), value)
    with pytest.raises(UsageError, match=found):
        recorded(decode_run(msgspec.json.encode(data), "run.json"))


@pytest.mark.parametrize("number", [1 << 64, 10**20, 10**40, -1, 1e30])
def test_numbers_that_no_machine_has_are_refused_wherever_they_are(refuted, number):
    data = msgspec.to_builtins(refuted, str_keys=True)
    data = replaced(data, ("properties", 1, "counterexample", "scenario", "ram"), number)
    with pytest.raises(UsageError, match="the number"):
        decode_run(json.dumps(data).encode(), "run.json")
    data = replaced(data, ("properties", 1, "counterexample", "scenario", "ram"), (1 << 64) - 1)
    decode_run(json.dumps(data).encode(), "run.json")


def test_list_with_a_patch_of_other_than_bytes(refuted):
    data = msgspec.to_builtins(refuted, str_keys=True)
    data = replaced(data, ("properties", 1, "counterexample", "patched"), [[0, "zz"]])
    with pytest.raises(UsageError, match="a patch of other than bytes"):
        recorded(decode_run(msgspec.json.encode(data), "run.json"))


def test_malformed_neighbours_are_notes(tmp_path):
    write(proved("good"), tmp_path)
    for name in ("fifo", "deep"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "fifo" / "run.json")
    (tmp_path / "deep" / "run.json").write_bytes(b"[" * 100_000)
    notes: list[str] = []
    page = write_index(tmp_path, notes.append)
    assert len(notes) == 2
    assert "good" in page.read_text()


def test_malformed_row_of_a_sweep_costs_no_other(tmp_path):
    fields = ("package", "version", "flavour", "archive", "tool", "finished")
    row = {"name": "a", **dict.fromkeys(fields, "")}
    sweep = {"schema": SWEEP_SCHEMA, "rows": [{"name": 1}, row, "x"]}
    (tmp_path / "sweep.json").write_bytes(msgspec.json.encode(sweep))
    assert [found.name for found in journal.read(tmp_path).rows] == ["a"]


@pytest.mark.parametrize(
    "hostile",
    [
        "CREATE TABLE other (x); CREATE TRIGGER t AFTER INSERT ON other BEGIN DELETE FROM other; END",
        "CREATE VIEW sealed AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) "
        "SELECT 'answer' AS kind, x AS key, x AS value, x AS seal, 1 AS written FROM n",
        "CREATE TABLE sealed (kind, key, value, seal, written)",
    ],
)
def test_cache_with_a_schema_of_its_own_is_not_asked(tmp_path, hostile):
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.executescript(hostile)
    connection.close()
    before = (tmp_path / DATABASE).read_bytes()
    cache = Cache(tmp_path, b"k" * 32)
    cache.keep("answer", b"key", b"value")
    assert cache.counts() == []
    cache.close()
    assert (tmp_path / DATABASE).read_bytes() == before


def test_cache_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / DATABASE)
    assert Cache(tmp_path, b"k" * 32).find("answer", b"key") is None


def written_with(tmp_path: Path, text: str) -> Path:
    """A run of one proved obligation with this text."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    name = f"obligations/{digest[:24]}.smt2"
    one = obligation("goal", text=name, sha256=digest, hypotheses=[], used=[])
    path = write(run(claim("reloc-step", obligations=[one]), functions=[function()]), tmp_path)
    (path.parent / "obligations").mkdir(exist_ok=True)
    (path.parent / name).write_text(text)
    return path.parent


GARBAGE = "(assert (frob))\n(check-sat)\n"
DEEP = "(assert " + "(not " * 5000 + "true" + ")" * 5001


@pytest.mark.parametrize("text", [GARBAGE, DEEP])
def test_text_that_no_solver_reads_is_bad_input(tmp_path, text):
    with pytest.raises(TargetError):
        check_run(written_with(tmp_path, text))


def test_text_that_solvers_give_up_on_is_undecided(tmp_path, monkeypatch):
    text = "(set-logic QF_UFBV)\n(assert (! false :named |goal|))\n(check-sat)\n"
    place = written_with(tmp_path, text)
    for name in ("ask_z3", "ask_bitwuzla"):
        monkeypatch.setattr(
            check_text, name, lambda text, limit, name=name: Reply(name[4:], Answer.UNKNOWN, 0.0)
        )
    found = check_run(place)
    assert found.exit_status == 3
    assert any("gave up" in sentence for sentence in found.unsettled)
    assert read_run(place / "run.json").properties[0].verdict is Verdict.PROVED
