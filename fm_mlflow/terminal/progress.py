"""What a person sees while a run is on: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO

from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TimeRemainingColumn,
)
from typing_extensions import override

from fm_mlflow import keys
from fm_mlflow.escaping import printable
from fm_mlflow.listeners import Progress as Told, ProgressListener
from fm_mlflow.process.parent import Parent, parent
from fm_mlflow.process.redaction import redact
from fm_mlflow.terminal.lines import SafeColumn, SafeConsole, print_line

_REFRESH_SECONDS = 0.1


class Lines(ProgressListener):
    """Says notices and epochs in lines, wherever these go."""

    def _line(self, text: str) -> None:
        self._write(printable(redact(text)))

    def _write(self, line: str) -> None:
        raise NotImplementedError

    @override
    def notice(self, text: str) -> None:
        self._line(f"fm-mlflow: {text}")

    @override
    def epoch(self, epoch: int, epochs: int, metrics: Mapping[str, float]) -> None:
        self._line(epoch_line(epoch, epochs, metrics))


class PlainProgress(Lines):
    """One line a stage and one an epoch, for logs and pipes."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._downloading = ""
        self._tenths = 0

    @override
    def _write(self, line: str) -> None:
        # A reader who has gone (`2>&1 | head`) is no reason to stop.
        with suppress(BrokenPipeError):
            self._stream.write(line + "\n")
            self._stream.flush()

    @override
    def stage(self, text: str) -> None:
        self._line(text)

    @override
    def download(self, name: str, done: int, total: int | None) -> None:
        if name != self._downloading:
            self._downloading = name
            size = f" ({total / 2**20:.1f} MiB)" if total else ""
            self._line(f"downloading {name}{size}")

    @override
    def images(self, done: int, total: int) -> None:
        tenth = 10 * done // total
        if tenth > self._tenths:
            self._tenths = tenth
            self._line(f"{done:,} of {total:,} images")


class ReportingProgress(PlainProgress):
    """Lines as `PlainProgress` writes them, and the same as events for the parent process."""

    def __init__(self, stream: IO[str], listening: Parent) -> None:
        super().__init__(stream)
        self._listening = listening
        self._epoch = 0

    def _tell(self, told: Told) -> None:
        self._listening.tell(told.line())

    @override
    def stage(self, text: str) -> None:
        super().stage(text)
        self._tell(Told(event="phase", text=text))

    @override
    def batch(self, epoch: int, epochs: int, done: int, total: int) -> None:
        if epoch != self._epoch:
            self._epoch = epoch
            self._tell(Told(event="phase", text="training", epoch=epoch, epochs=epochs))

    @override
    def notice(self, text: str) -> None:
        super().notice(text)
        self._tell(Told(event="notice", text=printable(redact(text))))

    @override
    def epoch(self, epoch: int, epochs: int, metrics: Mapping[str, float]) -> None:
        super().epoch(epoch, epochs, metrics)
        values = {name: float(value) for name, value in metrics.items()}
        self._tell(Told(event="epoch", epoch=epoch, epochs=epochs, metrics=values))


class LiveProgress(Lines):
    """A spinner-free bar for what is under way; finished epochs stay as lines above it."""

    def __init__(self, console: SafeConsole) -> None:
        self._console = console
        self._progress = Progress(
            SafeColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self.display: Progress | Live = self._progress
        """Draws while it is entered; then removes the bar and gives the cursor back."""
        self._task: TaskID | None = None
        self._shown = ""
        self._next_refresh = 0.0

    @override
    def _write(self, line: str) -> None:
        print_line(self._console, line, wrapped=False)

    def _show(self, description: str, done: int, total: int | None) -> None:
        if description != self._shown or self._task is None:
            self._clear()
            self._shown, self._next_refresh = description, 0.0
            self._task = self._progress.add_task(description, total=total)
        now = time.monotonic()
        if now >= self._next_refresh or done == total:
            self._next_refresh = now + _REFRESH_SECONDS
            self._progress.update(self._task, completed=done)

    def _clear(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None

    @override
    def stage(self, text: str) -> None:
        self._show(text, 0, None)

    @override
    def download(self, name: str, done: int, total: int | None) -> None:
        self._show(name, done, total)

    @override
    def batch(self, epoch: int, epochs: int, done: int, total: int) -> None:
        self._show(f"epoch {epoch}/{epochs}", done, total)

    @override
    def images(self, done: int, total: int) -> None:
        self._show("images", done, total)


def epoch_line(epoch: int, epochs: int, metrics: Mapping[str, float]) -> str:
    """Return one epoch on one line that fits 80 columns."""
    parts = [f"epoch {epoch:>{len(str(epochs))}}/{epochs}"]
    for name, label in (
        (keys.LOSS, "loss"),
        (keys.ACCURACY, "acc"),
        (keys.VAL_LOSS, "val loss"),
        (keys.VAL_ACCURACY, "val acc"),
    ):
        if name in metrics:
            parts.append(f"{label} {metrics[name]:.4f}")
    parts.append(f"{metrics[keys.EPOCH_SECONDS]:.1f} s")
    return "  ".join(parts)


@contextmanager
def console_progress(console: SafeConsole) -> Iterator[LiveProgress | PlainProgress]:
    """Show progress as suits the console: live on a terminal, lines in a pipe or a log."""
    if (listening := parent()) is not None:
        yield ReportingProgress(console.file, listening)
    elif not console.is_terminal:
        yield PlainProgress(console.file)
    else:
        live = LiveProgress(console)
        with live.display:
            yield live
