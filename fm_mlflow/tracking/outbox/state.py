"""What the store has of a journal."""

from __future__ import annotations

import json
import re
import sys
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import ConfigDict, PlainValidator

from fm_mlflow.process.atomic_file import atomic_file
from fm_mlflow.process.regular_file import open_regular
from fm_mlflow.tracking.outbox.schema import RecordError, Text, Whole, checked, parsed, texts

if TYPE_CHECKING:
    from mlflow.entities import Run

STATE_FILE = "state.json"
_LARGEST_STATE = 16 * 2**20
_CHECKSUM = "checksum"
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")


def _by_number(value: object) -> dict[str, str]:
    found = texts(value)
    if not all(_NUMBER.fullmatch(key) for key in found):
        raise ValueError("Input should have numbers of records")
    return found


_ByNumber = Annotated[dict[str, str], PlainValidator(_by_number)]


@dataclass
class State:
    """What the store has of a journal.

    Attributes:
        run_id: The run in the store; None as long as there is none.
        experiment_id: Its experiment.
        artifact_uri: Where its artifacts go.
        models: The logged models that are created: record number -> model id.
        position: Records before this one are delivered, but for the deferred ones.
        deferred: Records whose files could not be delivered yet: record number -> why.
        refused: What the store will never take: record number -> what and why.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    run_id: Text | None = None
    experiment_id: Text | None = None
    artifact_uri: Text | None = None
    models: _ByNumber = field(default_factory=dict)
    position: Whole = 0
    deferred: _ByNumber = field(default_factory=dict)
    refused: _ByNumber = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path, records: int) -> State:
        """Read a journal's state; a fresh one where there is none yet.

        Args:
            folder: The journal's.
            records: How many records the journal has.

        Raises:
            RecordError: It is damaged, of a later version, or of records that are not there.
        """
        try:
            with open_regular(folder / STATE_FILE) as file:
                text = file.read(_LARGEST_STATE + 1)
        except FileNotFoundError:
            return cls()
        except OSError as error:
            raise RecordError(error.strerror or str(error)) from error
        values = parsed(text) if len(text) <= _LARGEST_STATE else None
        checksum = values.pop(_CHECKSUM, None) if isinstance(values, dict) else None
        if checksum not in (None, _checksum(values)):  # version 0.1.0 wrote none
            raise RecordError("its checksum is wrong")
        state: State = checked(cls, values)
        numbers = [*state.models, *state.deferred, *state.refused]
        # A journal that lost its end in a power cut has had these numbers for other records.
        if not 0 <= state.position <= records or any(int(each) >= records for each in numbers):
            raise RecordError("it speaks of records that the journal does not have")
        return state

    @classmethod
    def read(cls, folder: Path) -> State:
        """Read a journal's state; a fresh one where there is none, or only a damaged one."""
        try:
            return cls.load(folder, sys.maxsize)
        except RecordError:
            return cls()

    def write(self, folder: Path) -> None:
        """Write a journal's state; after a crash it is this one or the one before, and whole."""
        with atomic_file(folder / STATE_FILE) as temporary:
            values = asdict(self)
            text = json.dumps({**values, _CHECKSUM: _checksum(values)})
            temporary.write_text(text, encoding="utf-8")

    def bind(self, run: Run) -> None:
        """Note which run in the store is the journal's."""
        self.run_id = str(run.info.run_id)
        self.experiment_id = str(run.info.experiment_id)
        self.artifact_uri = str(run.info.artifact_uri)

    def model_before(self, number: int) -> str | None:
        """Return the id of the last model that was logged before a record."""
        # A copy, because the thread that delivers may add to them meanwhile.
        earlier = [each for each in list(self.models) if int(each) < number]
        return self.models[max(earlier, key=int)] if earlier else None


def _checksum(values: object) -> str:
    return f"{zlib.crc32(json.dumps(values).encode()):08x}"
