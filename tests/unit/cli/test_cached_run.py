"""An unchanged kernel is not proved again, and only results that a run has sealed are reused."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from kexec_verify.cache.answers import KIND, Answers
from kexec_verify.cache.store import Cache
from kexec_verify.key import user_key
from kexec_verify.prove.solvers import Answer, Reply
from kexec_verify.report.model import Run
from kexec_verify.report.read import read_run
from kexec_verify.verdict import Verdict

BINARIES = Path(__file__).resolve().parents[3] / "binaries"
GOOD = BINARIES / "kimage-mmu-4k-gcc.elf"
NOP, DC_CIVAC = 0xD503201F, 0xD50B7E20
PROPERTY = ("--property", "reloc-terminates")  # few questions; rests on others all the same
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def warm(tmp_path_factory) -> Path:
    """A directory with a target, a cache, and the report of a run that filled it, and a copy of it."""
    place = tmp_path_factory.mktemp("warm") / "place"
    place.mkdir()
    shutil.copy(GOOD, place / "target.elf")
    done = verify(place, "run", "target.elf", "-j", "1")
    assert done.returncode == 0, done.stderr
    shutil.copytree(place, place.with_name("as it was"))
    return place


@pytest.fixture
def place(warm) -> Path:
    """The directory as it was. A run is reused only for the file at the same path."""
    shutil.rmtree(warm)
    return shutil.copytree(warm.with_name("as it was"), warm)


def verify(place: Path, *arguments: str, script: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"{script}\nfrom kexec_verify.cli import main; main()", *arguments]
    environment = {
        **os.environ,
        "KEXEC_VERIFY_CACHE": str(place / "cache"),
    }
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=200)


def report(place: Path) -> Run:
    return read_run(place / "reports" / "target.elf" / "run.json")


def files(place: Path) -> dict[str, bytes]:
    folder = place / "reports" / "target.elf"
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# The engine and the solvers cannot be loaded: whoever needs one fails.
WITHOUT_ENGINE = (
    "import sys; sys.modules.update(dict.fromkeys(['angr', 'z3', 'bitwuzla', 'unicorn', 'pypcode']))"
)


def test_unchanged_target_is_shown_as_it_was_without_the_engine(place):
    before = files(place)
    done = verify(place, "run", "target.elf", script=WITHOUT_ENGINE)
    assert done.returncode == 0, done.stderr
    assert f"cached result from {report(place).started}; --recheck proves it again" in done.stdout
    assert files(place) == before


def test_report_that_is_gone_is_written_again(place):
    before = files(place)
    shutil.rmtree(place / "reports")
    assert verify(place, "run", "target.elf", script=WITHOUT_ENGINE).returncode == 0
    assert files(place) == before


def test_report_that_was_changed_is_put_right(place):
    before = files(place)
    path = place / "reports" / "target.elf" / "run.json"
    path.write_text(path.read_text().replace("PROVED", "REFUTED"))
    assert verify(place, "run", "target.elf", script=WITHOUT_ENGINE).returncode == 0
    assert files(place) == before


def test_report_in_another_directory_names_that_directory(place):
    done = verify(place, "run", "target.elf", "--reports", "elsewhere", "-j", "1")
    assert done.returncode == 0, done.stderr
    page = (place / "elsewhere" / "target.elf" / "index.html").read_text()
    assert "elsewhere/target.elf" in page and "reports/target.elf" not in page


def test_another_query_is_no_old_run(place):
    done = verify(place, "run", "target.elf", *PROPERTY, "-j", "1")
    assert done.returncode == 0
    assert "nothing has changed" not in done.stdout
    assert report(place).queries["asked"] == 0  # but its questions were all asked before


def test_changed_tool_believes_no_old_run_but_answers(place):
    changed = "import kexec_verify.digest; kexec_verify.digest.tool_digest = lambda: 'another'"
    done = verify(place, "run", "target.elf", "-j", "1", script=changed)
    assert done.returncode == 0
    assert "nothing has changed" not in done.stdout
    found = report(place).queries
    assert found["asked"] == 0 and found["reused"] > 100


@pytest.mark.parametrize("option", ["--recheck", "--no-cache"])
def test_everything_is_asked_again_on_demand(place, option):
    done = verify(place, "run", "target.elf", option, *PROPERTY, "-j", "1")
    assert done.returncode == 0
    assert report(place).queries["reused"] == 0 < report(place).queries["asked"]


def test_after_a_change_only_what_depends_on_it_is_asked(place):
    data = (place / "target.elf").read_bytes()
    words = [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]
    (index,) = (i for i, word in enumerate(words) if word & ~0x1F == DC_CIVAC)
    (place / "target.elf").write_bytes(data[: 4 * index] + NOP.to_bytes(4, "little") + data[4 * index + 4 :])
    done = verify(place, "run", "target.elf", "-j", "1")
    assert done.returncode == 1
    found = report(place)
    assert found.verdict is Verdict.REFUTED
    assert found.queries["reused"] > found.queries["asked"] > 0
    verdicts = {record.id: record.verdict for record in found.properties}
    assert verdicts["reloc-terminates"] is Verdict.PROVED


def every_answer_unsat(place: Path, key: bytes | None) -> None:
    """Have the cache claim of every text it has that it is unsatisfiable."""
    cache = Cache(place / "cache", key)
    with sqlite3.connect(place / "cache" / "cache.sqlite") as connection:
        connection.execute("DELETE FROM sealed WHERE kind = 'run'")
    connection.close()
    texts = {path.read_text() for path in (place / "reports" / "target.elf" / "obligations").iterdir()}
    for text in texts:
        lie = (Reply("z3", Answer.UNSAT, 0.0), Reply("bitwuzla", Answer.UNSAT, 0.0, (0,)))
        Answers(cache).keep("settle", text, 0, lie)
    cache.close()


def test_wrong_answers_of_somebody_else_are_not_believed(place):
    data = (place / "target.elf").read_bytes()
    word = (0xD50B7E20).to_bytes(4, "little")[1:]  # dc civac of some register
    at = data.index(word) - 1
    (place / "target.elf").write_bytes(data[:at] + NOP.to_bytes(4, "little") + data[at + 4 :])
    assert verify(place, "run", "target.elf", "-j", "1", "--no-cache").returncode == 1
    every_answer_unsat(place, b"another user's key, of 32 bytes.")
    assert verify(place, "run", "target.elf", "-j", "1").returncode == 1
    assert {kind for kind, *_, sealed in Cache(place / "cache", user_key()).values() if sealed} <= {
        KIND,
        "run",
    }


def test_undecided_run_is_not_kept(place):
    giving_up = (
        "import kexec_verify.prove.solvers as s; s.ask_z3 = lambda *a: s.Reply('z3', s.Answer.UNKNOWN, 1.0)"
    )
    for _ in range(2):
        done = verify(place, "run", "target.elf", "--recheck", *PROPERTY, "-j", "1", script=giving_up)
        assert done.returncode == 3, done.stdout + done.stderr
        assert "nothing has changed" not in done.stdout
    assert verify(place, "run", "target.elf", *PROPERTY, "-j", "1").returncode == 0


def test_cache_commands(place):
    done = verify(place, "cache", "stats")
    assert done.returncode == 0 and " run " in done.stdout and " answer " in done.stdout
    assert verify(place, "cache", "verify").returncode == 0
    with sqlite3.connect(place / "cache" / "cache.sqlite") as connection:
        connection.execute("UPDATE sealed SET value = x'00' WHERE kind = 'run'")
    connection.close()
    assert "1 without a valid seal" in verify(place, "cache", "stats").stdout
    assert verify(place, "cache", "verify").returncode == 1
    assert verify(place, "cache", "verify").returncode == 0
    assert "values dropped" in verify(place, "cache", "clear").stdout
    assert "empty" in verify(place, "cache", "stats").stdout
