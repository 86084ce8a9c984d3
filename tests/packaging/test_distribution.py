"""The wheel and the sdist: what they hold, and that the wheel's commands work far from a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import kexec_verify
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_SHIPPED = (
    ".git",
    ".venv*",
    "build",
    "dist",
    "*.egg-info",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
    "results",
)
BUILD = """
import sys
from setuptools import build_meta
folder = sys.argv[1]  # a build leaves arguments of its own there
build_meta.build_sdist(folder)
build_meta.build_wheel(folder)
"""


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A clean copy of the checkout: what an earlier build left must not get into the wheel."""
    copy = tmp_path_factory.mktemp("source") / "kexec-verify"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*NOT_SHIPPED))
    for path in (copy / "reports").iterdir():
        if path.name != "README.md":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return copy


@pytest.fixture(scope="module")
def dist(source, tmp_path_factory):
    """A folder with the sdist and the wheel."""
    listed = files(source)
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-c", BUILD, str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for path in files(source) - listed:  # what the build left
        (source / path).unlink()
    return folder


@pytest.fixture(scope="module")
def wheel(dist):
    (path,) = dist.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_wheel_has_one_import_package(wheel):
    roots = {name.split("/")[0] for name in wheel.namelist()}
    assert roots == {"kexec_verify", f"kexec_verify-{kexec_verify.__version__}.dist-info"}


def test_wheel_has_every_file_of_the_packages(wheel, source):
    named = {f"kexec_verify/{name}" for name in files(source / "verify")}
    named |= {f"kexec_verify/specs/{name}" for name in files(source / "specs")}
    corpus = source / "binaries"
    named |= {f"kexec_verify/corpus/{path.relative_to(corpus)}" for path in corpus.rglob("*.elf")}
    named.add("kexec_verify/corpus/manifest.json")
    assert {name for name in wheel.namelist() if name.startswith("kexec_verify/")} == named
    assert any(name.endswith(".j2") for name in named) and any(name.endswith(".toml") for name in named)


def test_metadata_is_complete(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = Parser().parsestr(wheel.read(name).decode())
    assert metadata["Version"] == kexec_verify.__version__
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().startswith("# kexec-verify")
    assert metadata["License-Expression"] == "BSD-2-Clause" and metadata["Keywords"]
    supported = {f"Programming Language :: Python :: 3.{minor}" for minor in (12, 13)}
    assert supported <= set(metadata.get_all("Classifier"))
    required = [entry for entry in metadata.get_all("Requires-Dist") if "extra ==" not in entry]
    assert [entry for entry in required if "<" not in entry or ">=" not in entry] == []


def test_sdist_has_every_file(dist, source):
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        held = {member.name.split("/", 1)[1] for member in archive if member.isfile()}
    assert files(source) <= held
    assert all(name in held for name in ("tests/conftest.py", "requirements.lock", "binaries/src/link.ld"))


@pytest.fixture(scope="module")
def installed(dist, tmp_path_factory):
    """The commands of an environment that has the wheel and, by path, this environment's other packages.

    A path in a .pth file is searched, but no .pth file in it is read: the checkout that is installed here in
    editable mode is not seen.
    """
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    (path,) = dist.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "-q"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(path)], check=True, timeout=300)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


@pytest.fixture
def command(installed, tmp_path):
    def run(*arguments: str | Path, name: str = "verify") -> subprocess.CompletedProcess[str]:
        kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
        return subprocess.run(
            [installed / name, *arguments],
            cwd=tmp_path,
            env=kept | {"HOME": str(tmp_path), "KEXEC_VERIFY_CACHE": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run


@pytest.mark.slow
class TestInstalledWheel:
    def test_the_package_is_the_installed_one(self, command):
        done = command("-c", "import kexec_verify as k; print(k.__file__)", name="python")
        assert "site-packages/kexec_verify/__init__.py" in done.stdout, done.stderr
        done = command("-c", "import specs", name="python")
        assert "No module named 'specs'" in done.stderr
        done = command("-c", "import verify", name="python")
        assert "No module named 'verify'" in done.stderr

    @pytest.mark.parametrize("name", ["verify", "kexec-verify"])
    def test_version(self, command, name):
        done = command("--version", name=name)
        assert (done.returncode, done.stdout.split()[-1]) == (0, kexec_verify.__version__), done.stderr

    @pytest.mark.parametrize("arguments", [("list",), ("cosim", "--help"), ("assumptions",), ("doctor",)])
    def test_command_that_needs_no_target(self, command, arguments):
        done = command(*arguments)
        assert done.returncode == 0 and done.stdout, done.stderr

    def test_form_of_the_corpus(self, command, tmp_path):
        done = command("diff", "seed-before", "nothing")
        assert done.returncode == 2 and "(kimage-mmu, later, regs-done-test" in done.stderr

    def test_run_of_every_shipped_binary(self, command, tmp_path):
        done = command("run", "--property", "reloc-covered")
        assert done.returncode == 0, done.stdout + done.stderr
        reports = {path.parent.name for path in (tmp_path / "reports").glob("*/run.json")}
        shipped = {path.name for path in (ROOT / "binaries").rglob("*.elf")}
        assert reports == shipped
        assert "<html" in (tmp_path / "reports" / "later-4k-gcc.elf" / "index.html").read_text()
