"""The seal of a run.json: that this user's tool wrote it, and that nobody changed a byte since.

What a run had to prove of a target follows from the target's bytes and is not to be seen in the run's own
files: whoever edits run.json can leave out what fails. A seal, a keyed hash (HMAC-SHA256, RFC 2104) with
the key of :mod:`kexec_verify.cache.store`, tells such an edit. Whoever has the key can make seals.
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
    """The seal of a run.json's contents, in hexadecimal; None if this user has no key."""
    key = user_key()
    return hmac.new(key, _WHAT + data, hashlib.sha256).hexdigest() if key is not None else None


def is_sealed(data: bytes, directory: Path) -> bool:
    """The seal in ``directory`` is the one that this user's key makes of these contents."""
    expected = seal_of(data)
    try:
        found = read_file(directory / FILE, _LIMIT).decode().strip()
    except (OSError, UnicodeDecodeError):
        return False
    return expected is not None and hmac.compare_digest(found.encode(), expected.encode())
