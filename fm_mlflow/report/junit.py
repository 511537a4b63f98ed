"""A promotion as a JUnit file, which CI services list: a test case for each check and each gate."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from fm_mlflow.escaping import printable
from fm_mlflow.process.redaction import one_line
from fm_mlflow.results.register import Check, Gate, GateError, Registration


def to_junit(registration: Registration | None, error: BaseException | None) -> str:
    """Return the XML of one test suite.

    Args:
        registration: What was checked, as far as it came.
        error: Why the model was refused, which is a failure; or why nothing could be decided, which
            is an error.
    """
    suite = ET.Element("testsuite", name="fm-mlflow register")
    if registration is not None:
        suite.set("name", printable(f"{registration.name}: {registration.run_name}"))
        for check in registration.checks:
            _check(_case(suite, "verified", check.figure), check)
        for gate in registration.gates:
            _gate(_case(suite, "gate", gate.name), gate)
    if error is not None and suite.find("testcase/failure") is None:
        tag = "failure" if isinstance(error, GateError) else "error"
        ET.SubElement(_case(suite, "promotion", "decided"), tag, message=one_line(error))
    for count, path in (
        ("tests", "testcase"),
        ("failures", "testcase/failure"),
        ("errors", "testcase/error"),
        ("skipped", "testcase/skipped"),
    ):
        suite.set(count, str(len(suite.findall(path))))
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=False) + "\n"


def _case(suite: ET.Element, group: str, name: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=f"register.{group}", name=printable(name))


def _check(case: ET.Element, check: Check) -> None:
    found = printable(f"logged {check.logged}, found {check.measured}; required: {check.rule}")
    if check.passed is None:
        ET.SubElement(case, "skipped", message=found)
    elif not check.passed:
        ET.SubElement(case, "failure", message=found)


def _gate(case: ET.Element, gate: Gate) -> None:
    if not gate.passed:
        found = printable(
            f"required {gate.bound}, found {gate.figure}; it would pass with {gate.needed}"
        )
        ET.SubElement(case, "failure", message=found)
