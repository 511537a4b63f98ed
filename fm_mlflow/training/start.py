"""The point at which a training starts: the beginning, or a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fm_mlflow.config import TrainConfig
from fm_mlflow.training.checkpoint import Checkpoint, Progress

if TYPE_CHECKING:
    from fm_mlflow.tracking.run import Resumption


@dataclass(frozen=True)
class Start:
    """The point at which a training starts.

    Attributes:
        time: When the call began, on the clock of `time.perf_counter`.
        load: Load average of the machine at that time.
        checkpoint: The checkpoint that it continues from, if it does.
        epochs: Number of epochs to reach, where that is not the run's setting.
        resumption: The run that is resumed.
        parts: Processes that have trained the run, this one included.
    """

    time: float
    load: float | None
    checkpoint: Checkpoint | None = None
    epochs: int | None = None
    resumption: Resumption | None = None
    parts: int = 1

    @property
    def progress(self) -> Progress:
        """The progress of the training so far."""
        done = self.checkpoint.progress if self.checkpoint else Progress()
        return replace(done, parts=self.parts)

    def until(self, config: TrainConfig) -> int:
        """Return the number of epochs to reach."""
        return self.epochs or config.epochs
