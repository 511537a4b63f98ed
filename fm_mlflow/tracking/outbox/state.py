"""What the store has of a journal."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fm_mlflow.process.atomic_file import atomic_file

if TYPE_CHECKING:
    from mlflow.entities import Run

_STATE_FILE = "state.json"


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

    run_id: str | None = None
    experiment_id: str | None = None
    artifact_uri: str | None = None
    models: dict[str, str] = field(default_factory=dict)
    position: int = 0
    deferred: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> State:
        """Read a journal's state; a fresh one where there is none, or only a damaged one.

        That does no harm: what is delivered already is delivered again, with the same result.
        """
        try:
            return cls(**json.loads((folder / _STATE_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return cls()

    def write(self, folder: Path) -> None:
        """Write a journal's state; after a crash it may be older than the truth."""
        with atomic_file(folder / _STATE_FILE) as temporary:
            temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")

    def bind(self, run: Run) -> None:
        """Note which run in the store is the journal's."""
        self.run_id = str(run.info.run_id)
        self.experiment_id = str(run.info.experiment_id)
        self.artifact_uri = str(run.info.artifact_uri)

    def model_before(self, number: int) -> str | None:
        """Return the id of the last model that was logged before a record."""
        earlier = [each for each in self.models if int(each) < number]
        return self.models[max(earlier, key=int)] if earlier else None
