"""What a person sees while a sweep is on: its trials, then the benchmark of its finalists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

from rich.progress import TaskID
from typing_extensions import override

from fm_mlflow.listeners import Progress as Told, SweepListener
from fm_mlflow.terminal.benchmark_progress import LiveBenchmark, PlainBenchmark
from fm_mlflow.terminal.lines import SafeConsole


class PlainSweep(PlainBenchmark, SweepListener):
    """One line a round and one a trial, for logs and pipes."""

    def __init__(self, stream: IO[str]) -> None:
        PlainBenchmark.__init__(self, stream)

    @override
    def round(self, turn: int, names: Sequence[str], jobs: int) -> None:
        self._line(_round(turn, names, jobs))

    @override
    def trial_told(self, name: str, progress: Told) -> None:
        if progress.event == "notice":
            self._line(progress.text)

    @override
    def trial_ended(self, name: str, outcome: str) -> None:
        self._line(f"{name}: {outcome}")


class LiveSweep(LiveBenchmark, SweepListener):
    """A board: a row a trial under way; ends stay as lines above it."""

    def __init__(self, console: SafeConsole) -> None:
        LiveBenchmark.__init__(self, console)
        self._trials: dict[str, TaskID] = {}

    @override
    def round(self, turn: int, names: Sequence[str], jobs: int) -> None:
        self._clear_trials()
        self._line(_round(turn, names, jobs))

    @override
    def trial_told(self, name: str, progress: Told) -> None:
        if progress.event == "notice":
            self._line(progress.text)
        if progress.event not in ("phase", "epoch"):
            return
        if progress.event == "phase":
            self._clear_trials(keep=name)
        if name not in self._trials:
            self._trials[name] = self._running.add_task(name, phase="", loss="", accuracy="")
        fields: dict[str, Any] = {"phase": f"epoch {progress.epoch}/{progress.epochs}"}
        for metric, label in (("val_loss", "val loss"), ("val_accuracy", "acc")):
            value = progress.metrics.get(metric)
            if value is not None:
                fields["loss" if metric == "val_loss" else "accuracy"] = f"{label} {value:.4f}"
        self._running.update(self._trials[name], **fields)

    @override
    def trial_ended(self, name: str, outcome: str) -> None:
        self._line(f"{name}: {outcome}")

    def _clear_trials(self, keep: str = "") -> None:
        """Take away the rows of trials that are over: a process has one at a time."""
        for name in [each for each in self._trials if each != keep]:
            self._running.remove_task(self._trials.pop(name))


def _round(turn: int, names: Sequence[str], jobs: int) -> str:
    count = "1 trial" if len(names) == 1 else f"{len(names)} trials"
    at_a_time = f", {jobs} processes" if jobs > 1 else ""
    return f"round {turn + 1}: {count}{at_a_time}"


@contextmanager
def console_sweep(console: SafeConsole) -> Iterator[LiveSweep | PlainSweep]:
    """Show a sweep as suits the console: live on a terminal, lines in a pipe or a log."""
    if not console.is_terminal:
        yield PlainSweep(console.file)
        return
    live = LiveSweep(console)
    with live.display:
        yield live
