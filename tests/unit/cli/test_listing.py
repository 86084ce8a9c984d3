"""What scripts read: JSON of list, show, assumptions and doctor; globs; completion; the next command."""

from __future__ import annotations

import io
import json
import sys

import click
import msgspec
import pytest
from click.shell_completion import ShellComplete
from kexec_verify import key
from kexec_verify.cache import place
from kexec_verify.cli import main
from kexec_verify.cli.commands import TASKS, cli
from kexec_verify.cli.terminal import Terminal, _columns
from kexec_verify.report.model import SolverAnswer
from kexec_verify.report.times import costs
from kexec_verify.specs.assumptions import ASSUMPTIONS
from kexec_verify.specs.properties import PROPERTIES
from kexec_verify.verdict import Verdict
from rich.console import Console

from ..gate.examples import EVIL, claim, run, waived


@pytest.fixture
def verify(monkeypatch, capsys, tmp_path):
    """Runs a command in an empty folder: exit status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["verify", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    return call


@pytest.fixture
def reports(tmp_path):
    for name, item in (
        ("vmlinux", run(claim("reloc-covered"), waived("reloc-step"))),
        ("Image", run(claim("reloc-covered"), name="Image", complete=False)),
    ):
        (tmp_path / "reports" / name).mkdir(parents=True)
        (tmp_path / "reports" / name / "run.json").write_bytes(msgspec.json.encode(item))
    return tmp_path / "reports"


def test_list_as_json(verify):
    status, out, _ = verify("list", "--format", "json")
    assert status == 0
    assert [entry["id"] for entry in json.loads(out)] == list(PROPERTIES)
    assert json.loads(out)[0]["statement"] == PROPERTIES["reloc-covered"].statement


def test_list_takes_globs(verify):
    _, out, _ = verify("list", "reloc-c*", "reloc-step")
    names = [line.split()[0] for line in out.splitlines()]
    assert names == [name for name in PROPERTIES if name.startswith("reloc-c") or name == "reloc-step"]


@pytest.mark.parametrize("command", ["list", "show"])
def test_glob_without_a_match_is_said(verify, command):
    status, _, err = verify(command, "reloc-step", "nothing-*")
    assert status == 2
    assert "expected a property, found 'nothing-*'" in err
    assert err.endswith("; next: verify list\n")


def test_show_as_json(verify, reports):
    _, out, _ = verify("show", "reloc-*", "--format", "json")
    by_id = {entry["id"]: entry for entry in json.loads(out)}
    assert set(by_id) == {name for name in PROPERTIES if name.startswith("reloc-")}
    (found,) = by_id["reloc-step"]["runs"]
    assert (found["target"], found["status"], found["complete"]) == ("vmlinux", "REFUTED (waived)", True)
    assert [r["complete"] for r in by_id["reloc-covered"]["runs"]] == [False, True]


def test_show_tells_waived_and_incomplete(verify, reports):
    _, out, _ = verify("show", "reloc-step", "reloc-covered")
    assert "  vmlinux: REFUTED (waived) (2 obligations)" in out
    assert "    waived: hardware keeps it coherent; docs/deviations.md" in out
    assert "  Image: PROVED (2 obligations, of a run that was interrupted)" in out


def test_assumptions_as_json_and_by_glob(verify, reports):
    _, out, _ = verify("assumptions", "vm*", "--format", "json")
    assert [entry["id"] for entry in json.loads(out)] == list(ASSUMPTIONS)
    status, _, err = verify("assumptions", "nothing*")
    assert status == 2
    assert "expected a run of nothing* under reports, found none" in err


def test_doctor_as_json(verify):
    status, out, _ = verify("doctor", "--format", "json")
    assert status == 0
    assert {entry["name"] for entry in json.loads(out)} >= {"python", "angr", "z3-solver", "bitwuzla"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(verify, shell):
    status, out, _ = verify("completion", shell)
    assert status == 0
    assert f"_VERIFY_COMPLETE={shell}_complete" in out


@pytest.mark.parametrize(
    ("words", "found"),
    [(["verify", "ga"], "gate"), (["verify", "show", "reloc-st"], "reloc-step")],
)
def test_completion_completes(verify, monkeypatch, capsys, words, found):
    from kexec_verify.cli.commands import cli

    monkeypatch.setenv("COMP_WORDS", " ".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    monkeypatch.setenv("_VERIFY_COMPLETE", "bash_complete")
    with pytest.raises(SystemExit):
        cli(prog_name="verify")
    assert f"plain,{found}" in capsys.readouterr().out


def test_waived_is_shown_in_a_run_and_counted_apart(capsys):
    item = run(claim("reloc-covered"), waived("reloc-step"))
    terminal = Terminal(verbose=True)
    terminal.run(item)
    terminal.summary([item], 1.0)
    out = capsys.readouterr().out
    assert "reloc-step               REFUTED (waived)" in out
    short = "  reloc-step: waived in specs/waivers.toml: hardware keeps it coherent; "
    assert f"{short}in full: verify show reloc-step\n" in out
    assert "1 target, 2 properties: 1 PROVED, 1 REFUTED (waived in specs/waivers.toml) in 1.0 s" in out


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_table_of_a_narrow_terminal_leaves_out_no_part_of_a_name(width):
    names = [*PROPERTIES]
    answers = [SolverAnswer(solver, "unsat", 1.0) for solver in ("z3", "bitwuzla")]
    records = [
        msgspec.structs.replace(
            record, obligations=[msgspec.structs.replace(o, answers=answers) for o in record.obligations]
        )
        for record in map(waived, names)
    ]
    item = run(*records)
    table = _columns(item, costs(item), width)
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=True, color_system=None).print(table)
    shown = stream.getvalue()
    assert "…" not in shown and max(map(len, shown.splitlines())) <= width
    assert shown.count("REFUTED (waived)") == len(names)
    assert ("solvers" in shown) == (width >= 80)
    if width >= 80:
        assert [line.split()[0] for line in shown.splitlines()[1:]] == names


@pytest.mark.parametrize(("width", "named"), [(70, True), (120, False)])
def test_solvers_that_have_no_column_have_a_line(width, named, capsys):
    answers = [SolverAnswer(solver, "unsat", 1.0) for solver in ("z3", "bitwuzla")]
    record = claim("reloc-break-before-make")
    made = [msgspec.structs.replace(o, answers=answers) for o in record.obligations]
    terminal = Terminal()
    terminal.out = Console(width=width, force_terminal=True, color_system=None)
    terminal.full = True
    terminal.run(run(msgspec.structs.replace(record, obligations=made)))
    out = capsys.readouterr().out
    assert ("  solvers: z3 + bitwuzla\n" in out) == named
    assert out.count("z3 + bitwuzla") == 1


def test_counts_name_the_file_of_each_waiver(capsys):
    own, other = waived("claim-a"), waived("claim-b")
    assert other.waiver is not None
    mine = msgspec.structs.replace(other, waiver=msgspec.structs.replace(other.waiver, file="mine.toml"))
    Terminal().run(run(own, mine))
    out = capsys.readouterr().out
    assert "1 REFUTED (waived in specs/waivers.toml), 1 REFUTED (waived in mine.toml)" in out


def test_one_reason_of_many_properties_is_said_once(capsys):
    reason = "instruction wfi at f+0x20/0x24"
    items = [claim(name, Verdict.UNSUPPORTED, reason=reason) for name in ("claim-a", "claim-b", "claim-c")]
    Terminal(verbose=True).run(run(*items, claim("claim-d", Verdict.UNKNOWN, reason="a timeout")))
    out = capsys.readouterr().out
    assert f"  claim-a and 2 more: {reason}\n  claim-d: a timeout\n" in out and out.count(reason) == 1


def test_names_of_a_binary_cannot_steer_the_terminal(capsys):
    from ..gate.examples import evil

    terminal = Terminal()
    terminal.run(evil())
    terminal.error(EVIL, EVIL)
    captured = capsys.readouterr()
    assert not [c for c in captured.out + captured.err if not c.isprintable() and c != "\n"]


def test_progress_goes_on_between_messages():
    from kexec_verify.cli.terminal import _Doing

    doing = _Doing("vmlinux", 12.0)
    doing.what = "reloc-step-done"
    doing.started -= 3
    assert doing.__rich__().plain == "vmlinux: reloc-step-done (3 s; 12 s last time)"
    doing.estimate = None
    assert doing.__rich__().plain == "vmlinux: reloc-step-done (3 s)"


def test_help_has_every_command_once_under_its_task(verify):
    assert sorted(name for names in TASKS.values() for name in names) == sorted(cli.commands)
    _, out, _ = verify("--help")
    for task in TASKS:
        assert f"{task}:\n" in out
    lines = [line.split()[0] for line in out.splitlines() if line.startswith("  ") and line.split()]
    assert all(lines.count(name) == 1 for name in cli.commands)


def test_help_has_every_variable_of_the_tool(verify):
    _, out, _ = verify("--help")
    for name in (place.VARIABLE, key.KEY_VARIABLE, "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "VERIFY_DEBUG"):
        assert f"  {name} " in out


@pytest.mark.parametrize(
    ("words", "begun", "expected"),
    [
        (["run", "--property"], "reloc-cov", ["reloc-covered"]),
        (["explain", "run.json"], "reloc-cov", ["reloc-covered"]),
        (["show"], "reloc-cov", ["reloc-covered"]),
        (["gate", "--format"], "sa", ["sarif"]),
        (["run", "--format"], "j", ["json"]),
        (["mutate", "--skip"], "h", ["hypotheses"]),
    ],
)
def test_names_are_completed(words, begun, expected):
    complete = ShellComplete(cli, {}, "verify", "_VERIFY_COMPLETE")
    assert [item.value for item in complete.get_completions(words, begun)] == expected


def test_long_count_is_a_line_for_every_part_in_a_log(capsys):
    terminal = Terminal()
    for done in range(1, 26):
        terminal.step(done, 25, "mutants")
    expected = [f"verify: {done} of 25 mutants" for done in (10, 20, 25)]
    assert capsys.readouterr().err.splitlines() == expected


def _walk(command, words):
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from _walk(below, [*words, name])


@pytest.mark.parametrize(
    ("words", "command"),
    [*_walk(cli, [])],
    ids=lambda value: " ".join(["verify", *value]) if isinstance(value, list) else "",
)
def test_help_explains_every_option_and_argument(verify, words, command):
    status, out, err = verify(*words, "--help")
    assert (status, err) == (0, "")
    lines = " ".join(out.split())
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert parameter.help, parameter.name
            assert all(name in out for name in parameter.opts), parameter.name
            assert " ".join(parameter.help.split())[:20] in lines, parameter.name
        else:
            shown = parameter.make_metavar(click.Context(command)).strip("[].")
            assert command.help is not None and shown.split("...")[0].strip("[]") in command.help, shown


def test_doctor_names_for_each_tool_its_commands_and_how_to_install_it(verify, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    _, out, _ = verify("doctor", "--format", "json")
    found = {check["name"]: check for check in json.loads(out)}
    assert found["cadical"] == {
        "name": "cadical",
        "found": False,
        "needed": False,
        "detail": "apt-get install cadical",
        "used_by": "check --certify",
    }
    assert found["qemu-system-aarch64"]["used_by"] == "live, replay --full-system, mutate --second-judge"
    assert all(check["used_by"] and check["detail"] for check in found.values())


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (("run", "x", "--property", "reloc-stp"), "reloc-step is near"),
        (("show", "reloc-stp"), "reloc-step is near"),
        (("explain", "reports/vmlinux", "reloc-stp"), "near names: reloc-step"),
        (("explain", "reports/vmlinux/run.json", "reloc-stp"), "near names: reloc-step"),
        (("diff", "seed-befor", "later"), "near names: seed-before"),
    ],
)
def test_unknown_name_is_answered_with_near_ones(verify, reports, arguments, near):
    status, _, err = verify(*arguments)
    assert status == 2 and near in err and err.count("\n") == 1


def test_second_judge_refuses_options_that_it_would_ignore(verify):
    for option in (("--skip", "faults"), ("--function", "x")):
        status, _, err = verify("mutate", "nowhere", "--second-judge", *option)
        assert status == 2 and "expected --second-judge without --skip and --function" in err


def test_diff_accepts_standard_input(verify, monkeypatch):
    status, _, err = verify("diff", "-", "later")
    assert status == 2 and err.startswith("verify: error: standard input: expected ")
