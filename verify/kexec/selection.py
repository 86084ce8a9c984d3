"""Select the properties of a run; imports only the specs, so it loads quickly."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Sequence

from kexec_verify.errors import UsageError
from kexec_verify.specs.properties import PROPERTIES, Property, grounding


def matching(pattern: str) -> list[str]:
    """Return the names of the properties that a glob matches.

    :raises UsageError: if it matches nothing.
    """
    found = fnmatch.filter(PROPERTIES, pattern)
    if not found:
        near = difflib.get_close_matches(pattern.replace("*", ""), PROPERTIES, 1, 0.5)
        like = f"; {near[0]} is near" if near else ""
        raise UsageError(f"expected a property, found {pattern!r}{like}", "verify list")
    return found


def select(patterns: Sequence[str], shows: Callable[[Property], bool] = lambda claim: True) -> list[Property]:
    """Return the properties that match a glob, and those that they depend on or consist of, in order.

    A property also depends on those that show what it assumes.

    :param shows: whether the target can show what a property says that others assume; those that it cannot
        are selected only for another reason. What they would show stays an assumption.
    :raises UsageError: if a glob matches nothing.
    """
    wanted: set[str] = set() if patterns else set(PROPERTIES)
    for pattern in patterns:
        wanted.update(matching(pattern))
    todo = list(wanted)
    while todo:
        claim = PROPERTIES[todo.pop()]
        showing = [name for name in grounding(claim.assumptions) if shows(PROPERTIES[name])]
        for ground in (*claim.rests_on, *claim.parts, *showing):
            if ground not in wanted:
                wanted.add(ground)
                todo.append(ground)
    return [claim for name, claim in PROPERTIES.items() if name in wanted]
