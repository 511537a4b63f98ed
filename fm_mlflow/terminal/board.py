"""Where each training of a benchmark stands, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from fm_mlflow.config import TrainConfig
from fm_mlflow.naming import training_name
from fm_mlflow.results.benchmark import BenchmarkTraining


@dataclass
class Row:
    """One training as it stands.

    Attributes:
        model: What it trains.
        seed: Its seed.
        state: How far it is.
        epoch: Epochs that are over.
        epochs: Epochs to do.
        started: When it started, on the board's clock.
        seconds: How long it took, once it is over.
        accuracy: On the test set, once it is done.
        error: Why it failed.
    """

    model: str
    seed: int
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    epoch: int = 0
    epochs: int = 0
    started: float = 0.0
    seconds: float | None = None
    accuracy: float | None = None
    error: str = ""

    @property
    def name(self) -> str:
        """What a person calls it."""
        return training_name(self.model, self.seed)


class Board:
    """Where each training of a benchmark stands, and how long the rest will take.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._jobs = 1
        self._rows: dict[tuple[str, int], Row] = {}

    @property
    def rows(self) -> list[Row]:
        """One for each training: those done before, then the others in order."""
        return list(self._rows.values())

    def plan(
        self, trainings: Sequence[TrainConfig], done: Sequence[BenchmarkTraining], jobs: int
    ) -> None:
        """Take up the trainings."""
        self._jobs = jobs
        for outcome in done:
            self.end(outcome)
        for training in trainings:
            row = Row(training.model, training.seed, epochs=training.epochs)
            self._rows[training.model, training.seed] = row

    def start(self, training: TrainConfig) -> None:
        """Note a start."""
        row = self._rows[training.model, training.seed]
        row.state, row.started = "running", self._clock()

    def reach(self, training: TrainConfig, epoch: int) -> None:
        """Note an epoch."""
        self._rows[training.model, training.seed].epoch = epoch

    def end(self, outcome: BenchmarkTraining) -> None:
        """Note an end."""
        row = self._rows.setdefault((outcome.model, outcome.seed), Row(outcome.model, outcome.seed))
        row.state = "done" if outcome.error is None else "failed"
        row.seconds, row.accuracy = outcome.seconds, outcome.test_accuracy
        row.error = outcome.error or ""

    def elapsed(self, row: Row) -> float:
        """Seconds that a running training has taken so far."""
        return self._clock() - row.started

    def remaining_seconds(self) -> float | None:
        """Return how long the rest will take at the pace so far; None before there is one."""
        rows = self.rows
        paces = {
            model: pace
            for model in {row.model for row in rows}
            if (pace := _pace(row for row in rows if row.model == model)) is not None
        }
        overall = _pace(rows)
        if overall is None:
            return None
        left = 0.0
        for row in rows:
            expected = paces.get(row.model, overall)
            if row.state == "waiting":
                left += expected
            elif row.state == "running":
                left += max(0.0, expected - self.elapsed(row))
        return left / self._jobs


def _pace(rows: Iterable[Row]) -> float | None:
    seconds = [row.seconds for row in rows if row.state == "done" and row.seconds is not None]
    return fmean(seconds) if seconds else None


def duration(seconds: float) -> str:
    """Return a time as people say it: `45 s`, `12 min`, `2 h 05 min`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"
