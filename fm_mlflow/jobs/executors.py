"""Where trainings run: the executor's contract, and processes of this machine.

A job holds nothing of this process: arguments of the command and variables of its environment.
What a job finds out goes to the tracking store; an executor only starts it and hears its end.
An executor never runs a job twice by itself: whoever submitted it knows whether that is safe.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pydantic import ValidationError

from fm_mlflow.jobs.child import KILL, POLL_SECONDS, STOP_SECONDS, signal_group, tail
from fm_mlflow.listeners import Progress
from fm_mlflow.process.parent import VARIABLE, LineReader
from fm_mlflow.process.temporary import temporary_folder


@dataclass(frozen=True)
class Job:
    """One command to run, in a fresh process, wherever.

    Attributes:
        key: The run that it is for: unique among the jobs that have not ended.
        name: What a person calls it.
        arguments: What follows `python -m fm_mlflow`.
        environment: Variables to set; None removes one. The others are those of the place.
    """

    key: str
    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str | None]


@dataclass(frozen=True)
class JobProgress:
    """A job tells how it goes on.

    Attributes:
        place: The host that it runs on, where the executor knows; empty on this machine.
    """

    job: Job
    progress: Progress
    place: str = ""


@dataclass(frozen=True)
class JobEnd:
    """A job has ended.

    Attributes:
        cause: Why it failed, in one line; None for a job that did what it should.
        output: What it wrote, or the end of it.
        is_lost: Its place ended it: the machine died, was cut off or was wanted for another job.
            Another place may do it. What a job does wrong by itself is no such thing.
    """

    job: Job
    cause: str | None
    output: str
    is_lost: bool = False

    @property
    def outcome(self) -> Literal["done", "failed", "lost"]:
        """What became of the job."""
        if self.is_lost:
            return "lost"
        return "done" if self.cause is None else "failed"


class Executor(AbstractContextManager["Executor"], Protocol):
    """Runs jobs; a context manager that leaves none behind."""

    @property
    def slots(self) -> int:
        """How many jobs it takes at a time."""

    @property
    def jobs_per_machine(self) -> int:
        """How many of them share a machine, at most: their times and latencies suffer."""

    def submit(self, job: Job) -> None:
        """Start a job, or queue it where it will start by itself."""

    def events(self, seconds: float) -> Sequence[JobProgress | JobEnd]:
        """Return what has happened since the last call; wait for it, at most so long.

        An executor that cannot hear its jobs gives their ends only.
        """

    def stop(self, signum: int) -> Sequence[JobEnd]:
        """Ask all jobs to stop, as this signal does; wait for them and return their ends."""


@dataclass
class _Running:
    """A process, what it tells, and what it writes; a file, so that it never waits for us."""

    job: Job
    process: subprocess.Popen[bytes]
    output: Path
    reader: LineReader
    error: str = ""

    def told(self) -> Iterator[JobProgress]:
        for line in self.reader.lines():
            with suppress(ValidationError):  # something else wrote there, or half a line was lost
                progress = Progress.model_validate_json(line)
                if progress.event == "error":
                    self.error = progress.text
                yield JobProgress(self.job, progress)

    def end(self) -> JobEnd:
        self.reader.close()
        text = tail(self.output)
        return JobEnd(self.job, cause_of_end(self.process.returncode, text, self.error), text)

    def signal(self, signum: int) -> None:
        """Send a signal to the process and to those that it started."""
        signal_group(self.process, signum)


class LocalExecutor:
    """Runs each job as a process of this machine, in a session of its own.

    Ctrl-C in the terminal thus reaches this process alone, which tells the others. No job is lost
    here: one that is killed, for want of memory say, has no other place, and has failed.

    Args:
        jobs: How many at the same time.
    """

    def __init__(self, jobs: int = 1) -> None:
        self.slots = self.jobs_per_machine = jobs
        self._running: list[_Running] = []
        self._folder: Path | None = None
        self._end = ExitStack()

    def __enter__(self) -> LocalExecutor:
        """Make a folder for what the jobs write."""
        self._folder = self._end.enter_context(temporary_folder())
        return self

    def __exit__(self, *_: object) -> None:
        """Kill what still runs: nobody asked for it any more."""
        for running in self._running:
            running.signal(KILL)
            running.process.wait()
            running.reader.close()
        self._running.clear()
        self._end.close()

    def submit(self, job: Job) -> None:
        """Start a process."""
        if self._folder is None:
            raise RuntimeError("a LocalExecutor runs jobs inside its `with` block only")
        path = self._folder / f"{job.key}.log"
        reader = LineReader()
        with path.open("wb") as output, reader.writer() as inherited:
            environment = {**os.environ, **job.environment, VARIABLE: " ".join(map(str, inherited))}
            process = subprocess.Popen(
                [sys.executable, "-m", "fm_mlflow", *job.arguments],
                env={name: value for name, value in environment.items() if value is not None},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=inherited,
            )
        self._running.append(_Running(job, process, path, reader))

    def events(self, seconds: float) -> list[JobProgress | JobEnd]:
        """Return what jobs tell and their ends; wait for the first, at most so long."""
        deadline = time.monotonic() + seconds
        while True:
            events: list[JobProgress | JobEnd] = []
            for running in list(self._running):
                ended = running.process.poll() is not None
                events += running.told()
                if ended:
                    self._running.remove(running)
                    events.append(running.end())
            if events or time.monotonic() >= deadline:
                return events
            time.sleep(POLL_SECONDS)

    def stop(self, signum: int) -> list[JobEnd]:
        """Signal all processes, wait for them to close their runs, kill those that do not."""
        for running in self._running:
            running.signal(signum)
        ends: list[JobEnd] = []
        deadline = time.monotonic() + STOP_SECONDS
        while self._running:
            if time.monotonic() > deadline:
                for running in self._running:
                    running.signal(KILL)
            ends += [event for event in self.events(1.0) if isinstance(event, JobEnd)]
        return ends


def cause_of_end(code: int, output: str, error: str) -> str | None:
    """Say in one line why a process failed: by its own words, else by what it wrote last."""
    if code == 0:
        return None
    if code > 0 and error:
        return error
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    if code < 0:
        name = signal.Signals(-code).name
        hint = " (by hand, or because memory ran out)" if name == "SIGKILL" else ""
        # What it wrote last may be a crash's own words, or only how far it had come.
        return f"killed by {name}{hint}; its last line: {last or 'none'}"
    return f"exit code {code}; its last line: {last or 'none'}"
