"""Find this user's cache."""

from __future__ import annotations

import os
from pathlib import Path

from kexec_verify.cache.store import Cache
from kexec_verify.errors import UsageError
from kexec_verify.key import user_key
from kexec_verify.target.apt import cache_root

VARIABLE = "KEXEC_VERIFY_CACHE"


def directory() -> Path:
    """Return the folder of the cache's file: the one that ``KEXEC_VERIFY_CACHE`` names, or the user's."""
    given = os.environ.get(VARIABLE)
    return Path(given) if given else cache_root() / "proofs"


def open_cache() -> Cache:
    """Return this user's cache; one that can be neither read nor written is empty."""
    try:
        place = directory()
    except UsageError:  # no home directory
        return Cache(Path(os.devnull))
    return Cache(place, user_key())
