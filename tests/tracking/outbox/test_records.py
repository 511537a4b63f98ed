"""Records as they are written, read and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fm_mlflow.tracking.outbox.records import (
    Batch,
    KnownModel,
    LinkedModels,
    Point,
    read_record,
)
from fm_mlflow.tracking.outbox.schema import RecordError

WRITTEN = Path(__file__).parent / "journal_of_0_1_0"
LINES = next(WRITTEN.iterdir()).joinpath("journal.jsonl").read_text().splitlines()


def rewritten(values: dict[str, Any]) -> Any:
    return json.loads(json.dumps(read_record(values), default=lambda each: each.to_json()))


def test_a_journal_of_0_1_0_is_written_as_it_was() -> None:
    written = [json.loads(line.partition(" ")[2]) for line in LINES]
    types = ["artifacts", "batch", "checkpoint", "dataset", "end", "model", "reopen", "run"]
    assert sorted({each["type"] for each in written}) == types
    for values in written:
        if values == {"type": "batch", "params": {}}:
            assert rewritten(values) == {"type": "batch"}
        else:
            assert rewritten(values) == values


def test_the_other_kinds() -> None:
    known = {"type": "known_model", "model_id": "m-1"}
    assert read_record(known) == KnownModel("m-1")
    linked = {"type": "models", "model_ids": ["m-1", "m-2"]}
    assert read_record(linked) == LinkedModels(("m-1", "m-2"))
    assert (rewritten(known), rewritten(linked)) == (known, linked)


def test_what_a_later_version_adds_is_ignored() -> None:
    point = {"key": "loss", "value": 1.0, "timestamp": 5, "step": 2, "colour": "red"}
    read = read_record({"type": "batch", "metrics": [point], "colour": "red"})
    assert read == Batch((Point("loss", 1.0, 5, 2),))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"type": "colour"}, "the unknown type 'colour'; a later version of fm_mlflow may know it"),
        ({}, "the unknown type None"),
        ({"type": ["end"]}, r"the unknown type \['end'\]"),
        ({"type": "end", "status": "FINISHED"}, "not complete: end_time: Field required"),
        ({"type": "batch", "metrics": [{"key": "loss"}]}, r"metrics\.0\.value: Field required"),
    ],
)
def test_what_cannot_be_read(values: dict[str, Any], says: str) -> None:
    with pytest.raises(RecordError, match=says):
        read_record(values)
