"""Which properties a run is about; needs nothing but the specs, so it is quick to import."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from specs.properties import PROPERTIES, Property
from verify.errors import UsageError


def select(patterns: Sequence[str]) -> list[Property]:
    """The properties that match any of the globs, with those they rest on or are made of, in order.

    :raises UsageError: if a glob matches nothing.
    """
    wanted: set[str] = set() if patterns else set(PROPERTIES)
    for pattern in patterns:
        matched = fnmatch.filter(PROPERTIES, pattern)
        if not matched:
            known = ", ".join(PROPERTIES)
            raise UsageError(f"expected a property, found {pattern!r}, which matches none of: {known}")
        wanted.update(matched)
    todo = list(wanted)
    while todo:
        claim = PROPERTIES[todo.pop()]
        for ground in (*claim.rests_on, *claim.parts):
            if ground not in wanted:
                wanted.add(ground)
                todo.append(ground)
    return [claim for name, claim in PROPERTIES.items() if name in wanted]
