"""How a command tells what it is doing: override the methods of a listener."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel

from fm_mlflow.results.benchmark import BenchmarkTraining
from fm_mlflow.settings.config import TrainConfig

_log = logging.getLogger(__name__)

_LONGEST_TEXT = 900


class Progress(BaseModel, frozen=True):
    """One thing that a training in another process tells, sent as a line of JSON.

    Attributes:
        event: A phase has begun, an epoch is over, something that a person should know, the
            result, or why the process fails.
        text: The phase, the notice or the cause, in one line.
        epoch: The epoch that is over or, with a phase, under way; from 1, 0 outside of epochs.
        epochs: The last one.
        metrics: What the epoch logged, or the result; None for what is no number.
    """

    event: Literal["phase", "epoch", "notice", "result", "error"]
    text: str = ""
    epoch: int = 0
    epochs: int = 0
    metrics: dict[str, float | None] = {}

    def line(self) -> str:
        """Return it as JSON; short enough that a pipe takes it whole or not at all."""
        short = self.model_copy(update={"text": self.text[:_LONGEST_TEXT]})
        return short.model_dump_json(exclude_defaults=True)


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


class BenchmarkListener(ProgressListener):
    """Hears how a benchmark goes on. This base says nothing; override what you want to hear."""

    def planned(
        self, trainings: Sequence[TrainConfig], done: Sequence[BenchmarkTraining], jobs: int
    ) -> None:
        """The trainings to do, in this order and so many at a time; `done` need no more doing."""

    def forecast(self, sentences: Sequence[str]) -> None:
        """What the trainings can decide and cost, before there is one."""

    def started(self, training: TrainConfig) -> None:
        """A training starts."""

    def told(self, training: TrainConfig, progress: Progress) -> None:
        """A training tells how it goes on."""

    def ended(self, outcome: BenchmarkTraining) -> None:
        """A training is over."""


class SweepListener(BenchmarkListener):
    """Hears how a sweep goes on, and then the benchmark of its finalists. Override what you want.

    Trials are named as their runs are.
    """

    def round(self, turn: int, names: Sequence[str], jobs: int) -> None:
        """A round begins (from 0): these trials, in so many processes at a time."""

    def trial_told(self, name: str, progress: Progress) -> None:
        """A trial tells how it goes on."""

    def trial_ended(self, name: str, outcome: str) -> None:
        """A trial has reached its rung, or is over; in words."""
