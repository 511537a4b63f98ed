"""How a command tells what it is doing: override the methods of a listener."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence

from fm_mlflow import keys
from fm_mlflow.config import TrainConfig
from fm_mlflow.results.benchmark import BenchmarkTraining

_log = logging.getLogger(__name__)


class ProgressListener:
    """Hears how a run goes on. This base says nothing; override what you want to hear."""

    def stage(self, text: str) -> None:
        """A new stage begins, for example "loading the data"."""

    def download(self, name: str, done: int, total: int | None) -> None:
        """`done` of `total` bytes of a file have arrived; `total` is None where it is unknown."""

    def batch(self, epoch: int, epochs: int, done: int, total: int) -> None:
        """`done` of `total` steps of an epoch are done."""

    def epoch(self, epoch: int, epochs: int, metrics: Mapping[str, float]) -> None:
        """An epoch is over."""

    def notice(self, text: str) -> None:
        """Something that a person should know; logged as a warning when nobody listens."""
        _log.warning(text)

    def images(self, done: int, total: int) -> None:
        """`done` of `total` images are classified."""


def epoch_line(epoch: int, epochs: int, metrics: Mapping[str, float]) -> str:
    """Return one epoch on one line that fits 80 columns."""
    parts = [f"epoch {epoch:>{len(str(epochs))}}/{epochs}"]
    for name, label in (
        (keys.LOSS, "loss"),
        (keys.ACCURACY, "acc"),
        (keys.VAL_LOSS, "validation loss"),
        (keys.VAL_ACCURACY, "acc"),
    ):
        if name in metrics:
            parts.append(f"{label} {metrics[name]:.4f}")
    parts.append(f"{metrics[keys.EPOCH_SECONDS]:.1f} s")
    return "  ".join(parts)


def read_epoch_line(line: str) -> tuple[int, int] | None:
    """Return epoch and epochs from a line of `epoch_line`; None for another line."""
    found = re.match(r"epoch +(\d+)/(\d+)  ", line)
    return (int(found[1]), int(found[2])) if found else None


class BenchmarkListener(ProgressListener):
    """Hears how a benchmark goes on. This base says nothing; override what you want to hear."""

    def planned(
        self, trainings: Sequence[TrainConfig], done: Sequence[BenchmarkTraining], jobs: int
    ) -> None:
        """The trainings to do, in this order and so many at a time; `done` need no more doing."""

    def started(self, training: TrainConfig) -> None:
        """A training starts."""

    def reached(self, training: TrainConfig, epoch: int, epochs: int) -> None:
        """An epoch of a training is over."""

    def ended(self, outcome: BenchmarkTraining) -> None:
        """A training is over."""
