"""``verify gate`` as a command: exit statuses, formats to files, baselines, and no engine loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from kexec_verify.cli import main
from kexec_verify.cli.gate import FORMAT_NAMES
from kexec_verify.gate.formats import FORMATS
from kexec_verify.report.model import Run

from ..gate.examples import claim, mutation, refuted, run, undecided, waived

ROOT = Path(__file__).resolve().parents[3]


def write(directory: Path, item: Run) -> Path:
    path = directory / "reports" / item.target.name / "run.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(item))
    return path


@pytest.fixture
def gate(monkeypatch, capsys, tmp_path):
    """Runs the command in an empty folder: exit status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["verify", "gate", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    return call


@pytest.mark.parametrize(
    ("item", "status"),
    [
        (run(), 0),
        (run(claim("claim-a"), refuted()), 1),
        (run(claim("claim-a"), waived()), 1),
        (run(claim("claim-a"), undecided()), 3),
        (run(complete=False), 3),
        (run(claim("claim-a", "ERROR")), 70),
    ],
)
def test_exit_status(gate, tmp_path, item, status):
    path = write(tmp_path, item)
    found, out, err = gate(path)
    assert (found, err) == (status, "")
    assert out.startswith("gate: passed" if status == 0 else "gate: failed")
    assert (out.splitlines()[-1].startswith("next: verify ")) == (status != 0)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["missing.json"],
        ["reports", "--policy", "missing.toml"],
        ["reports", "--baseline", "missing.json"],
        ["reports", "--binary", "missing"],
        ["reports", "--format", "xml"],
        ["reports", "--format", "junit="],
        ["reports", "--format", "junit", "--format", "sarif"],
        ["reports", "--update-baseline"],
    ],
)
def test_bad_usage_is_one_line_with_the_next_command(gate, tmp_path, arguments):
    write(tmp_path, run())
    status, out, err = gate(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("verify: error: ")
    following = "run TARGET" if arguments == ["missing.json"] else "gate --help"
    assert err.endswith(f"; next: verify {following}\n")
    assert err.count("\n") == 1


def test_baseline_is_written_listed_and_held(gate, tmp_path):
    write(tmp_path, run())
    status, out, _ = gate("reports", "--baseline", "base.json", "--update-baseline")
    assert status == 0
    assert "+ vmlinux: claim-a: PROVED" in out
    assert gate("reports", "--baseline", "base.json")[0] == 0
    before = (tmp_path / "base.json").read_bytes()
    write(tmp_path, run(claim("claim-a", assumptions=["mmu-on", "more"])))
    status, out, _ = gate("reports", "--baseline", "base.json")
    assert status == 1
    assert "  missing: vmlinux: claim-b: PROVED in the baseline, now not in the run" in out
    assert "  assumption: vmlinux: claim-a: rests on the assumption more" in out
    assert (tmp_path / "base.json").read_bytes() == before
    gate("reports", "--baseline", "base.json", "--update-baseline")
    assert gate("reports", "--baseline", "base.json")[0] == 0


def test_interrupted_run_makes_no_baseline(gate, tmp_path):
    write(tmp_path, run(complete=False))
    status, _, err = gate("reports", "--baseline", "base.json", "--update-baseline")
    assert status == 2
    assert "expected finished runs for a baseline" in err
    assert not (tmp_path / "base.json").exists()


def test_policy_allows_a_waiver_and_asks_for_mutants(gate, tmp_path):
    path = write(tmp_path, run(claim("claim-a"), waived()))
    (tmp_path / "policy.toml").write_text("waivers = ['claim-waived']\n[mutants]\nat-least = 1\n")
    status, out, _ = gate("reports", "--policy", "policy.toml")
    assert status == 1
    assert "no mutants were run" in out
    path.with_name("mutation.json").write_bytes(msgspec.json.encode(mutation()))
    status, out, _ = gate("reports", "--policy", "policy.toml")
    assert (status, out.splitlines()[0]) == (0, "gate: passed: 1 PROVED, 1 REFUTED (waived)")


MINE = """[[waiver]]
property = "inplace-restart"
variant = "kimage"
obligation = "{obligation}"
sentence = "{sentence}"
reason = "mine"
reference = "ref"
"""


@pytest.fixture
def mine(tmp_path):
    """A run with a waiver of the user's own, and the file of that waiver."""
    record = waived("inplace-restart")
    used = msgspec.structs.replace(record.waiver, file="mine.toml")
    path = write(tmp_path, run(msgspec.structs.replace(record, waiver=used)))
    text = MINE.format(obligation=used.obligation, sentence=used.sentence)
    (tmp_path / "mine.toml").write_text(text)
    return path


def test_waiver_of_the_user_passes_with_its_file(gate, mine):
    status, out, _ = gate(mine)
    assert (status, out.splitlines()[-1]) == (1, f"next: verify gate {mine} --waivers mine.toml")
    assert gate(mine, "--waivers", "mine.toml")[0] == 0


def test_policy_names_files_of_waivers(gate, mine, tmp_path):
    (tmp_path / "ci").mkdir()
    policy = tmp_path / "ci" / "policy.toml"
    policy.write_text('waiver-files = ["../mine.toml"]\n')
    assert gate(mine, "--policy", policy)[0] == 0
    policy.write_text('waiver-files = ["nowhere.toml"]\n')
    status, _, err = gate(mine, "--policy", policy)
    assert status == 2 and "nowhere.toml: expected a file of waivers" in err


def test_policy_with_a_list_of_waivers_is_told_the_line_to_add(gate, mine, tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text('waivers = ["claim-*"]\n')
    status, out, _ = gate(mine, "--policy", policy, "--waivers", "mine.toml")
    assert status == 1
    assert out.splitlines()[-1] == f'next: add to {policy}: waivers = ["claim-*", "inplace-restart"]'
    policy.write_text('waivers = ["claim-*", "inplace-restart"]\n')
    assert gate(mine, "--policy", policy)[0] == 0


def test_waiver_that_matches_nothing_is_a_note(gate, mine, tmp_path):
    text = MINE.format(obligation="mk-other", sentence="*")
    (tmp_path / "other.toml").write_text(text)
    status, out, _ = gate(mine, "--waivers", "mine.toml", "--waivers", "other.toml")
    assert status == 0
    note = "inplace-restart is REFUTED: its waiver for mk-other in other.toml matches nothing here"
    assert note in out


def test_another_binary_fails(gate, tmp_path):
    write(tmp_path, run())
    (tmp_path / "vmlinux").write_bytes(b"another kernel")
    status, out, _ = gate("reports/vmlinux", "--binary", "vmlinux")
    assert status == 1
    assert "binary: vmlinux: expected the binary with SHA-256 abab" in out


def test_formats_go_to_files_beside_the_text(gate, tmp_path):
    write(tmp_path, run(refuted()))
    wanted = [argument for name in FORMAT_NAMES for argument in ("--format", f"{name}=out/{name}")]
    status, out, _ = gate("reports", *wanted)
    assert status == 1
    assert out.startswith("gate: failed (1 refuted)")
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(FORMAT_NAMES)
    assert (tmp_path / "out" / "text").read_text() == out


def test_format_without_a_file_stands_alone(gate, tmp_path):
    write(tmp_path, run(refuted()))
    status, out, _ = gate("reports", "--format", "json", "--format", "sarif=out.sarif")
    assert status == 1
    assert json.loads(out)["exit_status"] == 1


def test_names_of_formats_are_those_that_there_are():
    assert tuple(FORMATS) == FORMAT_NAMES


def test_file_that_cannot_be_written_leaves_the_earlier_one(gate, tmp_path):
    write(tmp_path, run())
    (tmp_path / "file").write_text("")
    status, _, err = gate("reports", "--format", "json=file/out.json")
    assert status == 2
    assert "expected a file to write, found file/out.json: " in err


def test_no_engine_is_loaded(tmp_path):
    path = write(tmp_path, run(claim("claim-a"), refuted()))
    script = (
        "import sys\n"
        "from kexec_verify.cli import main\n"
        f"sys.argv = ['verify', 'gate', {str(path)!r}, '--format', 'sarif=out.sarif']\n"
        "try:\n    main()\n"
        "except SystemExit as leaving:\n"
        "    assert leaving.code == 1, leaving.code\n"
        "engines = ('angr', 'claripy', 'z3', 'bitwuzla', 'unicorn', 'networkx')\n"
        "sys.stderr.write(','.join(name for name in engines if name in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
