"""What is heard of a job that a cluster's worker runs (`fm_mlflow.jobs.child`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from pydantic import BaseModel, ValidationError

from fm_mlflow.jobs.executors import Job, JobEnd, JobProgress, cause_of_end
from fm_mlflow.listeners import Progress

_OUTSIDE = (1, 2, 9, 15)  # SIGHUP, SIGINT, SIGKILL, SIGTERM
_BY_THE_PLACE = {code for each in _OUTSIDE for code in (-each, 128 + each)}
"""Exit codes of a training that something outside of it ended: the node shuts down, say, or the
kernel wanted its memory. Another place may have more."""


class _Message(BaseModel, frozen=True):
    place: str = ""
    line: str = ""
    code: int | None = None
    output: str = ""


class Heard:
    """A job at a worker: turns the worker's messages into events.

    Args:
        job: The job.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.is_over = False
        self._place = ""
        self._error = ""

    def events(self, text: str) -> Iterator[JobProgress | JobEnd]:
        """Return what a message says; nothing of one that is damaged."""
        with suppress(ValidationError):
            message = _Message.model_validate_json(text)
            if message.place:
                self._place = message.place
                started = Progress(event="phase", text=f"starting on {message.place}")
                yield JobProgress(self.job, started, self._place)
            if message.line:
                progress = Progress.model_validate_json(message.line)
                if progress.event == "error":
                    self._error = progress.text
                yield JobProgress(self.job, progress, self._place)
            if message.code is not None:
                cause = cause_of_end(message.code, message.output, self._error)
                is_lost = message.code in _BY_THE_PLACE
                yield self.end(cause, message.output, is_lost=is_lost)

    def end(self, cause: str | None, output: str = "", *, is_lost: bool = False) -> JobEnd:
        """Return the end of the job; after it nothing is heard."""
        self.is_over = True
        where = f" on {self._place}" if self._place and is_lost else ""
        return JobEnd(self.job, f"{cause}{where}" if cause else None, output, is_lost)
