"""An explanation names the cause before the symptom, and says what to do."""

from __future__ import annotations

import msgspec
import pytest
from kexec_verify.report.explain import explain, explanations
from kexec_verify.report.model import SolverAnswer
from kexec_verify.verdict import BLOCKED, Verdict

from ..gate import examples

STORE = 0xFFFF80000800007C
CAUSE = {
    "step": 48,
    "at": STORE,
    "where": f"{examples.ROUTINE}+0x7c/0x120",
    "text": "stnp x12, x13, [x9]",
    "sentence": "stores to 0x6000: this makes the cache line at 0x6000 dirty",
}


def refuted(name="reloc-clean-to-poc", **shown):
    counterexample = {**examples.counterexample(), "instructions": 1080, **shown}
    return examples.claim(name, Verdict.REFUTED, counterexample=counterexample)


def test_the_store_comes_before_the_exit():
    record = refuted(causes=[CAUSE], found="dirty", registers={"x12": 0x30500800})
    told = explain(examples.run(record), record)
    assert [(point.step, point.text) for point in told.causes] == [(48, "stnp x12, x13, [x9]")]
    assert told.symptom is not None and (told.symptom.step, told.symptom.where) == (1080, examples.WHERE)
    assert told.missing == "No dc cleans this line after the store."
    assert told.values == [("x12", "0x30500800")]
    assert "dc civac" in told.remedies[0]
    text = "\n".join(told.lines())
    assert text.index("step 48") < text.index("No dc cleans") < text.index("step 1080")


def test_source_lines_of_cause_and_symptom():
    record = refuted(causes=[CAUSE], found="dirty")
    known = {STORE: "a.S:5", 0xFFFF8000080000E8: "a.S:77"}
    told = explain(examples.run(record), record, lambda run, addresses: {a: known[a] for a in addresses})
    assert told.symptom is not None
    assert (told.causes[0].source, told.symptom.source) == ("a.S:5", "a.S:77")


def test_without_an_invalidation_it_says_that_none_was_executed():
    record = refuted("reloc-icache-invalid", causes=[], found="maybe stale")
    assert explain(examples.run(record), record).missing.startswith("No ic iallu is executed")
    done = {**CAUSE, "text": "ic IALLU"}
    record = refuted("reloc-icache-invalid", causes=[done], found="invalidation not completed by a DSB")
    assert explain(examples.run(record), record).missing == "No DSB completes the invalidation."


def test_the_call_s_own_steps_show_that_no_ic_was_executed():
    record = refuted("inplace-icache-invalid", instructions=2)
    told = explain(examples.run(record), record)
    assert told.missing == "No ic instruction is among the 2 instructions of the run."


def test_the_setter_of_an_operand_is_the_cause_where_none_is_recorded():
    path = [
        {"address": STORE, "where": "f+0x0/0x8", "text": "mov x0, #0x5", "changed": {"x0": 5}},
        {"address": STORE + 4, "where": "f+0x4/0x8", "text": "br x22", "changed": {}},
    ]
    record = refuted("reloc-entry-state", path=path, instructions=9, expected="x0 = 0x0", found="0x5")
    told = explain(examples.run(record), record)
    assert [(point.step, point.text) for point in told.causes] == [(8, "mov x0, #0x5")]


@pytest.mark.parametrize(
    "reason, missing",
    [
        ("call of frob, which has no contract at f+0x4/0x8", "a contract of that callee"),
        ("kernel whose idmap_pg_dir was not found", "could not locate"),
        ("instruction pacia x0, x0 at f+0x4/0x8", "the meaning of this instruction"),
        ("loop that stores at f+0x4/0x8", "a loop of this shape"),
        ("something else", "no model"),
    ],
)
def test_unsupported_says_what_is_missing_and_whether_it_can_be_avoided(reason, missing):
    record = examples.claim("reloc-step", Verdict.UNSUPPORTED, reason=reason, obligations=[])
    told = explain(examples.run(record), record)
    assert told.what == reason
    assert missing in told.remedies[0]
    assert len(told.remedies) == 2


def test_unknown_names_the_query_and_the_time():
    required = msgspec.structs.replace(
        examples.required("reloc-step-a", Verdict.UNKNOWN, examples.WHERE),
        answers=[SolverAnswer("z3", "unknown", 60.0)],
    )
    record = examples.claim("reloc-step", Verdict.UNKNOWN, obligations=[required])
    told = explain(examples.run(record), record)
    assert told.queries == ["reloc-step-a.smt2: reloc-step-a: It holds. (z3 unknown after 60.00 s)"]
    assert told.symptom is not None and told.symptom.where == examples.WHERE
    assert any("--seed" in remedy for remedy in told.remedies)


def test_what_is_blocked_explains_its_root():
    root = refuted(causes=[CAUSE], found="dirty")
    blocked = examples.claim(
        "reloc-dest-pages", Verdict.UNKNOWN, reason=f"{BLOCKED}{root.id}, which is REFUTED", obligations=[]
    )
    run = examples.run(blocked, root)
    told = explain(run, blocked)
    assert told.root is not None and told.root.property == root.id
    assert [each.property for each in explanations(run)] == [root.id, blocked.id]


def test_a_circle_of_blocked_properties_ends():
    first = examples.claim("a", Verdict.UNKNOWN, reason=f"{BLOCKED}b, which is UNKNOWN", obligations=[])
    second = examples.claim("b", Verdict.UNKNOWN, reason=f"{BLOCKED}a, which is UNKNOWN", obligations=[])
    assert explain(examples.run(first, second), first).root is None


@pytest.mark.parametrize(
    "shown", [{"causes": 5}, {"causes": [3, {"at": "x"}]}, {"path": 7}, {"path": [3, {}], "registers": 4}]
)
def test_a_counterexample_of_another_shape_is_still_explained(shown):
    record = examples.claim("odd", Verdict.REFUTED, counterexample=shown)
    assert explain(examples.run(record), record).lines()


def test_one_reason_is_explained_once():
    reason = "loop in which no register advances at f+0x0/0x8"
    records = [
        examples.claim(name, Verdict.UNSUPPORTED, reason=reason, obligations=[]) for name in ("a", "b", "c")
    ]
    (told,) = explanations(examples.run(*records))
    assert (told.property, told.also) == ("a", ["b", "c"])
    assert "a loop of this shape" in told.remedies[0]


def test_an_operand_of_the_exit_is_not_the_cause_of_another_fault():
    path = [
        {"address": STORE, "where": "f+0x0/0x8", "text": "mov x20, #0x5", "changed": {"x20": 5}},
        {"address": STORE + 4, "where": "f+0x4/0x8", "text": "blr x20", "changed": {}},
    ]
    record = refuted("inplace-restart", path=path, instructions=2, expected="interrupts are masked")
    told = explain(examples.run(record), record)
    assert told.causes == []
    assert told.missing == "No msr daifset is among the 2 instructions of the run."


def test_what_the_verifier_lacks_is_no_task_of_the_reader():
    reason = "call of f, which has no contract at machine_kexec+0x4/0x20"
    record = examples.claim("claim-a", Verdict.UNSUPPORTED, reason=reason)
    lines = explain(examples.run(record), record).lines()
    assert "  missing  a contract of that callee in specs/contracts.py." in lines
    assert any(line.startswith("  to do    No option works around it") for line in lines)


def test_an_argument_that_a_contract_forbids_is_traced_to_what_set_it():
    shown = {
        "at": 8,
        "where": "f+0x8/0x20",
        "expected": "at f+0x8/0x20 callee is given a range that does not end below its start",
        "found": "x0 = 0x2000, which must be at most x1 = 0x10",
        "effect": "f+0x8/0x20: it does",
        "steps": [
            {"address": 0, "where": "f+0x0/0x20", "text": "mov x0, #0x2000", "changed": {"x0": "0x2000"}},
            {"address": 4, "where": "f+0x4/0x20", "text": "ldr x1, [x21]", "changed": {"x1": "0x10"}},
            {"address": 8, "where": "f+0x8/0x20", "text": "bl callee", "changed": {"x30": "0xc"}},
        ],
    }
    record = examples.claim("callee-contracts", Verdict.REFUTED, counterexample=shown)
    told = explain(examples.run(record), record)
    assert [point.text for point in told.causes] == ["mov x0, #0x2000", "ldr x1, [x21]"]
    assert told.values == [("x0", "0x2000"), ("x1", "0x10")]
    assert told.remedies[0].startswith("Give the callee arguments")
