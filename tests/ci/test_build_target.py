"""The script that builds a target, and installs the cross compiler where that is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from . import steps
from .steps import ROOT

SCRIPT = str(ROOT / "scripts" / "build-target.sh")
APT = """#!/bin/sh
echo "apt-get $*" >>log
case $1 in install) for name in gcc ld; do printf '#!/bin/sh\\n' >bin/aarch64-linux-gnu-$name; done
chmod +x bin/* ;; esac
"""


@pytest.fixture
def tools(tmp_path):
    """A folder with the programs that the script needs, without a compiler; the only one in PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "env", "id", "chmod", "touch"):
        found = next(Path(place, name) for place in os.get_exec_path() if Path(place, name).exists())
        (folder / name).symlink_to(found)
    return folder


def build(directory: Path, tools: Path, commands: str):
    return steps.run(["sh", SCRIPT, commands], directory, steps.environment(directory, PATH=str(tools)))


def apt(tools: Path) -> None:
    (tools / "apt-get").write_text(APT)
    (tools / "apt-get").chmod(0o755)
    sudo = tools / "sudo"
    sudo.write_text('#!/bin/sh\nexec "$@"\n')
    sudo.chmod(0o755)


def test_compiler_is_installed_where_it_is_named_and_missing(tmp_path, tools):
    apt(tools)
    done = build(tmp_path, tools, "aarch64-linux-gnu-gcc -c x.c\ntouch vmlinux")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "vmlinux").exists()
    update, install = (tmp_path / "log").read_text().splitlines()
    assert update.startswith("apt-get update") and "gcc-aarch64-linux-gnu" in install.split()
    (tmp_path / "log").unlink()
    assert build(tmp_path, tools, "aarch64-linux-gnu-gcc -c x.c").returncode == 0
    assert not (tmp_path / "log").exists()


def test_nothing_is_installed_where_it_is_not_named(tmp_path, tools):
    apt(tools)
    assert build(tmp_path, tools, "touch vmlinux").returncode == 0
    assert (tmp_path / "vmlinux").exists() and not (tmp_path / "log").exists()


def test_compiler_that_cannot_be_installed_is_told(tmp_path, tools):
    done = build(tmp_path, tools, "make CROSS_COMPILE=aarch64-linux-gnu- vmlinux || touch vmlinux")
    assert done.returncode == 2
    assert "aarch64-linux-gnu-gcc is missing and cannot be installed" in done.stderr
    assert not (tmp_path / "vmlinux").exists()


def test_status_is_that_of_the_commands(tmp_path, tools):
    assert build(tmp_path, tools, "false\ntouch vmlinux").returncode == 1
    assert not (tmp_path / "vmlinux").exists()
    assert steps.run(["sh", SCRIPT], tmp_path, steps.environment(tmp_path)).returncode == 2
