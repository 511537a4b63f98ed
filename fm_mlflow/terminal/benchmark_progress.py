"""What a person sees while a benchmark is on: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from types import TracebackType
from typing import IO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from fm_mlflow.config import TrainConfig
from fm_mlflow.listeners import BenchmarkListener
from fm_mlflow.naming import model_name, training_name
from fm_mlflow.report.text import printable
from fm_mlflow.results.benchmark import BenchmarkTraining
from fm_mlflow.terminal.board import Board, Row, duration
from fm_mlflow.terminal.progress import LiveProgress, PlainProgress

_REFRESHES_PER_SECOND = 4
_LINES_BESIDE_ROWS = 4
_NAME_WIDTH = 32


class PlainBenchmark(PlainProgress, BenchmarkListener):
    """One line a start and one an end, for logs and pipes.

    Args:
        stream: Where the lines go.
    """

    def __init__(self, stream: IO[str]) -> None:
        super().__init__(stream)
        self._board = Board()
        self._numbers: dict[tuple[str, int], int] = {}
        self._total = 0

    @override
    def planned(
        self, trainings: Sequence[TrainConfig], done: Sequence[BenchmarkTraining], jobs: int
    ) -> None:
        self._board.plan(trainings, done, jobs)
        self._total = len(trainings)
        count = "1 training" if len(trainings) == 1 else f"{len(trainings)} trainings"
        at_a_time = f", {jobs} at a time" if jobs > 1 else ""
        before = f"; {len(done)} done before" if done else ""
        self._line(f"{count} in random order{at_a_time}{before}")

    @override
    def started(self, training: TrainConfig) -> None:
        self._board.start(training)
        key = (training.model, training.seed)
        self._numbers[key] = len(self._numbers) + 1
        self._line(f"{self._number(key)} {printable(training_name(*key))}: started")

    @override
    def ended(self, outcome: BenchmarkTraining) -> None:
        self._board.end(outcome)
        what = f"{self._number((outcome.model, outcome.seed))} {printable(outcome.name)}"
        if outcome.error is not None:
            self._line(f"{what}: {outcome.status}: {printable(outcome.error)}")
            return
        self._line(f"{what}: {_result(outcome.test_accuracy, outcome.seconds)}{self._left()}")

    def _number(self, key: tuple[str, int]) -> str:
        return f"{self._numbers[key]:>{len(str(self._total))}}/{self._total}"

    def _left(self) -> str:
        left = self._board.remaining_seconds()
        return f"; about {duration(left)} left" if left else ""


class LiveBenchmark(BenchmarkListener):
    """A table of the trainings, kept up to date in place; stages before and after it as bars.

    Args:
        console: The terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._board = Board()
        self._stages: LiveProgress | None = None
        self._table: Live | None = None

    def __enter__(self) -> LiveBenchmark:
        """Start drawing with the first event."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the table as it stands and give the cursor back."""
        self._end_stages()
        self._end_table()

    def _bars(self) -> LiveProgress:
        self._end_table()
        if self._stages is None:
            self._stages = LiveProgress(self._console).__enter__()
        return self._stages

    def _end_stages(self) -> None:
        if self._stages is not None:
            self._stages.__exit__(None, None, None)
            self._stages = None

    def _end_table(self) -> None:
        if self._table is not None:
            self._table.stop()
            self._table = None

    @override
    def stage(self, text: str) -> None:
        self._bars().stage(text)

    @override
    def download(self, name: str, done: int, total: int | None) -> None:
        self._bars().download(name, done, total)

    @override
    def planned(
        self, trainings: Sequence[TrainConfig], done: Sequence[BenchmarkTraining], jobs: int
    ) -> None:
        self._board.plan(trainings, done, jobs)
        self._end_stages()
        self._table = Live(
            get_renderable=self._render,
            console=self._console,
            refresh_per_second=_REFRESHES_PER_SECOND,
        )
        self._table.start()

    @override
    def started(self, training: TrainConfig) -> None:
        self._board.start(training)

    @override
    def reached(self, training: TrainConfig, epoch: int, epochs: int) -> None:
        self._board.reach(training, epoch)

    @override
    def ended(self, outcome: BenchmarkTraining) -> None:
        self._board.end(outcome)

    def _render(self) -> RenderableType:
        fits = len(self._board.rows) + _LINES_BESIDE_ROWS <= self._console.height
        return Group(
            trainings_table(self._board) if fits else models_table(self._board),
            Text(_summary(self._board), "dim"),
        )


_STYLES = {"waiting": "dim", "running": "bold", "done": "green", "failed": "red"}


def trainings_table(board: Board) -> Table:
    """Return a row for each training; it fits 80 columns."""
    table = _grid([row.name for row in board.rows])
    for row in board.rows:
        table.add_row(Text(printable(row.name)), Text(_state(board, row), _STYLES[row.state]))
    return table


def _grid(names: Sequence[str]) -> Table:
    """Return two columns; a long text in the second leaves the names readable."""
    width = min(_NAME_WIDTH, max((len(printable(name)) for name in names), default=0))
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", width=width)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    return table


def _state(board: Board, row: Row) -> str:
    if row.state == "running":
        return f"{row.epoch} of {row.epochs} epochs, {duration(board.elapsed(row))}"
    if row.state == "failed":
        return f"failed: {printable(row.error)}"
    return _result(row.accuracy, row.seconds) if row.state == "done" else "waiting"


def models_table(board: Board) -> Table:
    """Return a row for each model, for more trainings than a terminal has lines."""
    models = list(dict.fromkeys(row.model for row in board.rows))
    table = _grid([model_name(model) for model in models])
    for model in models:
        rows = [row for row in board.rows if row.model == model]
        text = Text()
        for state in ("done", "failed", "running", "waiting"):
            if count := sum(row.state == state for row in rows):
                text.append(f"{', ' if text else ''}{count} {state}", _STYLES[state])
        accuracies = [row.accuracy for row in rows if row.accuracy is not None]
        if accuracies:
            text.append(f"; mean accuracy {fmean(accuracies):.4f}")
        table.add_row(Text(printable(model_name(model))), text)
    return table


def _summary(board: Board) -> str:
    rows = board.rows
    over = sum(row.state in ("done", "failed") for row in rows)
    left = board.remaining_seconds()
    return f"{over} of {len(rows)} trainings are over" + (
        f"; about {duration(left)} left" if left else ""
    )


def _result(accuracy: float | None, seconds: float | None) -> str:
    scored = "accuracy not measured" if accuracy is None else f"accuracy {accuracy:.4f}"
    return scored if seconds is None else f"{scored} in {duration(seconds)}"


def console_benchmark(console: Console) -> LiveBenchmark | PlainBenchmark:
    """Return what suits the console: live on a terminal, lines in a pipe or a log."""
    return LiveBenchmark(console) if console.is_terminal else PlainBenchmark(console.file)
