"""What a property's verdict becomes when one that it depends on is not proved."""

from __future__ import annotations

from kexec_verify.specs.properties import Property
from kexec_verify.theorems import Finding, apply_dependencies, restate_blocked
from kexec_verify.verdict import BLOCKED, Verdict


def finding(name: str, verdict: Verdict, *grounds: str) -> Finding:
    return Finding(Property(name, "T1", "It holds.", (), grounds), verdict)


def test_one_cause_is_named_for_all_that_it_blocks():
    findings = [
        finding("a", Verdict.REFUTED),
        finding("b", Verdict.PROVED, "a"),
        finding("c", Verdict.PROVED, "b"),
        finding("d", Verdict.PROVED, "c", "b"),
        finding("e", Verdict.PROVED),
    ]
    apply_dependencies(findings)
    assert [f.verdict for f in findings[1:]] == [Verdict.UNKNOWN] * 3 + [Verdict.PROVED]
    assert {f.reason for f in findings[1:4]} == {f"{BLOCKED}a, which is REFUTED"}
    assert {f.blocked_by for f in findings[1:4]} == {"a"}


def test_own_reason_is_kept():
    own = finding("b", Verdict.UNSUPPORTED, "a")
    own.reason = "call of f, which has no contract"
    apply_dependencies([finding("a", Verdict.UNKNOWN), own])
    assert (own.verdict, own.reason, own.blocked_by) == (
        Verdict.UNSUPPORTED,
        "call of f, which has no contract",
        "",
    )


def test_a_blocked_property_names_the_final_verdict_of_its_cause():
    cause, blocked, own = (
        finding("a", Verdict.UNKNOWN),
        finding("b", Verdict.PROVED, "a"),
        finding("c", Verdict.PROVED, "a"),
    )
    apply_dependencies([cause, blocked, own])
    cause.verdict = own.verdict = Verdict.REFUTED
    own.reason = "a run shows it"
    restate_blocked([cause, blocked, own])
    assert (blocked.verdict, blocked.reason) == (Verdict.UNKNOWN, f"{BLOCKED}a, which is REFUTED")
    assert (own.reason, own.blocked_by) == ("a run shows it", "")
