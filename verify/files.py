"""Read files that anybody may have written or locked: within bounds, decoded strictly, named safely."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import stat
import time
import unicodedata
from pathlib import Path
from typing import Protocol

import msgspec
from kexec_verify.errors import UsageError

JSON_LIMIT = 1 << 26
"""Bytes of a JSON file; the run.json of a whole kernel has less than 2 MiB."""
TEXT_LIMIT = 1 << 26
"""Bytes of one SMT-LIB text, or of a file that a person writes."""
TARGET_LIMIT = 1 << 31
"""Bytes of a file that may be a kernel; a vmlinux with debug information has less than one GiB."""
_NAME_LIMIT = 150  # bytes; file systems allow 255, and temporary files add a prefix and a suffix
_PUNCTUATION = frozenset(".+_-=~")
_CHUNK = 1 << 20
_LOCK_LIMIT = 60.0  # seconds; a report is put in place in less than one
_LOCK_SILENT = 2.0  # seconds
_LOCK_AGAIN = 0.05  # seconds


_log = logging.getLogger(__name__)


class NotRegularError(OSError):
    """The file is not regular: reading it might wait for ever, or never end."""


def read_file(path: Path, limit: int) -> bytes:
    """Return the contents of the regular file at *path*.

    :param limit: most bytes that it may have.
    :raises OSError: it cannot be read, is no regular file, or is larger; ``strerror`` says which.
    """
    handle = _open(path)
    try:
        size = os.fstat(handle).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f"{size} bytes, more than {limit}", str(path))
        # Not beyond the size that it states: files of /proc state 0, and some wait for a reader.
        pieces = []
        while size and (piece := os.read(handle, size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)
    finally:
        os.close(handle)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of the regular file at *path* in hexadecimal, read in pieces.

    :raises OSError: it cannot be read, is no regular file, or is larger than any kernel.
    """
    digest = hashlib.sha256()
    handle = _open(path)
    try:
        size = os.fstat(handle).st_size
        if size > TARGET_LIMIT:
            raise OSError(errno.EFBIG, f"{size} bytes, more than {TARGET_LIMIT}", str(path))
        while size > 0 and (piece := os.read(handle, min(size, _CHUNK))):
            digest.update(piece)
            size -= len(piece)
    finally:
        os.close(handle)
    return digest.hexdigest()


def _open(path: Path) -> int:
    try:
        # Without O_NONBLOCK, opening a FIFO waits for a writer.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except ValueError as error:  # a NUL byte in the name
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise NotRegularError(errno.EINVAL, "a device, a pipe or a socket", str(path))
    return handle


def take_lock(handle: int, what: str, limit: float | None = None) -> None:
    """Lock the open file or folder *handle* for this process alone; say so when that takes long.

    :param what: is locked, for messages.
    :param limit: how long to wait, in seconds; by default a minute.
    :raises TimeoutError: another process keeps the lock for longer; it may be stopped.
    """
    limit = _LOCK_LIMIT if limit is None else limit
    started, reported = time.monotonic(), False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            waited = time.monotonic() - started
        if waited > limit:
            raise TimeoutError(
                errno.ETIMEDOUT,
                f"another process has locked it for {limit:.0f} s: is it stopped?",
                what,
            )
        if waited > _LOCK_SILENT and not reported:
            reported = True
            _log.warning("verify: waiting for another process that has locked %s", what)
        time.sleep(_LOCK_AGAIN)


def printable(text: str) -> str:
    """Return *text* without lone surrogates, which stand for the bytes of a name that is not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def decode_json[T](data: bytes, kind: type[T]) -> T:
    """Return the value of type *kind* in the contents of a JSON file.

    :raises msgspec.DecodeError: it is no such value, not in UTF-8, or nested too deeply.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError as error:
        raise msgspec.DecodeError("JSON that is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"JSON that is not UTF-8: {error.reason}") from error


class Record(Protocol):
    """A file's contents that state their schema."""

    @property
    def schema(self) -> int:
        """Return the schema's number."""


def read_record[T: Record](path: Path, kind: type[T], schema: int, name: str = "") -> T:
    """Return the record of type *kind* in the JSON file at *path*.

    :param schema: the number that it must state.
    :param name: what messages call such a file; by default its own name.
    :raises UsageError: it cannot be read, is no such record, or is of another schema.
    """
    name = name or path.name
    try:
        found = decode_json(read_file(path, JSON_LIMIT), kind)
    except OSError as error:
        raise UsageError(f"{path}: expected a {name}, found: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise UsageError(f"{path}: expected a {name} of schema {schema}, found: {error}") from error
    if found.schema != schema:
        raise UsageError(f"{path}: expected a {name} of schema {schema}, found schema {found.schema}")
    return found


def safe_name(text: str) -> str:
    """Return *text* as the name of one file: a name that is one stays, any other gets a short hash of *text*.

    Letters and digits of every script are kept. ``/`` and whatever a shell, gdb or a terminal obeys is
    replaced, so that the file is always in the folder that it is put into.
    """
    shown = "".join(c if c.isalnum() or c in _PUNCTUATION else "_" for c in text).lstrip(".-~")
    shown = unicodedata.normalize("NFC", shown)
    if shown == text and shown and len(shown.encode()) <= _NAME_LIMIT:
        return shown
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    short = shown.encode()[: _NAME_LIMIT - 9].decode("utf-8", "ignore")
    return f"{short or 'target'}-{digest}"


def home() -> Path:
    """Return the user's home directory.

    :raises UsageError: ``HOME`` is not set, and the user has no entry in the password database.
    """
    try:
        return Path.home()
    except RuntimeError as error:
        raise UsageError("expected a home directory, found none: set HOME") from error
