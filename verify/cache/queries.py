"""Queries whose answers are stored in this user's cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kexec_verify.cache.answers import Answers
from kexec_verify.cache.place import open_cache
from kexec_verify.prove.executors import solving
from kexec_verify.prove.queries import Queries


@contextmanager
def cached_queries(jobs: int = 0, cache: bool = True) -> Iterator[Queries]:
    """Return an object that sends queries to solver processes and stores their answers in the cache.

    :param jobs: processes; 0 is one for each core, and 1 this one.
    :param cache: False if no answer may be read or stored.
    """
    store = open_cache() if cache else None
    try:
        with solving(jobs) as executor:
            yield Queries(executor, Answers(store) if store is not None else None)
    finally:
        if store is not None:
            store.close()
