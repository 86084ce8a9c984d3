"""Seal a run.json, to show that this user's tool wrote it and that no byte has changed since.

Which obligations a target has follows from the target's bytes, and cannot be seen in the run's own files.
So whoever edits run.json can leave out what fails. A seal, a keyed hash (HMAC-SHA256, RFC 2104) with the
key of :mod:`kexec_verify.cache.store`, reveals such an edit. Whoever has the key can make seals.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from kexec_verify.files import read_file
from kexec_verify.key import user_key

FILE = "run.seal"
_LIMIT = 1 << 10  # bytes; a seal has 65
_WHAT = b"run.json\0"  # the key seals other things too


def seal_of(data: bytes) -> str | None:
    """Return the seal of a run.json's contents, in hexadecimal; None if this user has no key."""
    key = user_key()
    return hmac.new(key, _WHAT + data, hashlib.sha256).hexdigest() if key is not None else None


def is_sealed(data: bytes, directory: Path) -> bool:
    """Return whether the seal in ``directory`` is the one that this user's key makes of these contents."""
    expected = seal_of(data)
    try:
        found = read_file(directory / FILE, _LIMIT).decode().strip()
    except (OSError, UnicodeDecodeError):
        return False
    return expected is not None and hmac.compare_digest(found.encode(), expected.encode())
