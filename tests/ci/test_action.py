"""The GitHub Action: its file is held against GitHub's schema, and its steps' commands are run here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from . import steps
from .steps import GOOD, ROOT

ACTION = steps.load(ROOT / "action.yml")


def check_schema(name, path):
    """check-jsonschema carries the schemas of CI files, so this needs no network."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{name}", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_schema_takes_it():
    check_schema("github-actions", ROOT / "action.yml")


def test_schema_takes_the_workflow_in_the_docs(tmp_path):
    text = (ROOT / "docs" / "ci.md").read_text()
    (block,) = [part.split("```")[0] for part in text.split("```yaml\n")[1:] if "jobs:" in part]
    (tmp_path / "kexec.yml").write_text(block)
    check_schema("github-workflows", tmp_path / "kexec.yml")
    jobs = steps.load(tmp_path / "kexec.yml")["jobs"]
    (use,) = [step for step in jobs["kexec"]["steps"] if "target" in step.get("with", {})]
    assert set(use["with"]) <= set(ACTION["inputs"])


def readme_steps():
    text = (ROOT / "README.md").read_text()
    (block,) = [part.split("```")[0] for part in text.split("```yaml\n")[1:] if "uses:" in part]
    return block


def test_steps_in_the_readme(tmp_path):
    head = "on: push\njobs:\n  kexec:\n    runs-on: ubuntu-latest\n    steps:\n"
    (tmp_path / "kexec.yml").write_text(head + readme_steps())
    check_schema("github-workflows", tmp_path / "kexec.yml")
    checkout, use = steps.load(tmp_path / "kexec.yml")["jobs"]["kexec"]["steps"]
    assert set(use["with"]) <= set(ACTION["inputs"])
    # Where the variable is not set, the user's own project is checked out there: it has no action.yml.
    assert use["uses"] == f"./{checkout['with']['path']}"


@pytest.mark.parametrize("text", [(ROOT / "action.yml").read_text(), readme_steps()])
def test_actions_are_pinned_by_commit(text):
    used = [name for name in re.findall(r"uses: (\S+)", text) if not name.startswith("./")]
    assert used and [name for name in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", name)] == []


def test_sarif_is_not_uploaded_for_a_fork():
    (upload,) = [step for step in ACTION["runs"]["steps"] if "upload-sarif" in step.get("uses", "")]
    inputs = {name: value.get("default", "") for name, value in ACTION["inputs"].items()}
    assert steps.holds(upload["if"], inputs) and not steps.holds(upload["if"], inputs, fork=True)
    assert not steps.holds(upload["if"], inputs | {"upload-sarif": "false"})


def test_cache_needs_a_key():
    (cache,) = [step for step in ACTION["runs"]["steps"] if "actions/cache@" in step.get("uses", "")]
    assert steps.holds(cache["if"], {"cache-key": "secret"}) and not steps.holds(
        cache["if"], {"cache-key": ""}
    )


def act(directory, **given):
    """Run each step; the status of the first that fails, and what they print together."""
    inputs = {name: value.get("default", "") for name, value in ACTION["inputs"].items()}
    inputs |= {"verify": steps.VERIFY, **given}
    status, shown = 0, ""
    for step in ACTION["runs"]["steps"]:
        if "run" not in step or status or not steps.holds(step.get("if"), inputs):
            continue
        own = {name: steps.filled(value, inputs) for name, value in step.get("env", {}).items()}
        variables = steps.environment(
            directory,
            GITHUB_ACTIONS="true",
            GITHUB_ACTION_PATH=str(ROOT),
            GITHUB_STEP_SUMMARY=str(directory / "summary.md"),
            GITHUB_OUTPUT=str(directory / "output"),
            RUNNER_TEMP=str(directory / "runner"),
            **own,
        )
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        done = steps.run(command, directory, variables)
        status, shown = done.returncode, shown + done.stdout + done.stderr
    return status, shown


@pytest.mark.slow
def test_good_binary_passes(tmp_path):
    shutil.copy(GOOD, tmp_path / "source")
    status, shown = act(tmp_path, build="cp source vmlinux", target="vmlinux\n", binary="vmlinux")
    assert status == 0, shown
    assert "gate: passed: 11 PROVED" in shown
    assert "::error" not in shown
    assert (tmp_path / "summary.md").read_text().startswith("**kexec-verify passed**")
    assert (tmp_path / "output").read_text() == "exit-status=0\npassed=true\n"
    assert not (tmp_path / "runner").exists()


@pytest.mark.slow
def test_cache_is_where_the_step_keeps_it(tmp_path):
    (cache,) = [step for step in ACTION["runs"]["steps"] if "actions/cache@" in step.get("uses", "")]
    shutil.copy(GOOD, tmp_path / "vmlinux")
    status, shown = act(tmp_path, target="vmlinux", **{"cache-key": "secret"})
    assert status == 0, shown
    folder = cache["with"]["path"].replace("${{ runner.temp }}", str(tmp_path / "runner"))
    assert (Path(folder) / "cache.sqlite").exists()


@pytest.mark.mutant
def test_broken_binary_fails_with_an_annotation_and_sarif(tmp_path):
    steps.broken(tmp_path / "vmlinux")
    shutil.copy(GOOD, tmp_path / "good")
    status, shown = act(tmp_path, target="vmlinux\ngood\n")
    assert status == 1, shown
    assert "::error title=REFUTED%3A reloc-clean-to-poc::arm64_relocate_new_kernel+0x" in shown
    assert (tmp_path / "summary.md").read_text().startswith("**kexec-verify FAILED**")
    assert (tmp_path / "output").read_text() == "exit-status=1\npassed=false\n"
    uploads = [step for step in ACTION["runs"]["steps"] if "upload-sarif" in step.get("uses", "")]
    sarif = steps.filled(uploads[0]["with"]["sarif_file"], {"reports": "reports"})
    results = json.loads((tmp_path / sarif).read_text())["runs"][0]["results"]
    assert [result["ruleId"] for result in results] == ["reloc-clean-to-poc"]


def test_build_that_fails_stops_there(tmp_path):
    status, _ = act(tmp_path, build="false\ncp nothing vmlinux", target="vmlinux")
    assert status == 1
    assert not (tmp_path / "reports").exists()


def test_target_that_is_none_is_not_gated(tmp_path):
    status, shown = act(tmp_path, target="missing")
    assert status == 2
    assert "gate:" not in shown


def test_installation_is_there(tmp_path):
    """The step that installs does nothing where that was done, as in this project's own CI."""
    if not (ROOT / ".venv" / "kexec-verify.stamp").exists():
        pytest.skip("this checkout has no environment of its own: scripts/bootstrap.sh makes one")
    (install,) = [step for step in ACTION["runs"]["steps"] if step["name"] == "Install"]
    done = steps.run(
        ["bash", "-eo", "pipefail", "-c", install["run"]],
        tmp_path,
        steps.environment(tmp_path, GITHUB_ACTION_PATH=str(ROOT)),
    )
    assert done.returncode == 0, done.stderr
    assert steps.holds(install["if"], {"verify": ""}) and not steps.holds(install["if"], {"verify": "x"})
