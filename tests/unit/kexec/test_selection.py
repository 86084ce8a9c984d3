"""Which properties a run is about: globs, and what the matching ones rest on."""

from __future__ import annotations

import pytest
from kexec_verify.errors import UsageError
from kexec_verify.kexec.selection import select
from kexec_verify.specs.properties import PROPERTIES


def names(*patterns: str) -> list[str]:
    return [claim.id for claim in select(patterns)]


def test_no_glob_is_everything_in_the_order_of_the_specs():
    assert names() == list(PROPERTIES)


def test_name_brings_what_it_rests_on():
    assert names("reloc-dest-pages") == [
        "reloc-covered",
        "reloc-effects",
        "reloc-step",
        "reloc-memory-safe",
        "reloc-dest-pages",
        "tables-copy-writable",
    ]
    assert names("reloc-covered") == ["reloc-covered"]


@pytest.mark.parametrize("claim", PROPERTIES.values(), ids=list(PROPERTIES))
def test_name_brings_what_shows_its_assumptions(claim):
    """A copy that is read-only blocks a proof whichever properties are asked for."""
    chosen = select([claim.id])
    assumed = {name for other in chosen for name in other.assumptions}
    showing = {other.id for other in PROPERTIES.values() if assumed.intersection(other.grounds)}
    assert showing <= {other.id for other in chosen}


def test_what_assumes_the_copied_map_brings_its_proof():
    assert "tables-copy-writable" in names("reloc-memory-safe")
    assert "tables-copy-writable" not in names("reloc-covered")


def test_what_the_target_cannot_show_stays_an_assumption():
    def chosen(pattern: str) -> set[str]:
        return {claim.id for claim in select([pattern], lambda claim: False)}

    assert "tables-copy-writable" not in chosen("reloc-memory-safe")
    assert "tables-copy-writable" in chosen("tables-copy-writable")
    assert "tables-copy-writable" in chosen("kexec-reaches-entry")


def test_globs_add_up():
    assert set(names("reloc-icache*", "reloc-terminates")) == {
        "reloc-covered",
        "reloc-step",
        "reloc-terminates",
        "reloc-icache-invalid",
    }


def test_order_of_globs_does_not_matter():
    assert names("reloc-terminates", "reloc-covered") == names("reloc-covered", "reloc-terminates")


@pytest.mark.parametrize("pattern", list(PROPERTIES))
def test_selection_is_closed(pattern):
    chosen = select([pattern])
    for claim in chosen:
        assert set(claim.rests_on) <= {other.id for other in chosen}


@pytest.mark.parametrize("patterns", [["nothing-*"], ["reloc-step", "typo"], [""]])
def test_glob_that_matches_nothing_is_an_error_that_names_the_properties(patterns):
    with pytest.raises(UsageError, match=r"^expected a property, found '.*'"):
        select(patterns)
