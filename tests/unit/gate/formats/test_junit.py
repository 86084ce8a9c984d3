"""JUnit XML is held against a reader that CI systems' plugins are like, and against its own counts."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import junitparser
import pytest
from kexec_verify.gate.formats import junit

from .. import examples

REPORTS = examples.every()
OUTCOMES = {"failure", "error", "skipped"}


def suites(name):
    document = junitparser.JUnitXml.fromstring(junit.render(REPORTS[name]).encode())
    return {suite.name: suite for suite in document}


def cases(name, suite="vmlinux"):
    return {case.name: case for case in suites(name)[suite]}


@pytest.mark.parametrize("name", REPORTS)
def test_shape_and_counts(name):
    """The elements and attributes that readers agree on (there is no standard), with counts that add up."""
    root = ElementTree.fromstring(junit.render(REPORTS[name]))
    assert root.tag == "testsuites"
    for suite in root:
        assert suite.tag == "testsuite"
        assert set(suite.attrib) - {"timestamp"} == {"name", "tests", "failures", "errors", "skipped", "time"}
        found = suite.findall("testcase")
        assert int(suite.attrib["tests"]) == len(found)
        for element, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert int(suite.attrib[attribute]) == sum(case.find(element) is not None for case in found)
        for case in found:
            assert set(case.attrib) == {"classname", "name", "time"}
            assert len(case) <= 1 and {child.tag for child in case} <= OUTCOMES
            float(case.attrib["time"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d|", suite.attrib.get("timestamp", ""))


@pytest.mark.parametrize("name", REPORTS)
def test_reader_sees_what_was_decided(name):
    red = [
        case
        for suite in suites(name).values()
        for case in suite
        if any(isinstance(result, junitparser.Failure | junitparser.Error) for result in case.result)
    ]
    assert (not red) == REPORTS[name].decision.passed


def test_proved():
    assert all(case.is_passed for case in cases("proved").values())


def test_refuted_is_a_failure():
    found = cases("refuted")
    (result,) = found["claim-refuted"].result
    assert isinstance(result, junitparser.Failure)
    assert result.type == "REFUTED"
    assert examples.WHERE in result.message
    assert found["claim-a"].is_passed
    assert found["claim-a"].classname == f"vmlinux.{examples.ROUTINE}"


def test_undecided_is_an_error():
    (result,) = cases("undecided")["claim-undecided"].result
    assert isinstance(result, junitparser.Error)
    assert result.type == "UNKNOWN"


def test_waived_is_skipped():
    case = cases("waived")["claim-waived"]
    (result,) = case.result
    assert isinstance(result, junitparser.Skipped)
    assert result.message.startswith("REFUTED (waived): ")
    assert not case.is_passed


def test_interrupted_run_has_an_error():
    (result,) = cases("incomplete")["complete"].result
    assert isinstance(result, junitparser.Error)


def test_hostile_names_come_back_escaped():
    suite = next(s for s in suites("hostile").values() if s.name != "gate")
    assert "]]><b a='1'>&\"|#`\\x1b[31m\\u202e##\\x5badd-mask]\\x00" in suite.name
