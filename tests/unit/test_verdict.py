"""Verdicts: only PROVED is green, a claim is as bad as its worst part."""

from __future__ import annotations

import itertools

import pytest
from kexec_verify.verdict import Verdict, join

ORDER = ["PROVED", "VACUOUS", "UNSUPPORTED", "UNKNOWN", "CONTRADICTED", "REFUTED", "ERROR"]


def test_order_goes_from_good_to_bad():
    assert sorted(Verdict, key=lambda verdict: verdict.rank) == ORDER


@pytest.mark.parametrize("left, right", list(itertools.product(Verdict, Verdict)))
def test_join_is_the_worse_of_two(left, right):
    worse = max(left, right, key=lambda verdict: ORDER.index(verdict))
    assert join([left, right]) is worse
    assert join([right, left]) is worse


def test_join_of_nothing_is_not_proved():
    assert join([]) is Verdict.UNKNOWN


def test_one_bad_part_spoils_any_number_of_proofs():
    for bad in set(Verdict) - {Verdict.PROVED}:
        assert join([Verdict.PROVED] * 9 + [bad] + [Verdict.PROVED] * 9) is bad


def test_exit_status_of_each_verdict():
    assert {str(verdict): verdict.exit_status for verdict in Verdict} == {
        "PROVED": 0,
        "REFUTED": 1,
        "VACUOUS": 3,
        "UNSUPPORTED": 3,
        "UNKNOWN": 3,
        "CONTRADICTED": 3,
        "ERROR": 70,
    }


def test_only_proved_exits_with_zero():
    assert [verdict for verdict in Verdict if verdict.exit_status == 0] == [Verdict.PROVED]
