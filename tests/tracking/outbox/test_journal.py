"""The journal on the disk: what survives, and what is told."""

from __future__ import annotations

import json
import math
import os
import zlib
from pathlib import Path

import pytest

from fm_mlflow import sync
from fm_mlflow.process.file_lock import LockedError
from fm_mlflow.tracking.outbox import state as state_module
from fm_mlflow.tracking.outbox.journal import Journal, journals, open_journal
from fm_mlflow.tracking.outbox.records import Batch, Point, RunStart
from tests.limits import largest_file
from tests.stores import Store


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FM_MLFLOW_JOURNAL_DIR", str(tmp_path / "journals"))
    return tmp_path / "journals"


def new(name: str = "j-1") -> Journal:
    header = RunStart("sqlite:///here.db", None, True, "a run", 1, None, None, {})
    return Journal.create(name, header)


def numbered(number: int | str) -> Batch:
    return Batch(tags={"number": str(number)})


def reopened(journal: Journal) -> Journal:
    journal.close()
    return Journal.open(journal.folder)


def numbers(journal: Journal) -> list[str]:
    """The numbers of all records but the header."""
    return [each.tags["number"] for each in journal.records[1:] if isinstance(each, Batch)]


def test_what_is_written_is_read() -> None:
    journal = new()
    values = [math.inf, -math.inf, 5e-324, 0.1, math.nan]
    points = tuple(Point("loss", value, 1, step) for step, value in enumerate(values))
    journal.append(Batch(points, tags={"text": "ünïcode \n \ud800 \0"}), durable=True)
    header = journal.header
    journal = reopened(journal)
    assert journal.header == header
    (read,) = journal.records[1:]
    assert isinstance(read, Batch)
    assert read.tags == {"text": "ünïcode \n \ud800 \0"}
    assert read.metrics[:4] == points[:4]
    assert math.isnan(read.metrics[4].value)
    assert journal.damaged == 0


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_a_torn_last_line_is_dropped(cut: int) -> None:
    journal = new()
    for number in range(3):
        journal.append(numbered(number))
    path = journal.folder / "journal.jsonl"
    journal.close()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - cut)
    journal = Journal.open(journal.folder)
    assert numbers(journal) == ["0", "1"]
    assert journal.damaged == 0
    journal.append(numbered("again"))
    assert numbers(reopened(journal)) == ["0", "1", "again"]


@pytest.mark.parametrize("place", ["before it is written", "after it is written"])
def test_a_record_that_is_interrupted_keeps_its_number(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    journal = new()
    with monkeypatch.context() as patched:

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        if place == "after it is written":
            patched.setattr(os, "fsync", interrupt)
        else:
            patched.setattr(journal, "_write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            journal.append(numbered("first"), durable=True)
    journal.append(numbered("second"))
    assert numbers(journal) == ["first", "second"]
    journal = reopened(journal)
    assert numbers(journal) == ["first", "second"]
    assert journal.damaged == 0


def test_a_damaged_line_is_counted_and_the_others_are_kept() -> None:
    journal = new()
    for number in range(3):
        journal.append(numbered(number))
    path = journal.folder / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"number":"1"', b'"number":"7"'))
    journal = reopened(journal)
    assert numbers(journal) == ["0", "2"]
    assert (len(journal.records), journal.damaged) == (4, 1)
    assert journal.damage == "line 3: it is damaged"


def test_a_record_of_a_later_version_is_named_and_the_others_are_delivered(store: Store) -> None:
    journal = new()
    journal.append(numbered(1))
    journal.close()
    text = b'{"type":"colour"}'
    with (journal.folder / "journal.jsonl").open("ab") as file:
        file.write(b"%08x %s\n" % (zlib.crc32(text), text))
    journal = Journal.open(journal.folder)
    journal.append(numbered(3))
    journal.close()
    (told,) = sync(["j-1"], store=store.uri).journals
    assert (told.journal_id, told.records) == ("j-1", 4)
    says = (
        f"1 records of {journal.folder} cannot be read and are kept there, first line 3: a record "
        "has the unknown type 'colour'; a later version of fm_mlflow may know it"
    )
    assert told.pending == says
    assert journal.folder.exists()
    assert store.only_run().data.tags["number"] == "3"


def test_a_damaged_header() -> None:
    journal = new()
    path = journal.folder / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b"a run", b"a ram"))
    journal.close()
    (told,) = sync(["j-1"], store="sqlite:///elsewhere.db").journals
    assert told.pending.startswith("the journal's first line is damaged")


@pytest.mark.parametrize("text", ["", '{"run_id": "ab', "[]", '{"colour": "red"}'])
def test_a_damaged_state_is_a_fresh_one(text: str) -> None:
    journal = new()
    (journal.folder / "state.json").write_text(text)
    assert reopened(journal).state == state_module.State()


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
    for number in range(11):
        journal.append(numbered(number))
    journal.state.run_id, journal.state.position = "abc", 7
    journal.state.models = {"3": "m-3", "10": "m-10"}
    journal.save_state()
    state = reopened(journal).state
    assert (state.run_id, state.position) == ("abc", 7)
    assert [state.model_before(number) for number in (3, 4, 10, 11)] == [None, "m-3", "m-3", "m-10"]


def test_a_full_disk_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    journal = new()
    room = (journal.folder / "journal.jsonl").stat().st_size + 90
    with largest_file(room):
        for number in range(10):
            journal.append(numbered(number), durable=True)
        assert numbers(journal) == [str(number) for number in range(10)]
        assert (journal.folder / "journal.jsonl").stat().st_size == room  # a torn line at the end
    (warning,) = caplog.messages  # once, not for each record
    assert "cannot be written (No space left on device); the run goes on" in warning
    journal.append(numbered(10))  # there is room again
    assert numbers(reopened(journal)) == [str(number) for number in range(11)]


def test_lines_are_json_with_a_checksum() -> None:
    journal = new()
    journal.append(numbered(1))
    _, line = (journal.folder / "journal.jsonl").read_text().splitlines()
    checksum, _, text = line.partition(" ")
    assert len(checksum) == 8
    assert json.loads(text) == {"type": "batch", "tags": {"number": "1"}, "number": 1}
