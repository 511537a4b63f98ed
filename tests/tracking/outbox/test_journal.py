"""The journal on the disk: what survives, and what is told."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from fm_mlflow.errors import TrackingError
from fm_mlflow.process.file_lock import LockedError
from fm_mlflow.tracking.outbox import journal as journals_module
from fm_mlflow.tracking.outbox.journal import Journal, journals, open_journal
from tests.limits import largest_file


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FM_MLFLOW_JOURNAL_DIR", str(tmp_path / "journals"))
    return tmp_path / "journals"


def new(name: str = "j-1") -> Journal:
    return Journal.create(name, {"number": "header"})


def reopened(journal: Journal) -> Journal:
    journal.close()
    return Journal.open(journal.folder)


def records(journal: Journal) -> list[dict[str, object]]:
    """All but the header."""
    return [journal[number] for number in range(1, len(journal))]


def test_what_is_written_is_read() -> None:
    journal = new()
    journal.append({"text": "ünïcode \n \ud800 \0", "values": [math.inf, -math.inf, 5e-324, 0.1]})
    journal.append({"nan": math.nan}, durable=True)
    journal = reopened(journal)
    first, second = records(journal)
    assert first == {
        "text": "ünïcode \n \ud800 \0",
        "values": [math.inf, -math.inf, 5e-324, 0.1],
    }
    assert math.isnan(second["nan"])  # type: ignore[arg-type]
    assert journal.damaged == 0


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_a_torn_last_line_is_dropped(cut: int) -> None:
    journal = new()
    for number in range(3):
        journal.append({"number": number})
    path = journal.folder / "journal.jsonl"
    journal.close()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - cut)
    journal = Journal.open(journal.folder)
    assert [record["number"] for record in records(journal)] == [0, 1]
    assert journal.damaged == 0
    journal.append({"number": "again"})
    assert [record["number"] for record in records(reopened(journal))] == [0, 1, "again"]


def test_a_damaged_line_is_counted_and_the_others_are_kept() -> None:
    journal = new()
    for number in range(3):
        journal.append({"number": number})
    path = journal.folder / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"number":1', b'"number":7'))
    journal = reopened(journal)
    assert [record["number"] for record in records(journal)] == [0, 2]
    assert journal.damaged == 1


def test_one_process_at_a_time(root: Path) -> None:
    journal = new()
    with pytest.raises(LockedError, match=f"process {os.getpid()} holds"):
        Journal.open(journal.folder)
    with pytest.raises(LockedError):
        open_journal("j-1")
    journal.close()
    Journal.open(journal.folder).remove()
    assert list(journals()) == []
    assert open_journal("j-1") is None


def test_the_state_is_kept() -> None:
    journal = new()
    journal.state.run_id, journal.state.position = "abc", 7
    journal.state.models = {"3": "m-3", "10": "m-10"}
    journal.save_state()
    state = reopened(journal).state
    assert (state.run_id, state.position) == ("abc", 7)
    assert [state.model_before(number) for number in (3, 4, 10, 11)] == [None, "m-3", "m-3", "m-10"]


def test_a_full_disk_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    journal = new()
    with largest_file(120):
        for number in range(10):
            journal.append({"number": number}, durable=True)
        assert [record["number"] for record in records(journal)] == list(range(10))
        assert (journal.folder / "journal.jsonl").stat().st_size == 120  # a torn line at the end
    (warning,) = caplog.messages  # once, not for each record
    assert "cannot be written (No space left on device); the run goes on" in warning
    journal.append({"number": 10})  # there is room again
    assert [record["number"] for record in records(reopened(journal))] == list(range(11))


def test_a_root_that_cannot_be_written_gives_way(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.write_text("a file, not a folder")
    monkeypatch.chdir(tmp_path)
    journal = new()
    assert journal.folder == tmp_path / ".fm_mlflow" / "journal" / "j-1"
    assert list(journals()) == [journal.folder]
    journal.close()

    monkeypatch.setattr(journals_module, "_WORKING_DIRECTORY_ROOT", root / "below")
    with pytest.raises(TrackingError, match="set FM_MLFLOW_JOURNAL_DIR to a folder that can"):
        new("j-2")


def test_the_root_follows_the_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FM_MLFLOW_JOURNAL_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    assert str(journals_module.journal_root()) == "/var/state/fm_mlflow/journal"


def test_lines_are_json_with_a_checksum() -> None:
    journal = new()
    journal.append({"a": 1})
    _, line = (journal.folder / "journal.jsonl").read_text().splitlines()
    checksum, _, text = line.partition(" ")
    assert len(checksum) == 8
    assert json.loads(text) == {"a": 1}
