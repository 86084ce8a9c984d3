"""The tool's digest: it changes with every engine and library that a verdict hangs on."""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

import pytest
from kexec_verify import digest as module
from kexec_verify.digest import ENGINES, engine_parts, engine_versions

ROOT = Path(__file__).resolve().parents[2]
SHOWN = {"click", "jinja2", "markupsafe", "rich"}  # these draw reports and read command lines


def install(folder: Path, name: str, requires: str = "", content: str = "old") -> None:
    """A package with one module, as an installer leaves it behind."""
    (folder / name).mkdir(parents=True)
    (folder / name / "code.py").write_text(content)
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: {name}\n{requires}\n")
    (metadata / "RECORD").write_text(f"{name}/code.py,sha256={content},3\n")


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """Two engines; the first requires a library."""
    monkeypatch.setattr(module, "ENGINES", ("lifter", "solver"))
    install(tmp_path, "lifter", "Requires-Dist: terms_of (>=1)\nRequires-Dist: extra1; extra == 'docs'")
    install(tmp_path, "solver")
    install(tmp_path, "Terms.Of")
    install(tmp_path, "extra1")
    return tmp_path


def parts(site: Path) -> list[bytes]:
    return list(engine_parts([str(site)]))


def later(path: Path, content: str) -> None:
    """Change a file a minute after it was installed."""
    path.write_text(content)
    os.utime(path, (path.stat().st_mtime + 60,) * 2)


def test_what_is_not_touched_gives_the_same(site):
    before = parts(site)
    assert b"terms-of" in before and b"extra1" not in before
    (site / "lifter" / "__pycache__").mkdir()
    assert parts(site) == before


@pytest.mark.parametrize("package", ["lifter", "solver", "Terms.Of"])
def test_another_installation_gives_another(site, package):
    before = parts(site)
    record = site / f"{package}-1.0.dist-info" / "RECORD"
    record.write_text(record.read_text().replace("old", "new"))
    assert parts(site) != before


@pytest.mark.parametrize("package", ["lifter", "solver", "Terms.Of"])
def test_another_version_gives_another(site, package):
    before = parts(site)
    (site / f"{package}-1.0.dist-info").rename(site / f"{package}-1.1.dist-info")
    assert parts(site) != before


@pytest.mark.parametrize("package", ["lifter", "solver", "Terms.Of"])
def test_file_that_is_changed_or_removed_later_gives_another(site, package):
    before = parts(site)
    later(site / package / "code.py", "bad")
    changed = parts(site)
    (site / package / "code.py").unlink()
    assert len({tuple(found) for found in (before, changed, parts(site))}) == 3


def test_missing_engine_gives_another(site):
    before = parts(site)
    (site / "solver-1.0.dist-info" / "METADATA").unlink()
    (site / "solver-1.0.dist-info" / "RECORD").unlink()
    (site / "solver-1.0.dist-info").rmdir()
    assert parts(site) != before


def test_package_that_nothing_needs_changes_nothing(site):
    before = parts(site)
    install(site, "unrelated")
    assert parts(site) == before


def test_python_counts(monkeypatch):
    before = module.tool_digest()
    module.tool_digest.cache_clear()
    monkeypatch.setattr(sys, "version", "another")
    try:
        assert module.tool_digest() != before
    finally:
        module.tool_digest.cache_clear()


def test_every_dependency_that_is_not_only_for_show_counts():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {line.split("=")[0].split(">")[0] for line in project["dependencies"]} - SHOWN
    assert needed == set(ENGINES)
    found = list(engine_parts(sys.path))
    assert all(name.encode() in found for name in (*needed, "archinfo", "cle", "pyvex", "angr-data"))


def test_a_run_names_the_versions():
    assert set(engine_versions()) == {"python", *ENGINES}
    assert "missing" not in engine_versions().values()
