"""A cached value counts only with a valid seal, and nothing in a cache can make a run fail."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3

import pytest
from kexec_verify.cache import store
from kexec_verify.cache.store import FILE, Cache
from kexec_verify.key import KEY_VARIABLE, user_key

KEY, OTHER = b"k" * 32, b"o" * 32


@pytest.fixture
def kept(tmp_path):
    cache = Cache(tmp_path, KEY)
    cache.keep("answer", b"question", b"value")
    cache.close()
    return tmp_path


def found(directory, key=KEY, kind="answer", query=b"question") -> bytes | None:
    cache = Cache(directory, key)
    try:
        return cache.find(kind, query)
    finally:
        cache.close()


def change(directory, statement, *values):
    with sqlite3.connect(directory / FILE) as connection:
        assert connection.execute(statement, values).rowcount == 1
    connection.close()


def test_what_is_kept_is_found_by_the_next_run(kept):
    assert found(kept) == b"value"
    assert found(kept, query=b"another") is None
    assert found(kept, kind="run") is None


def test_value_is_found_before_it_is_written(tmp_path):
    cache = Cache(tmp_path, KEY)
    cache.keep("answer", b"question", b"value")
    assert cache.find("answer", b"question") == b"value"
    assert found(tmp_path) is None


def test_seal_of_another_key_is_none(kept):
    assert found(kept, OTHER) is None


def test_without_a_key_nothing_is_found_or_kept(kept):
    assert found(kept, None) is None
    cache = Cache(kept, None)
    cache.keep("answer", b"new", b"value")
    cache.close()
    assert found(kept, query=b"new") is None


@pytest.mark.parametrize(
    "statement, value",
    [
        ("UPDATE sealed SET value = ?", b"another value"),
        ("UPDATE sealed SET value = ?", "text"),
        ("UPDATE sealed SET value = ?", 7),
        ("UPDATE sealed SET seal = ?", b"s" * 32),
        ("UPDATE sealed SET seal = ?", ""),
    ],
)
def test_changed_value_or_seal_is_not_believed(kept, statement, value):
    change(kept, statement, value)
    assert found(kept) is None
    cache = Cache(kept, KEY)
    assert [sealed for *_, sealed in cache.values()] == [False]
    assert [(c.kind, c.values, c.unsealed) for c in cache.counts()] == [("answer", 1, 1)]


@pytest.mark.parametrize("column, value", [("key", b"moved"), ("kind", "run")])
def test_true_value_in_another_place_is_not_believed(kept, column, value):
    change(kept, f"UPDATE sealed SET {column} = ?", value)
    kind, key = ("run", b"question") if column == "kind" else ("answer", value)
    assert found(kept, kind=kind, query=key) is None


@pytest.mark.parametrize("content", [b"", b"no database" * 1000, None])
def test_damaged_file_is_an_empty_cache_that_works_again(kept, content):
    path = kept / FILE
    path.write_bytes(path.read_bytes()[:5000] if content is None else content)
    for name in kept.glob(f"{FILE}-*"):
        name.unlink()
    assert found(kept) in (None, b"value")
    cache = Cache(kept, KEY)
    cache.keep("answer", b"question", b"new")
    cache.close()
    assert found(kept) in (None, b"new")


def test_page_in_the_middle_damaged_is_no_failure(tmp_path):
    cache = Cache(tmp_path, KEY)
    for number in range(300):
        cache.keep("answer", b"%d" % number, os.urandom(500))
    cache.close()
    path = tmp_path / FILE
    data = bytearray(path.read_bytes())
    data[8192:40960] = b"\xff" * (40960 - 8192)
    path.write_bytes(data)
    cache = Cache(tmp_path, KEY)
    for number in range(300):
        cache.find("answer", b"%d" % number)
    list(cache.values()), cache.counts(), cache.drop("answer", b"7"), cache.keep("answer", b"x", b"y")
    cache.close()


def test_place_that_cannot_be_a_folder_is_no_failure(tmp_path):
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "cache", KEY)
    cache.keep("answer", b"question", b"value")
    cache.close()
    assert found(tmp_path / "file" / "cache") is None


def test_full_disk_loses_what_is_kept_and_nothing_else(kept, monkeypatch):
    cache = Cache(kept, KEY)
    assert cache._connection is not None
    cache._connection.execute("PRAGMA max_page_count = 3")
    for number in range(100):
        cache.keep("answer", b"%d" % number, b"v" * 4000)
    cache.close()
    assert found(kept) == b"value"


def _writer(directory, number):
    cache = Cache(directory, KEY)
    for i in range(500):
        cache.keep("answer", b"%d.%d" % (number, i), b"value")
    cache.close()


def test_runs_side_by_side_share_a_cache(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_writer, args=(tmp_path, number)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    cache = Cache(tmp_path, KEY)
    assert [(c.values, c.unsealed) for c in cache.counts()] == [(1500, 0)]


def _killed(directory):
    cache = Cache(directory, KEY)
    for i in range(500):
        cache.keep("answer", b"%d" % i, b"value")
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_run_leaves_whole_values(kept):
    process = multiprocessing.get_context("spawn").Process(target=_killed, args=(kept,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    cache = Cache(kept, KEY)
    (count,) = cache.counts()
    assert count.unsealed == 0 and count.values >= 1


def test_older_half_goes_where_the_file_grows_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "MOST_BYTES", 200_000)
    clock = iter(range(1, 1000))
    monkeypatch.setattr(store.time, "time", lambda: next(clock))
    cache = Cache(tmp_path, KEY)
    for number in range(1000):
        cache.keep("answer", b"%04d" % number, b"v" * 300)
    cache.close()
    (count,) = Cache(tmp_path, KEY).counts()
    assert count.size < 400_000
    assert found(tmp_path, query=b"0000") is None
    assert found(tmp_path, query=b"0999") == b"v" * 300


def test_clear_forgets_everything(kept):
    cache = Cache(kept, KEY)
    assert cache.clear() == 1
    cache.close()
    assert found(kept) is None


def test_key_is_the_users_own_and_stays(tmp_path, monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    key = user_key()
    assert key is not None and len(key) == 32
    assert user_key() == key
    path = tmp_path / "kexec-verify" / "cache.key"
    assert path.read_bytes() == key
    assert path.stat().st_mode & 0o77 == 0
    assert [name.name for name in path.parent.iterdir()] == ["cache.key"]
    path.write_bytes(b"short")
    assert user_key() is None


def test_key_of_the_environment_is_the_same_on_every_machine(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "a secret of the CI")
    first = user_key()
    assert first == user_key()
    monkeypatch.setenv(KEY_VARIABLE, "another")
    assert user_key() != first
