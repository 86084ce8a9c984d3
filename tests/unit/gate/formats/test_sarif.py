"""SARIF is read by the standard's own schema, and held against rules that it cannot say.

The schema is that of SARIF 2.1.0, sarif-schema-2.1.0.json, as a package has generated classes from
it. Beside it stands a stricter one of our own, of no more than what the gate writes (sarif_schema.py).
What the standard says in prose alone is checked by hand below: a result's level where its kind is
"fail" (3.27.10), indices that fit (3.27.6), and no integer that a reader of JSON would round.
"""

from __future__ import annotations

import json

import jsonschema
import pydantic
import pytest
from fluidattacks_core.sarif import SarifLog
from kexec_verify.gate.formats import sarif

from .. import examples
from .sarif_schema import LOG

REPORTS = examples.every()
VALIDATOR = jsonschema.Draft7Validator(LOG, format_checker=jsonschema.Draft7Validator.FORMAT_CHECKER)


def rendered(name):
    return json.loads(sarif.render(REPORTS[name]))


@pytest.mark.parametrize("name", REPORTS)
def test_the_standard_s_schema_takes_it(name):
    read = SarifLog.model_validate(rendered(name))
    assert read.runs is not None and read.runs[0].tool.driver.name == "kexec-verify"


@pytest.mark.parametrize("name", REPORTS)
def test_schema_takes_it(name):
    assert [error.message for error in VALIDATOR.iter_errors(rendered(name))] == []


SPOILED = pytest.mark.parametrize(
    "spoil",
    [
        lambda log: log.pop("runs"),
        lambda log: log.update(version="2.0.0"),
        lambda log: log["runs"][0]["results"][0].pop("message"),
        lambda log: log["runs"][0]["results"][0].update(levels="error"),
        lambda log: log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"].update(
            startLine=0
        ),
        lambda log: log["runs"][0]["results"][0].update(level="fatal"),
        lambda log: log["runs"][0]["results"][0].update(ruleIndex=-2),
        lambda log: log["runs"][0]["tool"]["driver"].pop("name"),
        lambda log: log["runs"][0]["results"][0]["codeFlows"][0].pop("threadFlows"),
    ],
)


@SPOILED
def test_schema_takes_nothing_else(spoil):
    log = rendered("located")
    spoil(log)
    assert list(VALIDATOR.iter_errors(log))


@SPOILED
def test_the_standard_s_schema_takes_nothing_else(spoil):
    log = rendered("located")
    spoil(log)
    with pytest.raises(pydantic.ValidationError):
        SarifLog.model_validate(log)


@pytest.mark.parametrize("name", REPORTS)
def test_what_the_schema_cannot_say(name):
    log = rendered(name)
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(set(rules)) == len(rules)
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note")
    assert run["invocations"][0]["exitCode"] == REPORTS[name].decision.exit_status

    def integers(value):
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            return [number for inner in value for number in integers(inner)]
        return [value] if isinstance(value, int) else []

    assert all(abs(number) < 2**53 for number in integers(log))


def test_proved_is_a_rule_without_a_result():
    (run,) = rendered("proved")["runs"]
    assert run["results"] == []
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["claim-a", "claim-b"]


def test_refuted_has_its_counterexample_as_a_code_flow():
    (result,) = rendered("located")["runs"][0]["results"]
    assert (result["ruleId"], result["level"]) == ("claim-refuted", "error")
    (flow,) = result["codeFlows"][0]["threadFlows"]
    texts = [step["location"]["message"]["text"] for step in flow["locations"]]
    assert texts == ["isb", "msr sctlr_el1, x12"]
    last = flow["locations"][-1]
    assert last["state"] == {"x1": {"text": "0xffffffffffffffff"}}
    assert last["location"]["logicalLocations"][0]["fullyQualifiedName"] == examples.WHERE
    for place in (result["locations"][0], last["location"]):
        physical = place["physicalLocation"]
        assert physical["artifactLocation"]["uri"] == "arch/arm64/kernel/relocate_kernel.S"
        assert physical["region"] == {"startLine": 77}


def test_without_debug_information_the_binary_stands_for_the_file():
    (result,) = rendered("refuted")["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"] == {"artifactLocation": {"uri": "vmlinux"}}


def test_undecided_is_a_warning():
    results = rendered("undecided")["runs"][0]["results"]
    assert [(r["level"], r["properties"]["verdict"]) for r in results] == [
        ("warning", "UNKNOWN"),
        ("warning", "VACUOUS"),
    ]


def test_waived_is_suppressed_with_its_reason():
    (result,) = rendered("waived")["runs"][0]["results"]
    assert result["level"] == "note"
    (suppression,) = result["suppressions"]
    assert suppression["kind"] == "external"
    assert suppression["justification"] == "hardware keeps it coherent (docs/deviations.md)"


def test_interrupted_run_was_not_successful():
    assert rendered("proved")["runs"][0]["invocations"][0]["executionSuccessful"]
    assert not rendered("incomplete")["runs"][0]["invocations"][0]["executionSuccessful"]


@pytest.mark.parametrize(
    "shown",
    [
        {"at": "x", "where": 5},
        {"path": 7},
        {"path": [3, {}, {"address": "a", "where": None, "changed": [1]}]},
        {"path": [{"address": 2**64 - 1, "changed": {"x0": "\n", "x1": -1}}]},
    ],
)
def test_counterexample_of_another_shape_is_still_sarif(shown):
    record = examples.claim("claim-a", examples.Verdict.REFUTED, counterexample=shown)
    log = json.loads(sarif.render(examples.decided(examples.run(record), lines=lambda run, at: {})))
    assert [error.message for error in VALIDATOR.iter_errors(log)] == []
    SarifLog.model_validate(log)


def test_the_cause_is_the_place_and_the_symptom_is_related():
    cause = {
        "step": 7,
        "at": 0x10,
        "where": "f+0x0/0x8",
        "text": "str x0, [x1]",
        "sentence": "stores to 0x40",
    }
    shown = {**examples.counterexample(), "causes": [cause], "found": "dirty"}
    record = examples.claim("reloc-clean-to-poc", examples.Verdict.REFUTED, counterexample=shown)
    lines = {0x10: "a.S:5", 0xFFFF8000080000E8: "a.S:77"}
    log = json.loads(sarif.render(examples.decided(examples.run(record), lines=lambda run, at: lines)))
    assert [error.message for error in VALIDATOR.iter_errors(log)] == []
    SarifLog.model_validate(log)
    (result,) = log["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 5}
    assert [place["physicalLocation"]["region"]["startLine"] for place in result["relatedLocations"]] == [
        5,
        77,
    ]
    assert "Cause: step 7, f+0x0/0x8 (a.S:5): str x0, [x1]" in result["message"]["text"]
