"""How far a benchmark is, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean

from fm_mlflow.config import TrainConfig
from fm_mlflow.results.benchmark import BenchmarkTraining


@dataclass
class Board:
    """How far a benchmark is, and how long the rest will take.

    Attributes:
        clock: Seconds, monotonic.
        total: Trainings, those done before included.
        failed: Those that did not finish.
    """

    clock: Callable[[], float] = time.monotonic
    total: int = 0
    failed: int = 0

    def __post_init__(self) -> None:
        self._jobs = 1
        self._waiting: set[tuple[str, int]] = set()
        self._running: dict[tuple[str, int], float] = {}
        self._seconds: dict[str, list[float]] = {}

    @property
    def over(self) -> int:
        """Trainings that have ended, one way or another."""
        return self.total - len(self._waiting) - len(self._running)

    def plan(
        self, trainings: Sequence[TrainConfig], done: Sequence[BenchmarkTraining], jobs: int
    ) -> None:
        """Take up the trainings: those done before, and so many at a time of the others."""
        self._jobs = jobs
        self.total = len(trainings) + len(done)
        self._waiting = {(training.model, training.seed) for training in trainings}
        for outcome in done:
            self.end(outcome)

    def start(self, training: TrainConfig) -> None:
        """Note a start."""
        self._waiting.discard((training.model, training.seed))
        self._running[training.model, training.seed] = self.clock()

    def end(self, outcome: BenchmarkTraining) -> None:
        """Note an end."""
        self._running.pop((outcome.model, outcome.seed), None)
        if outcome.error is not None:
            self.failed += 1
        elif outcome.seconds is not None:
            self._seconds.setdefault(outcome.model, []).append(outcome.seconds)

    def remaining_seconds(self) -> float | None:
        """Return how long the rest will take at the pace so far; None before there is one.

        May be called from another thread: what it walks through are copies.
        """
        if not self._seconds:
            return None
        overall = fmean(chain.from_iterable(list(self._seconds.values())))
        pace = {model: fmean(seconds) for model, seconds in list(self._seconds.items())}
        left = sum(pace.get(model, overall) for model, _ in list(self._waiting))
        now = self.clock()
        for (model, _), started in list(self._running.items()):
            left += max(0.0, started + pace.get(model, overall) - now)
        return left / self._jobs


def duration(seconds: float) -> str:
    """Return a time as people say it: `45 s`, `12 min`, `2 h 05 min`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"
