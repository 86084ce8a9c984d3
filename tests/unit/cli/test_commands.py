"""What the commands print, and what a run leaves behind."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from kexec_verify.prove.solvers import Answer, ask_bitwuzla
from kexec_verify.report.model import SCHEMA, Run
from kexec_verify.report.read import read_run
from kexec_verify.report.times import costs
from kexec_verify.specs.assumptions import ASSUMPTIONS
from kexec_verify.specs.properties import PROPERTIES, RELOCATION
from kexec_verify.verdict import Verdict

BINARIES = Path(__file__).resolve().parents[3] / "binaries"
GOOD = BINARIES / "kimage-mmu-4k-gcc.elf"
ESCAPE = "\x1b"
OF_ROUTINE = [claim.id for claim in RELOCATION]  # what a target that holds the routine alone has


def verify(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kexec_verify", *map(str, arguments)]
    environment = {**os.environ, **environment}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def proved(tmp_path_factory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """One whole run, and the directory that its reports are in."""
    directory = tmp_path_factory.mktemp("proved")
    return verify("run", GOOD, "--verbose", cwd=directory), directory / "reports"


@pytest.fixture(scope="module")
def run(proved) -> Run:
    return read_run(proved[1] / GOOD.name / "run.json")


def test_list_names_every_property_with_its_statement(tmp_path):
    done = verify("list", cwd=tmp_path)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(PROPERTIES)
    for line, claim in zip(lines, PROPERTIES.values(), strict=True):
        assert line.endswith(claim.statement)


def test_show_without_a_run_has_the_statement_and_what_comes_next(tmp_path):
    done = verify("show", "reloc-step", cwd=tmp_path)
    assert done.returncode == 0
    assert PROPERTIES["reloc-step"].statement in done.stdout
    assert "rests on: reloc-covered" in done.stdout
    assert "next: verify run --property reloc-step" in done.stdout


def test_show_after_a_run_has_its_verdict(proved):
    done = verify("show", "reloc-entry-*", cwd=proved[1].parent)
    assert f"{GOOD.name}: PROVED" in done.stdout
    assert ASSUMPTIONS["daif-masked"].sentence in done.stdout


def test_doctor_names_what_is_installed(tmp_path):
    done = verify("doctor", cwd=tmp_path)
    assert done.returncode == 0
    for package in ("angr", "z3-solver", "bitwuzla", "unicorn"):
        assert any(line.startswith("ok") and package in line for line in done.stdout.splitlines())


def test_doctor_says_what_is_absent(tmp_path):
    done = verify("doctor", cwd=tmp_path, PATH=str(tmp_path))
    assert done.returncode == 0
    assert any(line.startswith("absent") and "apt-get" in line for line in done.stdout.splitlines())


def test_version(tmp_path):
    done = verify("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout.split()[0]) == (0, "verify,")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["list"], ["show", "reloc-step"]])
def test_quick_commands_load_no_engine(tmp_path, arguments):
    script = (
        "import sys\n"
        "from kexec_verify.cli import main\n"
        f"sys.argv = ['verify', *{arguments!r}]\n"
        "try:\n    main()\n"
        "except SystemExit as leaving:\n"
        "    assert not leaving.code, leaving.code\n"
        "sys.stderr.write(','.join(m for m in ('angr', 'z3', 'bitwuzla', 'unicorn') if m in sys.modules))\n"
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
    assert done.stdout


def test_shipped_binary_is_proved(proved):
    done, _ = proved
    assert done.returncode == 0
    assert done.stderr == ""
    for name in OF_ROUTINE:
        assert any(line.split()[:2] == [name, "PROVED"] for line in done.stdout.splitlines())
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith(f"1 target, {len(OF_ROUTINE)} properties: {len(OF_ROUTINE)} PROVED in ")


def test_piped_output_has_no_escape_codes(proved):
    assert ESCAPE not in proved[0].stdout + proved[0].stderr


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1", "FORCE_COLOR": "1"}])
def test_no_color_is_respected_on_a_terminal(tmp_path, environment):
    done = verify("show", "reloc-step", cwd=tmp_path, **environment)
    assert "\x1b[3" not in done.stdout


def test_run_json_is_a_run_of_this_schema(proved, run):
    raw = (proved[1] / GOOD.name / "run.json").read_bytes()
    assert msgspec.json.decode(raw, type=Run, strict=True) == run
    assert set(json.loads(raw)) == {field.name for field in msgspec.structs.fields(Run)}
    assert run.schema == SCHEMA
    assert run.complete
    assert run.verdict is Verdict.PROVED


def test_run_json_names_the_bytes(run):
    assert run.target.sha256 == hashlib.sha256(GOOD.read_bytes()).hexdigest()
    assert run.function.name == "arm64_relocate_new_kernel"
    assert (run.function.variant, run.function.page_size) == ("kimage", 4096)
    code = b"".join(i.word.to_bytes(4, "little") for i in run.function.instructions)
    assert hashlib.sha256(code).hexdigest() == run.function.sha256
    assert len(code) == run.function.size


def test_run_json_has_every_property_with_its_obligations(run):
    assert [record.id for record in run.properties] == OF_ROUTINE
    for record in run.properties:
        assert record.verdict is Verdict.PROVED
        assert record.obligations
        for obligation in record.obligations:
            assert obligation.verdict is Verdict.PROVED
            assert {answer.solver for answer in obligation.answers} == {"z3", "bitwuzla"}
            assert {answer.answer for answer in obligation.answers} == {"unsat"}


def test_run_json_lists_the_assumptions_in_use(run):
    used = {name for record in run.properties for name in record.assumptions}
    assert {record.id for record in run.assumptions} == used
    assert used <= set(ASSUMPTIONS)
    assert {"daif-masked", "ctr-legal", "list-well-formed", "mmu-on"} <= used


def test_texts_are_written_once_each_and_hash_to_their_names(proved, run):
    directory = proved[1] / GOOD.name
    named = {o.text: o.sha256 for record in run.properties for o in record.obligations}
    written = {f"obligations/{path.name}" for path in (directory / "obligations").iterdir()}
    assert written == set(named)
    for text, digest in named.items():
        assert hashlib.sha256((directory / text).read_bytes()).hexdigest() == digest
        assert digest.startswith(Path(text).stem)


def test_written_texts_are_the_queries_that_were_answered(proved, run):
    (record,) = [record for record in run.properties if record.id == "reloc-entry-state"]
    for obligation in record.obligations:
        text = (proved[1] / GOOD.name / obligation.text).read_text()
        assert ask_bitwuzla(text).answer is Answer.UNSAT


def test_nothing_half_written_is_left(proved):
    assert {path.name for path in proved[1].iterdir()} == {GOOD.name, "index.html", ".history"}


def test_run_leaves_a_page_and_an_index_that_links_to_it(proved):
    page = (proved[1] / GOOD.name / "index.html").read_text()
    assert '<p class="word">PROVED</p>' in page
    assert f'href="{GOOD.name}/index.html"' in (proved[1] / "index.html").read_text()
    assert f"  reports/{GOOD.name}/index.html" in proved[0].stdout.splitlines()


def test_report_draws_the_same_page_again(proved):
    page = proved[1] / GOOD.name / "index.html"
    before = page.read_bytes()
    page.unlink()
    done = verify("report", f"reports/{GOOD.name}/run.json", cwd=proved[1].parent)
    assert (done.returncode, done.stdout) == (0, f"reports/{GOOD.name}/index.html\n")
    assert page.read_bytes() == before


def test_report_of_no_run_is_one_clear_line(tmp_path):
    done = verify("report", "nowhere/run.json", cwd=tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr
        == "verify: error: nowhere/run.json: expected a run.json, found: No such file or directory; "
        "next: verify run TARGET\n"
    )


@pytest.fixture(scope="module")
def narrowed(tmp_path_factory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """A run of one property on two files of one name, over an earlier report."""
    directory = tmp_path_factory.mktemp("narrowed")
    for name in ("old", "new"):
        (directory / name).mkdir()
        shutil.copy(GOOD, directory / name / "vmlinux")
    stale = directory / "out" / "vmlinux" / "stale"
    stale.parent.mkdir(parents=True)
    stale.write_text("")
    targets = ("old/vmlinux", "new/vmlinux")
    done = verify("run", *targets, "--property", "reloc-covered", "--reports", "out", cwd=directory)
    return done, directory / "out"


def test_log_has_a_line_for_each_target(narrowed):
    done, _ = narrowed
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("vmlinux: 1 PROVED, relocation routine alone in ") == 2
    assert "2 targets, 2 properties: 2 PROVED in " in done.stdout
    assert "reloc-covered" not in done.stdout


def test_time_of_a_target_is_not_that_of_the_targets_before_it(narrowed):
    done, directory = narrowed
    (total,) = re.findall(r"2 PROVED in ([\d.]+) s", done.stdout)
    assert sum(read_run(path).seconds for path in directory.glob("*/run.json")) < float(total)


@pytest.mark.parametrize("form", ["text", "json"])
def test_bad_second_target_is_told_before_anything_is_proved(tmp_path, form):
    done = verify("run", GOOD, "nowhere", "--format", form, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("verify: error: nowhere: expected a readable file")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "reports").exists()
    if form == "text":
        assert done.stdout == ""
    else:
        found = json.loads(done.stdout)
        assert (found["exit_status"], found["meaning"]) == (2, "usage error or bad input")
        assert [target["target"] for target in found["targets"]] == ["nowhere"]


def test_run_as_json_is_one_document(tmp_path):
    done = verify("run", GOOD, "--property", "reloc-covered", "--format", "json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["exit_status"] == 0
    (target,) = found["targets"]
    assert (target["target"], target["verdict"], target["complete"]) == (str(GOOD), "PROVED", True)
    assert [(p["id"], p["status"]) for p in target["properties"]] == [("reloc-covered", "PROVED")]


def test_quiet_run_prints_errors_only(tmp_path):
    options = ("--property", "reloc-covered", "-q")
    done = verify("run", GOOD, *options, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = verify("run", "nowhere", *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("verify: error: nowhere")


def test_solver_time_of_the_properties_sums_up(proved, run):
    rows = [line for line in proved[0].stdout.splitlines() if " obligations " in line]
    shown = [float(line.split(" obligations ")[1].split(" s")[0]) for line in rows]
    (total,) = re.findall(r"solver time ([\d.]+) s", proved[0].stdout)
    assert len(shown) == len(run.properties)
    assert sum(shown) == pytest.approx(float(total), abs=0.006 * len(shown))
    marked = {line.split()[0] for line in rows if " s* " in line}
    assert marked == {name for name, cost in costs(run).items() if cost.shared}
    assert marked


def test_property_narrows_a_run_to_it_and_what_it_rests_on(narrowed):
    found = read_run(narrowed[1] / "vmlinux" / "run.json")
    assert [record.id for record in found.properties] == ["reloc-covered"]


def test_run_keeps_what_else_is_in_the_folder_of_an_earlier_report(narrowed):
    assert (narrowed[1] / "vmlinux" / "stale").exists()


def test_index_shows_every_target_of_a_run(narrowed):
    page = (narrowed[1] / "index.html").read_text()
    assert 'href="vmlinux/index.html"' in page
    assert re.search(r'href="vmlinux-[0-9a-f]{8}/index.html"', page)


def test_targets_of_one_name_keep_a_report_each(narrowed):
    sources = {read_run(path).target.source for path in narrowed[1].glob("*/run.json")}
    assert sources == {"old/vmlinux", "new/vmlinux"}


def test_each_target_is_opened_once(tmp_path):
    shutil.copy(GOOD, tmp_path / "other.elf")
    count = (
        "import kexec_verify.target as target\n"
        "whole = target.read_target\n"
        "def read_target(source):\n"
        "    print('opened', source)\n"
        "    return whole(source)\n"
        "target.read_target = read_target\n"
        "from kexec_verify.cli import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", count, "run", str(GOOD), "other.elf", "--property", "reloc-covered"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("opened ") == 2


def patched(words: dict[int, int], directory: Path) -> Path:
    """The shipped routine with some words replaced wherever they occur, in a file of its own."""
    data = GOOD.read_bytes()
    for old, new in words.items():
        found = data.count(old.to_bytes(4, "little"))
        assert found == 1, f"{old:#x} occurs {found} times"
        data = data.replace(old.to_bytes(4, "little"), new.to_bytes(4, "little"))
    path = directory / "mutant.elf"
    path.write_bytes(data)
    return path


NOP = 0xD503201F


def test_instruction_without_a_model_is_unsupported_by_name_and_address(tmp_path):
    target = patched({0xD508751F: 0x4EA28420}, tmp_path)  # add v0.4s, v1.4s, v2.4s for ic iallu
    done = verify("run", target, "--property", "reloc-covered", cwd=tmp_path)
    assert done.returncode == 3
    assert "UNSUPPORTED" in done.stdout
    assert "at arm64_relocate_new_kernel+0xd8/0x" in done.stdout


@pytest.mark.mutant
def test_effect_that_no_rule_allows_is_refuted_at_the_instruction(tmp_path):
    target = patched({0xD508751F: 0xD508711F}, tmp_path)  # ic ialluis for ic iallu
    done = verify("run", target, "--property", "reloc-effects", cwd=tmp_path)
    assert done.returncode == 1
    assert "the routine executes IC_IALLUIS" in done.stdout
    assert "reloc-effects: arm64_relocate_new_kernel+0xd8/0x" in done.stdout


@pytest.mark.mutant
def test_routine_with_a_fault_is_refuted(tmp_path):
    target = patched({0xD508751F: NOP}, tmp_path)  # no ic iallu
    done = verify("run", target, "--property", "reloc-icache-invalid", cwd=tmp_path)
    assert done.returncode == 1
    found = read_run(tmp_path / "reports" / "mutant.elf" / "run.json")
    by_id = {record.id: record for record in found.properties}
    assert by_id["reloc-icache-invalid"].verdict is Verdict.REFUTED
    assert by_id["reloc-icache-invalid"].counterexample
    assert by_id["reloc-covered"].verdict is Verdict.PROVED
