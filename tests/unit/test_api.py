"""The Python interface: what is public, its examples, and what it returns, writes and raises."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import kexec_verify
import pytest
from kexec_verify import TargetError, UsageError, Verdict, api, read_run, verify

ROOT = Path(__file__).resolve().parents[2]
GOOD = ROOT / "binaries" / "kimage-mmu-4k-gcc.elf"


def test_example_of_the_docstring(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = doctest.testmod(api)
    assert (found.attempted, found.failed) == (4, 0)


@pytest.mark.parametrize("document", ["README.md", "docs/api.md"])
def test_example_of_the_documents(document, monkeypatch):
    monkeypatch.chdir(ROOT)
    (text,) = re.findall(r"<!-- test: python -->\n```python\n(.*?)```", (ROOT / document).read_text(), re.S)
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "reloc-covered PROVED" in done.stdout


def test_documented_names_are_the_public_ones():
    listed = re.findall(r"^\| `(\w+)", (ROOT / "docs" / "api.md").read_text(), re.M)
    assert sorted(listed) == sorted(kexec_verify.__all__)
    assert all(getattr(kexec_verify, name) is not None for name in kexec_verify.__all__)
    assert set(kexec_verify.__all__) <= set(dir(kexec_verify))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = kexec_verify.nothing


def test_importing_loads_nothing_of_the_engine():
    text = (
        "import sys, kexec_verify; print({'angr', 'z3', 'bitwuzla', 'msgspec', 'click'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "set()\n"


def test_report_is_the_returned_run(tmp_path):
    stages: list[str] = []
    run = verify(GOOD, properties=["reloc-covered"], reports=tmp_path, cache=False, progress=stages.append)
    assert run.complete and run.verdict is Verdict.PROVED
    assert read_run(tmp_path / GOOD.name / "run.json") == run
    assert "<html" in (tmp_path / GOOD.name / "index.html").read_text()
    assert (tmp_path / "index.html").exists()
    assert stages[0] == "opening" and stages[-1] == "writing the report"


def test_nothing_is_written_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert verify(GOOD, properties=["reloc-covered"]).verdict is Verdict.PROVED
    assert list(tmp_path.iterdir()) == []


def test_answers_are_reused(tmp_path):
    first, second = (verify(GOOD, properties=["reloc-covered"]) for _ in range(2))
    assert first.queries["asked"] > 0 and first.queries["reused"] == 0
    assert second.queries["asked"] == 0 and second.queries["reused"] == first.queries["asked"]


@pytest.mark.mutant
def test_fault_is_refuted(tmp_path):
    data = GOOD.read_bytes()
    clean = (0xD50B7E20).to_bytes(4, "little")  # dc civac, x0; the register is in the low five bits
    (at,) = (i for i in range(0, len(data), 4) if data[i + 1 : i + 4] == clean[1:] and data[i] & 0xE0 == 0x20)
    (tmp_path / "broken").write_bytes(data[:at] + (0xD503201F).to_bytes(4, "little") + data[at + 4 :])
    run = verify(tmp_path / "broken", properties=["reloc-clean-to-poc"])
    assert run.verdict is Verdict.REFUTED


def test_errors(tmp_path):
    with pytest.raises(UsageError, match="expected a property, found 'nothing'"):
        verify(GOOD, properties=["nothing"])
    with pytest.raises(TargetError, match="expected a readable file"):
        verify(tmp_path / "missing")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError):
        verify(GOOD, properties=["reloc-covered"], reports=tmp_path / "file")
    (tmp_path / GOOD.name).write_text("not a report")
    with pytest.raises(UsageError, match="which is no folder"):
        verify(GOOD, reports=tmp_path)
    assert (tmp_path / GOOD.name).read_text() == "not a report"
