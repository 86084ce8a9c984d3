"""Any file may be hostile: a reader takes or refuses it, soon, in little memory, and writes nowhere else."""

from __future__ import annotations

import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kexec_verify.cache.store import FILE as DATABASE
from kexec_verify.cache.store import Cache
from kexec_verify.check.commands import require_printed
from kexec_verify.errors import InternalError, VerifyError
from kexec_verify.gate.baseline import baseline_of, read_baseline
from kexec_verify.gate.decide import Evidence, decide
from kexec_verify.gate.formats import FORMATS
from kexec_verify.gate.formats.report import report
from kexec_verify.gate.policy import Policy, read_policy
from kexec_verify.html import history
from kexec_verify.html.companion_files import companion_files
from kexec_verify.html.index import rows
from kexec_verify.html.write import write_page
from kexec_verify.prove.read import read as read_script
from kexec_verify.report.debugger import write_out
from kexec_verify.report.read import decode_run
from kexec_verify.report.replay import in_lines, recorded
from kexec_verify.sweep import journal
from kexec_verify.sweep.model import FILE as SWEEP
from kexec_verify.target import load_kernel

from .runs import BINARY, places, refuted_run, replaced

FEW = settings(
    max_examples=60,
    deadline=10_000,  # milliseconds
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
GIBIBYTE = 1 << 20  # in KiB
NUMBERS = st.sampled_from(
    [0, 1, -1, 3, 4096, 1 << 31, 1 << 32, (1 << 63) - 1, (1 << 64) - 1, 1 << 64, 10**30]
)
TEXTS = st.sampled_from(
    ["", "x", "../../escaped", "/escaped", "a\nshell touch escaped\n", "\0", "\udc80", "1" * 5000, "é" * 300]
)
VALUES = st.one_of(
    st.just(...),
    NUMBERS,
    TEXTS,
    st.none(),
    st.booleans(),
    st.just([]),
    st.just({}),
    st.just(1e308),
    st.just([[]]),
)


@pytest.fixture(autouse=True)
def little_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GIBIBYTE


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    """A refuted run as plain data."""
    return msgspec.json.decode(msgspec.json.encode(refuted_run()))


def encoded(value: Any) -> bytes:
    """JSON of plain data; a lone surrogate becomes a byte that is not UTF-8."""
    import json

    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")


def refused_or_read(read: Callable[[], object]) -> None:
    try:
        read()
    except InternalError:
        raise
    except VerifyError as error:
        assert error.exit_code in (2, 3)
        assert str(error)


def test_the_run_that_is_changed_replays(plain, tmp_path):
    found = recorded(decode_run(encoded(plain), "run.json"))
    assert len(found) == 2
    for item in found:
        item.confirm()
        assert write_out(item, tmp_path)


@FEW
@given(data=st.data())
def test_changed_run_is_replayed_in_its_place(plain, tmp_path, data):
    path = data.draw(st.sampled_from([p for p in places(plain) if p[0] in ("functions", "properties")]))
    hostile = encoded(replaced(plain, path, data.draw(VALUES)))
    out = tmp_path / "out"

    def replay() -> None:
        for item in recorded(decode_run(hostile, "run.json")):
            in_lines(item.counterexample)
            for written in write_out(item, out):
                assert written.resolve().parent == out.resolve()
            try:
                item.confirm()
            except InternalError as error:  # what is shown is not what is recorded
                assert "does not show" in str(error)

    refused_or_read(replay)
    assert {path.name for path in tmp_path.iterdir()} <= {"out"}
    for script in out.glob("*.gdb"):
        lines = script.read_text().splitlines()
        assert not [line for line in lines if line.lstrip().startswith(("shell", "python", "!", "source"))]


@FEW
@given(data=st.data())
def test_changed_run_is_shown_and_gated(plain, tmp_path, data):
    path = data.draw(st.sampled_from(list(places(plain))))
    hostile = encoded(replaced(plain, path, data.draw(VALUES)))
    place = tmp_path / "reports" / "run" / "run.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(hostile)

    def gate() -> None:
        found = decode_run(hostile, "run.json")
        evidence = [Evidence(found, place, None, None)]
        decision = decide(evidence, Policy(), baseline_of([found]))
        for write in FORMATS.values():
            write(report(decision, evidence, lambda run, addresses: {}))

    refused_or_read(gate)
    refused_or_read(lambda: write_page(place))
    rows(tmp_path / "reports")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["schema", "rows", "targets", "started", "x"]), inner, max_size=4),
    ),
    max_leaves=12,
)
BYTES = st.one_of(
    JSON.map(encoded),
    st.binary(max_size=200),
    st.just(b"[" * 100_000),
    st.just(b'{"schema": 1, "rows": [1]}'),
)


@FEW
@given(data=BYTES)
def test_files_beside_a_run_are_read_or_left_out(plain, tmp_path, data):
    reports, made = tmp_path, decode_run(encoded(plain), "run.json")
    place = reports / "run"
    (reports / history.DIRECTORY).mkdir(exist_ok=True)
    place.mkdir(exist_ok=True)
    for path in (
        reports / history.DIRECTORY / "run.json",
        reports / "cosim.json",
        reports / SWEEP,
        *(place / name for name in ("check.json", "mutation.json", "run.json", "run.seal")),
    ):
        path.write_bytes(data)
    companion_files(place, made, data)
    journal.read(reports)
    rows(reports)
    refused_or_read(lambda: read_baseline(reports / SWEEP))
    refused_or_read(lambda: read_policy(reports / SWEEP))


@FEW
@given(
    text=st.one_of(st.text(max_size=80), st.text("[]{}=.\"'\n a1", max_size=200)), deep=st.integers(0, 20_000)
)
def test_policies(tmp_path, text, deep):
    path = tmp_path / "policy.toml"
    path.write_text(f"{text}\nrequired = {'[' * deep}", "utf-8", "surrogateescape")
    refused_or_read(lambda: read_policy(path))


WORDS = st.sampled_from(
    [
        *(
            "(",
            ")",
            "|",
            ";",
            '"',
            "()",
            "!",
            "_",
            "0",
            "64",
            "99999999999",
            "#x0",
            "#b",
            "#xg",
            "|x|",
            "bv5",
        ),
        *("assert", "check-sat", "set-logic", "QF_UFBV", "declare-fun", "define-fun", "(check-sat)", "Bool"),
        *("BitVec", "true", "not", "and", "bvmul", "ite", "concat", "extract", ":named"),
    ]
)


@FEW
@given(words=st.lists(WORDS, max_size=40), deep=st.integers(0, 3000))
def test_texts_of_obligations(words, deep):
    text = " ".join(words) + "(" * deep + ")" * deep

    def read() -> None:
        require_printed(text, "text")
        read_script(text)

    refused_or_read(read)


@FEW
@given(data=st.data())
def test_elf_files(data):
    image = bytearray(BINARY.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, 400), st.integers(0, len(image) - 8)))
        struct.pack_into("<Q", image, at, data.draw(NUMBERS) & (1 << 64) - 1)
    cut = data.draw(st.one_of(st.just(len(image)), st.integers(0, len(image))))
    refused_or_read(lambda: load_kernel(bytes(image[:cut]), "target", "target"))


@FEW
@given(data=st.data())
def test_containers(data):
    magics = [
        b"\x1f\x8b\x08\0",
        b"\xfd7zXZ\0",
        b"\x28\xb5\x2f\xfd",
        b"\x04\x22\x4d\x18",
        b"\x02\x21\x4c\x18",
        b"BZh9",
    ]
    magics += [b"\x5d\0\0", b"MZ\0\0zimg", b"\x7fELF\x02\x01", b"MZ" + bytes(54) + b"ARM\x64" + bytes(4)]
    image = data.draw(st.sampled_from(magics)) + data.draw(st.binary(max_size=400))
    refused_or_read(lambda: load_kernel(image, "target", "target"))


@FEW
@given(
    data=st.one_of(st.binary(max_size=300), st.binary(max_size=200).map(lambda b: b"SQLite format 3\0" + b))
)
def test_cache_files(tmp_path: Path, data):
    (tmp_path / DATABASE).write_bytes(data)
    cache = Cache(tmp_path, b"k" * 32)
    assert cache.find("answer", b"key") is None
    cache.keep("answer", b"key", b"value")
    cache.close()
