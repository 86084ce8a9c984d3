"""The GitLab template: held against GitLab's schema, and its job's commands are run here."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ElementTree

import pytest

from . import steps
from .steps import GOOD, ROOT
from .test_action import check_schema

TEMPLATE = ROOT / "templates" / "kexec-verify.gitlab-ci.yml"
FILE = steps.load(TEMPLATE)
JOB = FILE["kexec-verify"]


def test_schema_takes_it():
    check_schema("gitlab-ci", TEMPLATE)


def test_schema_takes_the_include_in_the_docs(tmp_path):
    text = (ROOT / "docs" / "ci.md").read_text()
    (block,) = [part.split("```")[0] for part in text.split("```yaml\n")[1:] if "include:" in part]
    (tmp_path / ".gitlab-ci.yml").write_text(block)
    check_schema("gitlab-ci", tmp_path / ".gitlab-ci.yml")
    assert set(steps.load(tmp_path / ".gitlab-ci.yml")["variables"]) <= set(FILE["variables"])


def job(directory, **given):
    """A runner puts the lines of before_script and script into one shell, which stops at the first error."""
    variables = {**FILE["variables"], "VERIFY": steps.VERIFY, "KEXEC_VERIFY_DIR": str(ROOT), **given}
    variables = {name: value.replace("$CI_PROJECT_DIR", str(directory)) for name, value in variables.items()}
    lines = "\n".join([*JOB["before_script"], *JOB["script"]])
    shell = ["bash", "-eo", "pipefail", "-c", lines]
    done = steps.run(shell, directory, steps.environment(directory, **variables))
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_good_binary_passes(tmp_path):
    shutil.copy(GOOD, tmp_path / "source")
    status, shown = job(tmp_path, KEXEC_VERIFY_BUILD="cp source vmlinux", BINARY="vmlinux")
    assert status == 0, shown
    assert "gate: passed: 11 PROVED" in shown
    (cached,) = JOB["cache"]["paths"]
    assert (tmp_path / cached / "cache.sqlite").exists()
    assert ElementTree.parse(tmp_path / JOB["artifacts"]["reports"]["junit"]).getroot().tag == "testsuites"


@pytest.mark.mutant
def test_broken_binary_fails(tmp_path):
    steps.broken(tmp_path / "vmlinux")
    status, shown = job(tmp_path)
    assert status == 1, shown
    failures = ElementTree.parse(tmp_path / "reports/gate/junit.xml").getroot().iter("failure")
    assert {element.attrib["type"] for element in failures} == {"REFUTED", "refuted"}


def test_target_that_is_none_leaves_no_file_of_an_earlier_job(tmp_path):
    stale = [tmp_path / "reports" / name for name in ("gate/junit.xml", "old/run.json", "old/mutation.json")]
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    status, _ = job(tmp_path, KEXEC_VERIFY_TARGET="missing")
    assert status == 2
    assert not [path for path in stale if path.exists()]


def test_missing_address_is_told(tmp_path):
    status, shown = job(tmp_path, KEXEC_VERIFY_DIR="nowhere")
    assert (status, shown) == (2, "kexec-verify: error: set KEXEC_VERIFY_URL\n")
