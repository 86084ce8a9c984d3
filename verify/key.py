"""The user's key, and the seals that are made with it.

A seal is a keyed hash (HMAC-SHA256, RFC 2104) of what a cached value is for and of the value. The key
is stored apart from every cache. So whoever can write to a cache can damage it, but cannot forge entries.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from kexec_verify.errors import UsageError
from kexec_verify.files import home, read_file

KEY_VARIABLE = "KEXEC_VERIFY_CACHE_KEY"
_KEY_BYTES = 32


def config_root() -> Path:
    """Return the user's configuration directory (XDG base directories)."""
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG specification has relative paths ignored.
    root = Path(configured) if configured.startswith("/") else home() / ".config"
    return root / "kexec-verify"


def user_key() -> bytes | None:
    """Return the key of this user's seals, creating it at first use; None if that fails.

    ``KEXEC_VERIFY_CACHE_KEY`` names a key that several machines share, such as those of a CI.
    """
    given = os.environ.get(KEY_VARIABLE)
    if given:
        return hashlib.sha256(given.encode()).digest()
    try:
        path = config_root() / "cache.key"
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            # Of two simultaneous runs one creates it. The content is written before the name exists.
            fresh = path.with_name(f".{path.name}.{os.getpid()}")
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.write(handle, secrets.token_bytes(_KEY_BYTES))
                os.link(fresh, path)
            finally:
                os.close(handle)
                fresh.unlink()
        key = read_file(path, _KEY_BYTES)
    except (OSError, UsageError):
        return None
    return key if len(key) == _KEY_BYTES else None


def seal(key: bytes, kind: str, name: bytes, value: bytes) -> bytes:
    """Return the seal of *value*, for the given *kind* of entry and its *name*."""
    place = f"{kind}\0{len(name)}\0".encode() + name
    return hmac.new(key, place + value, hashlib.sha256).digest()
