"""What a person sees while a benchmark is on: a live board on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID
from rich.table import Column
from typing_extensions import override

from fm_mlflow import keys
from fm_mlflow.listeners import BenchmarkListener, Progress as Told
from fm_mlflow.naming import training_name
from fm_mlflow.results.benchmark import BenchmarkTraining
from fm_mlflow.settings.config import TrainConfig
from fm_mlflow.terminal.lines import SafeColumn, SafeConsole
from fm_mlflow.terminal.progress import Lines, LiveProgress, PlainProgress


class Board:
    """How far a benchmark is, and how long the rest will take.

    Args:
        clock: Seconds, monotonic.

    Attributes:
        total: Trainings, those done before included.
        failed: Those that did not finish.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = 0
        self.failed = 0
        self._clock = clock
        self._jobs = 1
        self._waiting: set[tuple[str, int]] = set()
        self._left: Counter[str] = Counter()  # of `_waiting`, by model
        self._running: dict[tuple[str, int], float] = {}
        self._ended: dict[str, tuple[int, float]] = {}  # how many, and their seconds together

    @property
    def over(self) -> int:
        """Trainings that have ended, one way or another."""
        return self.total - len(self._waiting) - len(self._running)

    def plan(
        self, trainings: Sequence[TrainConfig], done: Sequence[BenchmarkTraining], jobs: int
    ) -> None:
        """Take up the trainings: those done before, and so many at a time of the others."""
        self._jobs = max(jobs, 1)  # none where all were done before
        self.total = len(trainings) + len(done)
        self._waiting = {(training.entry, training.seed) for training in trainings}
        self._left = Counter(model for model, _ in self._waiting)
        for outcome in done:
            self.end(outcome)

    def start(self, training: TrainConfig) -> None:
        """Note a start."""
        if (training.entry, training.seed) in self._waiting:
            self._waiting.remove((training.entry, training.seed))
            self._left[training.entry] -= 1
        self._running[training.entry, training.seed] = self._clock()

    def end(self, outcome: BenchmarkTraining) -> None:
        """Note an end."""
        self._running.pop((outcome.model, outcome.seed), None)
        if outcome.error is not None:
            self.failed += 1
        elif outcome.seconds is not None:
            count, seconds = self._ended.get(outcome.model, (0, 0.0))
            self._ended[outcome.model] = count + 1, seconds + outcome.seconds

    def remaining_seconds(self) -> float | None:
        """Return how long the rest will take at the pace so far; None before there is one.

        May be called from another thread: what it walks through are copies.
        """
        ended = dict(self._ended)
        if not ended:
            return None
        overall = sum(seconds for _, seconds in ended.values()) / sum(n for n, _ in ended.values())
        pace = {model: seconds / count for model, (count, seconds) in ended.items()}
        left = sum(pace.get(model, overall) * count for model, count in dict(self._left).items())
        now = self._clock()
        for (model, _), started in list(self._running.items()):
            left += max(0.0, started + pace.get(model, overall) - now)
        return left / self._jobs


def duration(seconds: float) -> str:
    """Return a time as people say it: `45 s`, `12 min`, `2 h 05 min`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


class _BenchmarkLines(Lines, BenchmarkListener):
    """Says in lines what is planned, what trainings point out, and what came of them."""

    def __init__(self) -> None:
        self._board = Board()
        self._numbers: dict[tuple[str, int], int] = {}
        self._causes: dict[str, str] = {}
        self._to_do = 0

    def _name(self, model: str, seed: int) -> str:
        # One that could not be started has no number yet.
        number = self._numbers.setdefault((model, seed), len(self._numbers) + 1)
        position = f"{number:>{len(str(self._to_do))}}/{self._to_do}"
        return f"{position} {training_name(model, seed)}"

    def _left(self) -> str:
        left = self._board.remaining_seconds()
        return f"about {duration(left)} left" if left else ""

    @override
    def planned(
        self, trainings: Sequence[TrainConfig], done: Sequence[BenchmarkTraining], jobs: int
    ) -> None:
        self._board.plan(trainings, done, jobs)
        self._to_do = len(self._numbers) + len(trainings)
        if not trainings:
            self._line(f"nothing left to train; {len(done)} done before")
            return
        count = "1 training" if len(trainings) == 1 else f"{len(trainings)} trainings"
        at_a_time = f", {jobs} at a time" if jobs > 1 else ""
        before = f"; {len(done)} done before" if done else ""
        self._line(f"{count} in random order{at_a_time}{before}")

    @override
    def forecast(self, sentences: Sequence[str]) -> None:
        for sentence in sentences:
            self._line(sentence)

    @override
    def started(self, training: TrainConfig) -> None:
        self._board.start(training)
        self._numbers[training.entry, training.seed] = len(self._numbers) + 1

    @override
    def told(self, training: TrainConfig, progress: Told) -> None:
        if progress.event == "notice":
            self._line(f"{self._name(training.entry, training.seed)}: {progress.text}")

    @override
    def ended(self, outcome: BenchmarkTraining) -> None:
        self._board.end(outcome)
        self._line(f"{self._name(outcome.model, outcome.seed)}: {self._result(outcome)}")

    def _result(self, outcome: BenchmarkTraining) -> str:
        if outcome.error is not None:
            first = self._causes.setdefault(outcome.error, outcome.name)
            return f"{outcome.status}: {outcome.error if first == outcome.name else f'as {first}'}"
        accuracy = outcome.test_accuracy
        scored = "accuracy not measured" if accuracy is None else f"accuracy {accuracy:.4f}"
        return scored if outcome.seconds is None else f"{scored} in {duration(outcome.seconds)}"


class PlainBenchmark(PlainProgress, _BenchmarkLines):
    """One line a start and one an end, for logs and pipes."""

    def __init__(self, stream: IO[str]) -> None:
        PlainProgress.__init__(self, stream)
        _BenchmarkLines.__init__(self)

    @override
    def started(self, training: TrainConfig) -> None:
        super().started(training)
        self._line(f"{self._name(training.entry, training.seed)}: started")

    @override
    def _result(self, outcome: BenchmarkTraining) -> str:
        left = self._left() if outcome.error is None else ""
        return super()._result(outcome) + (f"; {left}" if left else "")


class LiveBenchmark(LiveProgress, _BenchmarkLines):
    """A board: a row a running training, a bar for all of them; ends stay as lines above it."""

    def __init__(self, console: SafeConsole) -> None:
        LiveProgress.__init__(self, console)
        _BenchmarkLines.__init__(self)
        self._rows: dict[tuple[str, int], TaskID] = {}
        # Together they fit 80 columns.
        self._running = Progress(
            _text("{task.description}", 21),
            _text(" {task.fields[phase]}", 33),
            _text(" {task.fields[loss]}", 12),
            _text(" {task.fields[accuracy]}", 11),
            console=console,
        )
        self._all = Progress(
            _text("{task.description}", 40),
            BarColumn(bar_width=16),
            _text("{task.fields[left]}", 22),
            console=console,
        )
        self.display = Live(get_renderable=self._board_now, console=console, transient=True)

    def _board_now(self) -> Group:
        for task in self._all.tasks:
            failed = f", {self._board.failed} failed" if self._board.failed else ""
            over = f"{self._board.over} of {self._board.total} trainings are over{failed}"
            self._all.update(
                task.id, completed=self._board.over, description=over, left=self._left()
            )
        parts = (self._running, self._all, self._progress)
        return Group(*(part for part in parts if part.tasks))

    @override
    def planned(
        self, trainings: Sequence[TrainConfig], done: Sequence[BenchmarkTraining], jobs: int
    ) -> None:
        super().planned(trainings, done, jobs)
        self._clear()
        self._all.add_task("", total=self._board.total, left="")

    @override
    def started(self, training: TrainConfig) -> None:
        super().started(training)
        key = (training.entry, training.seed)
        self._rows[key] = self._running.add_task(
            training_name(*key), phase="starting", loss="", accuracy=""
        )

    @override
    def told(self, training: TrainConfig, progress: Told) -> None:
        super().told(training, progress)
        fields: dict[str, Any] = {}
        if progress.event in ("phase", "epoch"):
            of = f", epoch {progress.epoch}/{progress.epochs}" if progress.epoch else ""
            fields["phase"] = f"{progress.text or 'training'}{of}"
        for name, label in ((keys.LOSS, "loss"), (keys.ACCURACY, "acc")):
            if (value := progress.metrics.get(name)) is not None:
                fields[str(name)] = f"{label} {value:.4f}"
        self._running.update(self._rows[training.entry, training.seed], **fields)

    @override
    def ended(self, outcome: BenchmarkTraining) -> None:
        if (row := self._rows.pop((outcome.model, outcome.seed), None)) is not None:
            self._running.remove_task(row)
        super().ended(outcome)


def _text(template: str, width: int) -> SafeColumn:
    column = Column(no_wrap=True, overflow="ellipsis", max_width=width)
    return SafeColumn(template, table_column=column)


@contextmanager
def console_benchmark(console: SafeConsole) -> Iterator[LiveBenchmark | PlainBenchmark]:
    """Show a benchmark as suits the console: live on a terminal, lines in a pipe or a log."""
    if not console.is_terminal:
        yield PlainBenchmark(console.file)
        return
    live = LiveBenchmark(console)
    with live.display:
        yield live
