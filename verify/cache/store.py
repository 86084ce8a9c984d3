"""Store sealed values by key, in one SQLite file that several processes may share.

A value counts only with its seal, a keyed hash (HMAC-SHA256, RFC 2104) of its key and its bytes. The sealing
key is the user's own and is stored elsewhere, so a cache that was damaged, or came from somebody else, is as
good as empty. Nothing here can fail a run: what cannot be read is computed again, and what cannot be written
is lost.
"""

from __future__ import annotations

import hmac
import sqlite3
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kexec_verify.key import seal

FILE = "cache.sqlite"
MOST_BYTES = 1 << 30
_WAIT = 5.0  # seconds for another run's write
_AGAIN = 0.05  # seconds between two tries to open the file
_PENDING = 200
_SCHEMA = """
CREATE TABLE IF NOT EXISTS sealed (
    kind TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, seal BLOB NOT NULL, written INTEGER NOT NULL,
    PRIMARY KEY (kind, key)
) WITHOUT ROWID
"""


def _has_own_schema(connection: sqlite3.Connection) -> bool:
    """Return whether the file has only the one table: a trigger or a view may run for ever."""
    found = connection.execute("SELECT type, name, sql FROM sqlite_master LIMIT 2").fetchall()
    own = _SCHEMA.replace("IF NOT EXISTS ", "").split()
    return not found or (len(found) == 1 and found[0][0] == "table" and found[0][2].split() == own)


@dataclass(frozen=True)
class Count:
    """How many values of one kind there are, their bytes, and how many of them have no true seal."""

    kind: str
    values: int
    size: int
    unsealed: int


class Cache:
    """The cache at ``directory``; none of its methods raises because of the file's contents.

    :param key: of the seals; without one nothing is found and nothing is kept.
    """

    def __init__(self, directory: Path, key: bytes | None = None):
        self.path = directory / FILE
        self._key = key
        self._pending: dict[tuple[str, bytes], bytes] = {}
        self._connection: sqlite3.Connection | None = self._open() if key is not None else None

    def find(self, kind: str, key: bytes) -> bytes | None:
        """Return the value of ``key``, if there is one with a valid seal."""
        if (kind, key) in self._pending:
            return self._pending[kind, key]
        if self._connection is None:
            return None
        try:
            row = self._connection.execute(
                "SELECT value, seal FROM sealed WHERE kind = ? AND key = ?", (kind, key)
            ).fetchone()
        except sqlite3.Error:
            return None
        return row[0] if row is not None and self._is_true(kind, key, row[0], row[1]) else None

    def keep(self, kind: str, key: bytes, value: bytes) -> None:
        """Keep ``value``; written with others a little later, and by :meth:`close`."""
        if self._connection is not None:
            self._pending[kind, key] = value
            if len(self._pending) >= _PENDING:
                self._write()

    def close(self) -> None:
        """Write what is still to be written."""
        self._write()
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def values(self) -> Iterator[tuple[str, bytes, bytes, bool]]:
        """Yield every value: kind, key, value (empty without a valid seal), and whether its seal is valid."""
        if self._connection is None:
            return
        try:
            for kind, key, value, seal in self._connection.execute(
                "SELECT kind, key, value, seal FROM sealed ORDER BY kind, key"
            ):
                sealed = self._is_true(kind, key, value, seal)
                yield kind, key, value if sealed else b"", sealed
        except sqlite3.Error:
            return

    def counts(self) -> list[Count]:
        """Return the number of values of each kind."""
        found: dict[str, Count] = {}
        for kind, _, value, sealed in self.values():
            old = found.get(kind, Count(kind, 0, 0, 0))
            found[kind] = Count(kind, old.values + 1, old.size + len(value), old.unsealed + (not sealed))
        return list(found.values())

    def drop(self, kind: str, key: bytes) -> None:
        """Delete one value."""
        self._pending.pop((kind, key), None)
        if self._connection is not None:
            with suppress(sqlite3.Error), self._connection:
                self._connection.execute("DELETE FROM sealed WHERE kind = ? AND key = ?", (kind, key))

    def clear(self) -> int:
        """Delete everything, also what has no valid seal; return the number of values."""
        self._pending = {}
        if self._connection is None:
            return 0
        try:
            with self._connection:
                dropped = self._connection.execute("DELETE FROM sealed").rowcount
            self._connection.execute("VACUUM")
        except sqlite3.Error:
            return 0
        return int(dropped)

    def _open(self) -> sqlite3.Connection | None:
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        deadline, removed = time.monotonic() + _WAIT, False
        while True:
            try:
                if self.path.exists() and not self.path.is_file():
                    return None  # reading a pipe or a device may never end
                connection = sqlite3.connect(self.path, timeout=_WAIT)
                connection.execute("PRAGMA trusted_schema = OFF")
                if not _has_own_schema(connection):
                    connection.close()
                    return None
                # Readers and a writer do not wait for each other, and a crash leaves whole transactions.
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                with connection:
                    connection.execute(_SCHEMA)
                return connection
            except sqlite3.OperationalError as error:
                # While another process makes the file, SQLite does not wait: it says at once that it is busy.
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > deadline:
                    return None
                time.sleep(_AGAIN)
            except sqlite3.DatabaseError:
                # It is no database, or a damaged one: nothing in it is worth keeping.
                if removed:
                    return None
                removed = True
                for name in (self.path, *self.path.parent.glob(f"{FILE}-*")):
                    with suppress(OSError):
                        name.unlink()

    def _write(self) -> None:
        pending, self._pending = self._pending, {}
        if self._connection is None or not pending:
            return
        now = int(time.time())
        rows = [
            (kind, key, value, self._seal(kind, key, value), now) for (kind, key), value in pending.items()
        ]
        with suppress(sqlite3.Error), self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO sealed VALUES (?, ?, ?, ?, ?)", rows)
            self._trim()

    def _trim(self) -> None:
        """Keep the file below its limit: delete the older half."""
        assert self._connection is not None
        pages = self._connection.execute("PRAGMA page_count").fetchone()[0]
        free = self._connection.execute("PRAGMA freelist_count").fetchone()[0]
        size = self._connection.execute("PRAGMA page_size").fetchone()[0]
        if (pages - free) * size > MOST_BYTES:
            self._connection.execute(
                "DELETE FROM sealed WHERE written <= (SELECT written FROM sealed ORDER BY written "
                "LIMIT 1 OFFSET (SELECT COUNT(*) / 2 FROM sealed))"
            )

    def _seal(self, kind: str, key: bytes, value: bytes) -> bytes:
        assert self._key is not None
        return seal(self._key, kind, key, value)

    def _is_true(self, kind: str, key: object, value: object, seal: object) -> bool:
        """Return whether the seal is that of these bytes under this key; a hostile file may have any."""
        if not (isinstance(key, bytes) and isinstance(value, bytes) and isinstance(seal, bytes)):
            return False
        return hmac.compare_digest(seal, self._seal(kind, key, value))
