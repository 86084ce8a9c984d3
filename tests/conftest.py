"""What every test can ask for: the shipped corpus, a distribution's kernel, a tool that may be missing."""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from kexec_verify.target import Kernel

ROOT = Path(__file__).resolve().parent.parent
BINARIES = ROOT / "binaries"


@dataclass(frozen=True)
class CorpusBinary:
    """One shipped ELF file: its `path` and what the manifest says of it (`page_size` in bytes)."""

    path: Path
    sha256: str
    variant: str
    page_size: int
    compiler: str
    entry: str

    def __str__(self) -> str:
        return self.path.stem


_CACHES = tempfile.TemporaryDirectory(prefix="kexec-verify-tests-")
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test proves is news to every other, and to the user's own runs."""
    monkeypatch.setenv("KEXEC_VERIFY_CACHE", f"{_CACHES.name}/{next(_numbers)}")


def pytest_configure() -> None:
    """The same for what runs outside of any test, such as a module's fixture."""
    os.environ["KEXEC_VERIFY_CACHE"] = f"{_CACHES.name}/shared"
    os.environ["KEXEC_VERIFY_CACHE_KEY"] = "tests"


@pytest.fixture(scope="session", autouse=True)
def _one_answer_for_each_query() -> Iterator[None]:
    """Ask a solver the same query once in a process: most of a mutant's queries are those of its original.

    Only calls through the module are remembered, and only sat and unsat. A test of the solvers themselves
    imports its functions by name, or puts others in their place.
    """
    from kexec_verify.prove import solvers

    known: dict[Any, solvers.Reply] = {}

    def remembering(ask: Callable[..., solvers.Reply]) -> Callable[..., solvers.Reply]:
        def asked(text: str, *options: Any, **named: Any) -> solvers.Reply:
            key = (ask, hashlib.sha256(text.encode()).digest(), options, *sorted(named.items()))
            reply = known.get(key)
            if reply is None:
                reply = ask(text, *options, **named)
                if reply.answer is not solvers.Answer.UNKNOWN:
                    known[key] = reply
            return reply

        return functools.wraps(ask)(asked)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("ask_z3", "ask_bitwuzla"):
            patch.setattr(solvers, name, remembering(getattr(solvers, name)))
        yield


def read_corpus() -> list[CorpusBinary]:
    """The shipped binaries that the manifest names, in its order (list of CorpusBinary)."""
    manifest = json.loads((BINARIES / "manifest.json").read_text())
    return [
        CorpusBinary(
            path=BINARIES / entry["file"],
            sha256=entry["sha256"],
            variant=entry["form"],
            page_size=entry["page_size"],
            compiler=entry["compiler"],
            entry=entry["entry"],
        )
        for entry in manifest["binaries"]
    ]


def missing(reason: str) -> NoReturn:
    """Skip the test for want of something outside the project; fail it where CI=true promises that."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (a skip counts as a failure with CI=true)", pytrace=False)
    pytest.skip(reason)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `corpus_binary` once per shipped binary."""
    if "corpus_binary" in metafunc.fixturenames:
        metafunc.parametrize("corpus_binary", read_corpus(), ids=str)


@pytest.fixture(scope="session")
def corpus() -> list[CorpusBinary]:
    """Every shipped binary (list of CorpusBinary)."""
    return read_corpus()


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str, str], str]:
    """A function (tool, Debian package) that returns the tool's path (str) or reports it missing."""

    def require(tool: str, apt_package: str) -> str:
        found = shutil.which(tool)
        if found is None:
            missing(f"{tool} not found: install the Debian package {apt_package}")
        return found

    return require


@pytest.fixture(scope="session")
def debian_kernel(require_tool: Callable[[str, str], str]) -> Callable[[str], Kernel]:
    """A function (pattern of package names) that opens the newest Debian kernel among them, once (Kernel)."""
    packages: list[str] = []
    opened: dict[str, Kernel] = {}

    def newest(pattern: str) -> Kernel:
        from kexec_verify.errors import TargetError
        from kexec_verify.target import open_target
        from kexec_verify.target.debian import available

        for tool, apt_package in (("apt-get", "apt"), ("apt-cache", "apt"), ("dpkg-deb", "dpkg")):
            require_tool(tool, apt_package)
        try:
            packages[:] = packages or available()
        except TargetError as error:
            missing(f"no list of Debian's packages: {error}")
        matching = fnmatch.filter(packages, pattern)
        if not matching:
            missing(f"no Debian package matches {pattern}")
        package = matching[-1]
        if package not in opened:
            opened[package] = open_target(f"debian:{package}")
        return opened[package]

    return newest
