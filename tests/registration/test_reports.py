"""The files that a pipeline reads of a promotion, whichever way it ends."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fm_mlflow.errors import FmMlflowError, InputError, Interrupted, TrackingError
from fm_mlflow.registration.reports import reported
from fm_mlflow.results.register import GateError
from fm_mlflow.terminal.output import report_refusal
from tests.terminal.test_register import VERIFIED


def told(folder: Path, error: BaseException) -> tuple[str, str]:
    """What the JUnit file and the summary say first of an error."""
    files = {"junit": str(folder / "gates.xml"), "summary": str(folder / "gates.md")}
    with pytest.raises(type(error)), reported(files):
        raise error
    (case,) = ElementTree.parse(folder / "gates.xml").getroot().findall("testcase/*")
    return case.tag, (folder / "gates.md").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("error", "tag", "title"),
    [
        (GateError("it is of another data set"), "failure", "## Not promoted"),
        (InputError("max_flops", "x", "a number"), "error", "## Not decided"),
        (TrackingError("the store does not answer"), "error", "## Not decided"),
        (RuntimeError("a library's"), "error", "## Not decided"),
        (Interrupted(15), "error", "## Not decided"),
    ],
)
def test_whatever_ends_it_is_written(
    error: BaseException, tag: str, title: str, tmp_path: Path
) -> None:
    assert told(tmp_path, error) == (tag, title)


def test_the_checks_of_what_was_refused_are_there(tmp_path: Path) -> None:
    refused = replace(VERIFIED, outcome="refused")
    file = tmp_path / "gates.xml"
    with pytest.raises(GateError), reported({"junit": str(file)}):
        raise GateError("no", refused)
    assert ElementTree.parse(file).getroot().get("tests") == "4"  # of it, and that it was refused


def test_a_promotion_whose_report_cannot_be_written_is_not_called_undecided(tmp_path: Path) -> None:
    (gone := tmp_path / "gone").mkdir()
    files = {"summary": str(tmp_path / "gates.md"), "junit": str(gone / "gates.xml")}
    done = replace(VERIFIED, outcome="registered", version=2)
    said = "version 2 of digits-classifier, on digits, is registered .*; but .* cannot be written: "

    def promote() -> None:
        with reported(files) as report:
            shutil.rmtree(gone)
            report(done)

    with pytest.raises(FmMlflowError, match=said):
        promote()
    assert (tmp_path / "gates.md").read_text().startswith("## Promoted: mlp, seed 0")


@pytest.mark.parametrize("name", ["junit", "summary"])
def test_where_no_file_can_lie_nothing_is_begun(name: str, tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "no" / "file", tmp_path / ("x" * 300)):
        accepted = f"{name}: received .*, accepted: a file in an existing folder"
        with pytest.raises(InputError, match=accepted), reported({name: str(place)}):
            pytest.fail("it was begun")


def test_two_reports_in_one_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    files = {"junit": str(tmp_path / "gates"), "summary": str(tmp_path / "link" / "gates")}
    accepted = "summary: received .*, accepted: another file than that of junit"
    with pytest.raises(InputError, match=accepted), reported(files):
        pytest.fail("it was begun")
    assert ElementTree.parse(tmp_path / "gates").getroot().get("errors") == "1"
    # The command line writes once more what refused it, in the order of its words.
    words = ["register", "--summary", files["summary"], "--junit", files["junit"]]
    report_refusal(InputError("summary", "gates", "another file"), words)
    assert ElementTree.parse(tmp_path / "gates").getroot().get("errors") == "1"


def test_what_is_no_path_is_left_to_the_settings() -> None:
    with (
        pytest.raises(TrackingError, match="begun"),
        reported({"junit": "a\0", "summary": "a\0b"}),
    ):
        raise TrackingError("begun")
