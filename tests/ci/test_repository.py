"""The files around the code: issue forms, container recipe, change log, links between documents."""

from __future__ import annotations

import re

import kexec_verify
import pytest

from .steps import ROOT, load
from .test_action import check_schema

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_schema_takes_issue_templates(path):
    check_schema("github-issue-config" if path.name == "config.yml" else "github-issue-forms", path)


def test_there_are_issue_templates():
    names = {load(path).get("name") for path in FORMS}
    assert {"Wrong verdict", "Kernel that is not supported", "Another fault"} <= names


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_name_files(path):
    prose = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", prose)]
    local = [target for target in targets if target and "://" not in target]
    assert [target for target in local if not (path.parent / target).exists()] == []


@pytest.mark.parametrize("name", ["README.md", "action.yml", "templates/kexec-verify.gitlab-ci.yml"])
def test_no_placeholder_is_left_in_a_file_that_runs(name):
    assert re.findall(r"(uses|project): *OWNER/", (ROOT / name).read_text()) == []


def test_change_log_begins_with_this_version():
    versions = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert versions[0] == kexec_verify.__version__
    assert versions == sorted(
        versions, key=lambda text: [int(part) for part in text.split(".")], reverse=True
    )


def test_container_recipe():
    text = (ROOT / "Containerfile").read_text().replace("\\\n", " ")
    stages = text.split("\nFROM ")
    copied = [name for line in re.findall(r"^COPY (?!--from)(.*)", text, re.M) for name in line.split()[:-1]]
    assert copied and [name for name in copied if not (ROOT / name).exists()] == []
    # What the package is made of is there, and the last stage runs the main job without privileges.
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE", "verify", "specs", "binaries"} <= set(
        copied
    )
    assert re.findall(r"^USER (\w+)", stages[-1], re.M) == ["verify"]
    assert 'ENTRYPOINT ["verify"]' in stages[-1] and 'CMD ["run"]' in stages[-1]
    assert text.count("--require-hashes") == text.count("-r requirements") == 2
