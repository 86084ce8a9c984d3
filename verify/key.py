"""The user's own key, and the seals that are made with it.

A seal is a keyed hash (HMAC-SHA256, RFC 2104) of what a cached value is for and of the value. The key
lies apart from every cache, so that whoever can write there can damage it, but not make it lie.
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
    """The directory for what is the user's own (XDG base directories)."""
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG specification has relative paths ignored.
    root = Path(configured) if configured.startswith("/") else home() / ".config"
    return root / "kexec-verify"


def user_key() -> bytes | None:
    """The key of this user's seals, made at first use; None if it can neither be read nor made.

    ``KEXEC_VERIFY_CACHE_KEY`` names one that several machines share, such as those of a CI.
    """
    given = os.environ.get(KEY_VARIABLE)
    if given:
        return hashlib.sha256(given.encode()).digest()
    try:
        path = config_root() / "cache.key"
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            # Of two runs at once one makes it. It has its content before it has its name.
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
    """The seal that says: of this kind of thing, *name* has this *value*."""
    place = f"{kind}\0{len(name)}\0".encode() + name
    return hmac.new(key, place + value, hashlib.sha256).digest()
