"""From where a training starts: the beginning, or a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fm_mlflow.config import TrainConfig
from fm_mlflow.training.checkpoint import Checkpoint, Progress

if TYPE_CHECKING:
    from fm_mlflow.tracking.run import Resumption


@dataclass(frozen=True)
class Start:
    """From where a training starts.

    Attributes:
        time: When the call began, on the clock of `time.perf_counter`.
        load: Load of the machine then.
        checkpoint: What it goes on from, if it does.
        epochs: Up to which epoch, where that is not the run's setting.
        resumption: The run that it goes on in.
    """

    time: float
    load: float | None
    checkpoint: Checkpoint | None = None
    epochs: int | None = None
    resumption: Resumption | None = None
    parts: int = 1

    @property
    def progress(self) -> Progress:
        """How far the training has come already."""
        done = self.checkpoint.progress if self.checkpoint else Progress()
        return replace(done, parts=self.parts)

    def until(self, config: TrainConfig) -> int:
        """Return the number of epochs to reach."""
        return self.epochs or config.epochs
