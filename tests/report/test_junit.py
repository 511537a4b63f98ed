"""Promotions as JUnit files."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

from fm_mlflow.errors import InputError
from fm_mlflow.report.junit import to_junit
from fm_mlflow.results.register import Check, Gate, GateError
from tests.terminal.test_register import VERIFIED

HOSTILE = 'a "name" <b>&\x1b[2J\x00\n</testsuite>\ufffe\ud800'


def test_foreign_text_stays_text() -> None:
    refused = replace(
        VERIFIED,
        run_name=HOSTILE,
        checks=(Check(HOSTILE, HOSTILE, None, HOSTILE, False),),
        gates=(Gate(HOSTILE, HOSTILE, HOSTILE, True),),
    )
    suite = ET.fromstring(to_junit(refused, GateError(HOSTILE, refused)))
    shown = r'a "name" <b>&\x1b[2J\x00\n</testsuite>\ufffe\ud800'
    assert [case.get("name") for case in suite] == [shown, shown]
    assert suite.get("tests") == "2"
    (failure,) = suite.findall("testcase/failure")
    assert failure.get("message") == f"logged {shown}, found None; required: {shown}"


def test_what_was_refused_before_any_check_is_one_failure() -> None:
    suite = ET.fromstring(to_junit(None, GateError("it is of another data set")))
    (failure,) = suite.findall("testcase/failure")
    assert failure.get("message") == "not promoted: it is of another data set"
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("1", "1", "0")


def test_what_could_not_be_decided_is_an_error_and_no_failure() -> None:
    suite = ET.fromstring(to_junit(None, InputError("max_flops", HOSTILE, "a number")))
    (error,) = suite.findall("testcase/error")
    assert str(error.get("message")).startswith('max_flops: received \'a "name" <b>&')
    counts = [suite.get(name) for name in ("tests", "failures", "errors", "skipped")]
    assert counts == ["1", "0", "1", "0"]


def test_what_nothing_is_demanded_of_is_skipped() -> None:
    told = replace(VERIFIED, checks=(Check("latency", 1.0, 2.0, "nothing", None),), gates=())
    assert ET.fromstring(to_junit(told, None)).get("skipped") == "1"
