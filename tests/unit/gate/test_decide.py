"""The gate's rules: what passes, and for each rule a run that fails on it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from kexec_verify.gate.baseline import baseline_of
from kexec_verify.gate.decide import Rule, decide
from kexec_verify.gate.policy import Mutants, Policy
from kexec_verify.report.model import PropertyRecord, WaiverRecord
from kexec_verify.specs.properties import PROPERTIES
from kexec_verify.verdict import Verdict
from kexec_verify.waivers import Waiver, read_waivers

from . import examples
from .examples import claim, evidence, function, mutation, refuted, run, undecided, waived


def rules(*items, policy=None, baseline=None):
    return [reason.rule for reason in decide(items, policy or Policy(), baseline).reasons]


BEFORE = baseline_of([run()])


def known_deviation(**fields: Any) -> PropertyRecord:
    """What every kernel since 2021 does, with the waiver of specs/waivers.toml."""
    own = next(waiver for waiver in read_waivers() if waiver.variant == "kimage")
    waiver = WaiverRecord(own.reason, own.reference, own.obligation, own.sentence)
    failing = msgspec.structs.replace(
        examples.required(own.obligation, Verdict.UNKNOWN), sentence=own.sentence.replace("*", "0x200/0x214")
    )
    return refuted(own.property, waiver=msgspec.structs.replace(waiver, **fields), obligations=[failing])


SHRUNK = claim("claim-b", obligations=[examples.required("claim-b-a")])
LEANING = claim("claim-b", assumptions=["mmu-on", "list-one-flag"])
EMPTY = claim("claim-b", obligations=[])
TORN = claim("claim-b", obligations=[examples.required("claim-b-a", Verdict.UNKNOWN)])
SECOND = [
    examples.required("claim-waived-a", Verdict.UNKNOWN),
    examples.required("claim-waived-b"),
    examples.required("claim-waived-c", Verdict.UNKNOWN),
]
MUTANTS = Policy(mutants=Mutants())

# name: (the evidence, policy, baseline, the rules it fails on, exit status)
FAILING = {
    "refuted": ([evidence(run(refuted()))], None, None, [Rule.REFUTED], 1),
    "undecided": ([evidence(run(undecided()))], None, None, [Rule.UNDECIDED], 3),
    "unsupported": ([evidence(run(undecided(verdict=Verdict.UNSUPPORTED)))], None, None, [Rule.UNDECIDED], 3),
    "vacuous": ([evidence(run(undecided(verdict=Verdict.VACUOUS)))], None, None, [Rule.VACUOUS], 3),
    "error": ([evidence(run(claim("claim-a", Verdict.ERROR)))], None, None, [Rule.ERROR], 70),
    "incomplete": ([evidence(run(complete=False))], None, None, [Rule.INCOMPLETE], 3),
    "no property": ([evidence(run(properties=[]))], None, None, [Rule.INCOMPLETE], 3),
    "proved of nothing": ([evidence(run(EMPTY))], None, None, [Rule.UNDECIDED], 3),
    "proved, an obligation not": ([evidence(run(TORN))], None, None, [Rule.UNDECIDED], 3),
    "another binary": ([evidence(run(), binary="cd" * 32)], None, None, [Rule.BINARY], 1),
    "waiver that is none of the tool's own": ([evidence(run(waived()))], None, None, [Rule.WAIVER], 1),
    "waiver that the policy forbids": (
        [evidence(run(known_deviation()))],
        Policy(waivers=[]),
        None,
        [Rule.WAIVER],
        1,
    ),
    "the tool's own waiver for another obligation": (
        [evidence(run(known_deviation(sentence="*")))],
        None,
        None,
        [Rule.WAIVER],
        1,
    ),
    "waiver of another": (
        [evidence(run(waived()))],
        Policy(waivers=["claim-other"]),
        None,
        [Rule.WAIVER],
        1,
    ),
    "waived, and more fails than the waiver names": (
        [evidence(run(msgspec.structs.replace(waived(), obligations=SECOND)))],
        Policy(waivers=["*"]),
        None,
        [Rule.REFUTED],
        1,
    ),
    "waived, and nothing fails that the waiver could name": (
        [evidence(run(msgspec.structs.replace(waived(), obligations=SECOND[1:2])))],
        Policy(waivers=["*"]),
        None,
        [Rule.REFUTED],
        1,
    ),
    "required": ([evidence(run())], Policy(required=["claim-a", "other-*"]), None, [Rule.MISSING], 1),
    "assumption, by policy": (
        [evidence(run(LEANING))],
        Policy(assumptions=["mmu-*"]),
        None,
        [Rule.ASSUMPTION],
        1,
    ),
    "assumption, by baseline": (
        [evidence(run(claim("claim-a"), LEANING))],
        None,
        BEFORE,
        [Rule.ASSUMPTION],
        1,
    ),
    "property gone": ([evidence(run(claim("claim-a")))], None, BEFORE, [Rule.MISSING], 1),
    "function gone": ([evidence(run(functions=[function("other")]))], None, BEFORE, [Rule.MISSING], 1),
    "target gone": (
        [evidence(run())],
        None,
        baseline_of([run(), run(name="Image")]),
        [Rule.MISSING],
        1,
    ),
    "now undecided": (
        [evidence(run(claim("claim-a"), undecided("claim-b")))],
        Policy(assumptions=["*"]),
        BEFORE,
        [Rule.WEAKER, Rule.UNDECIDED],
        1,
    ),
    "now waived": (
        [evidence(run(claim("claim-a"), waived("claim-b")))],
        Policy(waivers=["*"]),
        BEFORE,
        [Rule.WEAKER],
        1,
    ),
    "fewer obligations": ([evidence(run(claim("claim-a"), SHRUNK))], None, BEFORE, [Rule.WEAKER], 1),
    "code": (
        [evidence(run(functions=[function(sha256="cd" * 32)]))],
        Policy(same_code=["arm64_*"]),
        BEFORE,
        [Rule.CODE],
        1,
    ),
    "no mutants": ([evidence(run())], MUTANTS, None, [Rule.MUTANTS], 1),
    "mutants of another binary": (
        [evidence(run(), mutation=mutation(sha256="cd" * 32))],
        MUTANTS,
        None,
        [Rule.MUTANTS],
        1,
    ),
    "too few mutants": (
        [evidence(run(), mutation=mutation())],
        Policy(mutants=Mutants(at_least=2)),
        None,
        [Rule.MUTANTS],
        1,
    ),
    "survivor": ([evidence(run(), mutation=mutation("survivor"))], MUTANTS, None, [Rule.MUTANTS], 1),
    "phase of mutation that was skipped": (
        [evidence(run(), mutation=msgspec.structs.replace(mutation(), skipped=["faults"]))],
        MUTANTS,
        None,
        [Rule.MUTANTS],
        1,
    ),
    "unsupported mutant": (
        [evidence(run(), mutation=mutation("unsupported"))],
        MUTANTS,
        None,
        [Rule.MUTANTS],
        1,
    ),
    "no live run": ([evidence(run())], Policy(require_live=True), None, [Rule.LIVE], 1),
    "error in the verifier not noticed": (
        [evidence(run(), mutation=mutation(noticed=""))],
        MUTANTS,
        None,
        [Rule.MUTANTS],
        1,
    ),
}


@pytest.mark.parametrize("name", FAILING)
def test_gate_fails(name):
    items, policy, baseline, expected, status = FAILING[name]
    decision = decide(items, policy or Policy(), baseline)
    assert [reason.rule for reason in decision.reasons] == expected
    assert (decision.passed, decision.exit_status) == (False, status)
    assert all(reason.message for reason in decision.reasons)


def test_every_rule_has_a_run_that_fails_on_it():
    assert {rule for case in FAILING.values() for rule in case[3]} == set(Rule)


PASSING = {
    "proved": (evidence(run()), None, None),
    "waiver of the tool's own file": (evidence(run(claim("claim-a"), known_deviation())), None, None),
    "note of a waiver that matches nothing": (
        evidence(run(claim("claim-a"), notes=["claim-a is PROVED: its waiver matches nothing"])),
        None,
        None,
    ),
    "as in the baseline": (evidence(run()), None, BEFORE),
    "the binary": (evidence(run(), binary=examples.SHA), None, None),
    "waiver that is allowed": (evidence(run(claim("claim-a"), waived())), Policy(waivers=["claim-w*"]), None),
    "assumption that is allowed": (
        evidence(run(claim("claim-a"), LEANING)),
        Policy(assumptions=["list-*"]),
        BEFORE,
    ),
    "fewer assumptions": (evidence(run(claim("claim-a", assumptions=[]), claim("claim-b"))), None, BEFORE),
    "other code": (evidence(run(functions=[function(sha256="cd" * 32)])), None, BEFORE),
    "a property more": (
        evidence(run(claim("claim-a"), claim("claim-b"), claim("claim-c", assumptions=[]))),
        None,
        BEFORE,
    ),
    "composed of parts": (
        evidence(run(claim("claim-a", obligations=[], parts=["claim-b"]), claim("claim-b"))),
        None,
        None,
    ),
    "mutants": (evidence(run(), mutation=mutation()), MUTANTS, None),
    "equivalent mutant": (evidence(run(), mutation=mutation("equivalent")), MUTANTS, None),
    "unsupported mutant that is allowed": (
        evidence(run(), mutation=mutation("unsupported")),
        Policy(mutants=Mutants(allow_unsupported=True)),
        None,
    ),
    "bad mutants that nobody asks for": (evidence(run(), mutation=mutation("survivor")), None, None),
}


def _theorem(variant: str = "kimage"):
    """Every property of the specs that is about a form, PROVED."""
    claims = [
        claim(known.id, rests_on=list(known.rests_on), parts=list(known.parts))
        for known in PROPERTIES.values()
        if known.variant in (None, variant)
    ]
    return run(*claims, functions=[msgspec.structs.replace(function(), variant=variant)])


@pytest.mark.parametrize("variant", ["kimage", "registers"])
def test_theorem_over_all_its_parts_passes(variant):
    assert rules(evidence(_theorem(variant))) == []


@pytest.mark.parametrize("edit", ["deleted", "refuted", "unknown", "unnamed"])
def test_theorem_is_rejected_without_any_one_of_its_parts(edit):
    """By the specs, whatever the record says that it is made of."""
    whole = _theorem()
    theorem = PROPERTIES["kexec-reaches-entry"]
    for part in theorem.parts:
        if PROPERTIES[part].variant not in (None, "kimage"):
            continue
        records = []
        for record in whole.properties:
            if record.id != part:
                records.append(msgspec.structs.replace(record, rests_on=[], parts=[]))
            elif edit == "refuted":
                records.append(msgspec.structs.replace(record, verdict=Verdict.REFUTED))
            elif edit == "unknown":
                records.append(msgspec.structs.replace(record, verdict=Verdict.UNKNOWN))
            elif edit == "unnamed":
                records.append(msgspec.structs.replace(record, id=f"{part}-2"))
        reasons = decide([evidence(msgspec.structs.replace(whole, properties=records))], Policy()).reasons
        assert (Rule.UNDECIDED, theorem.id) in {(reason.rule, reason.property) for reason in reasons}, part


def test_property_is_rejected_without_what_it_rests_on():
    found = decide([evidence(run(claim("reloc-step")))], Policy()).reasons
    assert [reason.message for reason in found] == [
        "PROVED, though reloc-covered, which it is made of or rests on, is not in the run"
    ]


@pytest.mark.parametrize("name", PASSING)
def test_gate_passes(name):
    item, policy, baseline = PASSING[name]
    decision = decide([item], policy or Policy(), baseline)
    assert decision.reasons == []
    assert (decision.passed, decision.exit_status) == (True, 0)


def test_reasons_start_with_the_worst():
    items = [evidence(run(undecided(), claim("claim-e", Verdict.ERROR), refuted(), waived()))]
    assert rules(*items) == [Rule.ERROR, Rule.REFUTED, Rule.WAIVER, Rule.UNDECIDED]


def test_what_was_not_proved_before_is_not_held_to_the_baseline():
    before = baseline_of([run(claim("claim-a"), undecided())])
    assert rules(evidence(run(claim("claim-a"))), baseline=before) == []


def test_property_of_two_functions_is_held_to_each():
    both = run(claim("claim-a", function="f"), claim("claim-a", function="g"))
    found = decide([evidence(run(claim("claim-a", function="f")))], Policy(), baseline_of([both]))
    assert [(reason.rule, reason.property) for reason in found.reasons] == [(Rule.MISSING, "claim-a@g")]


@pytest.mark.parametrize(("where", "passed"), [("", True), ("machine_kexec+0x8", False)])
def test_a_waiver_of_the_users_file_passes_only_if_it_is_the_one_that_the_run_used(where, passed):
    record = waived()
    used = record.waiver
    assert used is not None
    mine = Waiver(record.id, "kimage", used.obligation, used.sentence, "known", "here", where, "mine.toml")
    assert decide([evidence(run(record))], Policy(), waivers=[mine]).passed is passed
    assert not decide([evidence(run(record))], Policy(waivers=[]), waivers=[mine]).passed
