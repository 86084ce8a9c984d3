"""A run is compared with an earlier version of the same kernel, and never passes for want of one."""

from __future__ import annotations

import msgspec
import pytest
from kexec_verify.errors import UsageError
from kexec_verify.gate.baseline import baseline_of, changes
from kexec_verify.gate.counterpart import counterparts, flavour
from kexec_verify.gate.decide import Rule, decide
from kexec_verify.gate.policy import Policy
from kexec_verify.gate.remedy import Command, remedy

from .examples import claim, evidence, function, run, undecided, waived

OLD, NEW = "linux-image-6.1.0-55-arm64", "linux-image-6.1.0-56-arm64"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (NEW, "linux-image-*-arm64"),
        ("linux-image-6.12.9+bpo-cloud-arm64", "linux-image-*-cloud-arm64"),
        ("linux-image-6.12.41+deb13-arm64-16k", "linux-image-*-arm64-16k"),
        ("vmlinux-6.6.0-00012-g1a2b3c4d-dirty", "vmlinux-*"),
        ("vmlinux", "vmlinux"),
    ],
)
def test_flavour_is_the_name_without_its_version(name, expected):
    assert flavour(name) == expected


def test_next_version_is_held_to_the_baseline():
    before = baseline_of([run(name=OLD)])
    assert decide([evidence(run(name=NEW))], Policy(), before).notes == [
        f"{NEW} is compared with {OLD} of the baseline"
    ]
    weaker = decide([evidence(run(claim("claim-a"), undecided("claim-b"), name=NEW))], Policy(), before)
    assert Rule.WEAKER in {reason.rule for reason in weaker.reasons}


@pytest.mark.parametrize(
    "item",
    [
        run(name="linux-image-6.1.0-56-cloud-arm64"),
        run(name=NEW, functions=[msgspec.structs.replace(function(), variant="registers")]),
        run(name=NEW, functions=[msgspec.structs.replace(function(), tests_head=True)]),
        run(name=NEW, functions=[msgspec.structs.replace(function(), page_size=16384)]),
        run(name=NEW, functions=[]),
    ],
)
def test_run_that_is_of_no_target_fails(item):
    for baseline, count in ((baseline_of([run(name=OLD)]), 2), (baseline_of([]), 1)):
        decision = decide([evidence(item)], Policy(), baseline)
        assert [reason.rule for reason in decision.reasons] == [Rule.MISSING] * count
        assert decision.exit_status == 1


def test_several_candidates_are_told_apart_by_series_or_named():
    old = baseline_of([run(name=OLD), run(name="linux-image-6.12.0-3-arm64")])
    assert counterparts([run(name=NEW)], old) == {NEW: OLD}
    other = run(name="linux-image-6.6.0-1-arm64")
    with pytest.raises(
        UsageError, match=f"found {OLD}, linux-image-6.12.0-3-arm64: .*--baseline-target NAME"
    ):
        decide([evidence(other)], Policy(), old)
    assert counterparts([other], old, OLD) == {other.target.name: OLD}
    # The target that nothing was compared with still fails the gate.
    reasons = decide([evidence(other)], Policy(), old, baseline_target=OLD).reasons
    assert [(reason.rule, reason.target) for reason in reasons] == [
        (Rule.MISSING, "linux-image-6.12.0-3-arm64")
    ]
    with pytest.raises(UsageError, match="found other"):
        counterparts([other], old, "other")


def test_changes_name_the_new_version_once():
    old, new = baseline_of([run(name=OLD)]), baseline_of([run(name=NEW)])
    assert changes(old, new, counterparts([run(name=NEW)], old)) == [f"! target: {OLD} -> {NEW}"]


def suggested(item, policy, baseline=None):
    return remedy(decide([evidence(item)], policy, baseline), Command("verify gate reports", policy))


def test_what_to_add_is_named_only_where_it_makes_the_gate_pass():
    item = run(claim("claim-a"), waived())
    assert suggested(item, Policy(waivers=["x"])).endswith(': waivers = ["x", "claim-waived"]')
    assert decide([evidence(item)], Policy(waivers=["x", "claim-waived"])).passed
    assert suggested(run(), Policy(assumptions=[])).endswith(': assumptions = ["mmu-on"]')
    assert suggested(run(), Policy(), baseline_of([])) == "verify gate reports --update-baseline"
    assert suggested(run(undecided()), Policy(assumptions=[])) == ""
    assert suggested(run(), Policy()) == ""
