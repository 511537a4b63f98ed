"""Trainings as jobs of a Slurm cluster, by submitit (extra `slurm`)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from pydantic import Field

from fm_mlflow.errors import InputError
from fm_mlflow.jobs.child import STOP_SECONDS, run_child
from fm_mlflow.jobs.executors import Job, JobEnd, JobProgress
from fm_mlflow.jobs.heard import Heard
from fm_mlflow.process.redaction import one_line
from fm_mlflow.settings.base import Optional, Settings
from fm_mlflow.settings.placement import Placement

_POLL_SECONDS = 0.5
_LOOK_SECONDS = 10.0
_LOST = {"PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "TIMEOUT", "REVOKED", "INTERRUPTED"}
"""States of a job that its place ended. TIMEOUT too: `resume` continues it in a job of its own."""


class SlurmConfig(Settings):
    """Settings of the executor `slurm`, in the file of `--executor-config`."""

    folder: str = Field(
        "fm_mlflow-slurm",
        description="Folder that all machines share, for what jobs tell and write.",
    )
    cluster: Literal["slurm", "local"] = Field(
        "slurm", description="slurm, or local: submitit's processes on this machine, to try it."
    )
    slots: int = Field(
        64, ge=1, le=10_000, description="Jobs in the queue at a time, running ones included."
    )
    at_a_time: Optional[int] = Field(
        None, ge=1, description="How many of an array's jobs Slurm runs at a time; empty: all."
    )
    timeout_min: int = Field(
        240, ge=1, description="Minutes that Slurm gives a job; what it has not done is resumed."
    )
    parameters: dict[str, Any] = Field(
        {},
        description="More parameters of submitit, such as slurm_partition.",
        json_schema_extra={"accepted": "a mapping of submitit's parameters"},
    )


class SlurmExecutor:
    """Submits jobs to Slurm: those of one moment as an array.

    Slurm requeues nothing: a job that is pre-empted is lost, and its training is resumed by the
    next job of its run. What jobs tell comes through files of a shared folder.

    Args:
        placement: What each training asks for.
        config: Of the cluster.
    """

    def __init__(self, placement: Placement, config: SlurmConfig | None = None) -> None:
        self._placement = placement
        self._config = config or SlurmConfig()
        self.slots = self._config.slots
        self._new: list[Job] = []
        self._submitted: dict[str, _Submitted] = {}
        self._folder = Path(self._config.folder).absolute()

    @property
    def jobs_per_machine(self) -> int:
        """How many trainings share a machine: unknown, but for whole machines and this one."""
        is_alone = self._placement.cpus is None and self._config.cluster == "slurm"
        return 1 if is_alone else self.slots

    def __enter__(self) -> SlurmExecutor:
        """Make the folder.

        Raises:
            InputError: There is no submitit or no Slurm here, or it does not take the parameters.
        """
        try:
            import submitit
        except ImportError as error:
            accepted = "an environment with submitit: pip install 'fm_mlflow[slurm]'"
            raise InputError("executor", "slurm", accepted) from error
        if self._placement.ship_code:
            accepted = "false: the machines of a Slurm cluster share the working directory"
            raise InputError("ship_code", True, accepted)
        asked: dict[str, Any] = {
            "name": "fm_mlflow",
            "timeout_min": self._config.timeout_min,
            "slurm_additional_parameters": {"no-requeue": True},
        }
        if self._placement.cpus:
            asked["cpus_per_task"] = self._placement.cpus
        elif self._config.cluster == "slurm":
            asked["slurm_exclusive"] = True
        if self._placement.gpus:
            asked["gpus_per_node"] = int(self._placement.gpus)
        if self._placement.memory_gib:
            asked["mem_gb"] = self._placement.memory_gib
        if self._config.at_a_time:
            asked["slurm_array_parallelism"] = self._config.at_a_time
        try:
            self._executor = submitit.AutoExecutor(self._folder, cluster=self._config.cluster)
            self._executor.update_parameters(**{**asked, **self._config.parameters})
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            accepted = f"a folder that can be written ({one_line(error)})"
            raise InputError("folder", self._config.folder, accepted) from error
        except (RuntimeError, NameError, TypeError, ValueError) as error:
            accepted = f"what submitit takes ({one_line(error)})"
            raise InputError("parameters", self._config.parameters, accepted) from error
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel what still runs."""
        for submitted in self._submitted.values():
            submitted.slurm.cancel()
        self._submitted.clear()

    def submit(self, job: Job) -> None:
        """Have a job submitted, with those that come at about one time."""
        self._new.append(job)

    def _submit_all(self) -> None:
        with self._executor.batch():
            found = [
                (job, path, self._executor.submit(work, job.arguments, job.environment, str(path)))
                for job in self._new
                for path in [self._folder / f"{job.key}-{time.time_ns()}.jsonl"]
            ]
        self._new.clear()
        self._submitted.update(
            {job.key: _Submitted(job, path, slurm) for job, path, slurm in found}
        )

    def events(self, seconds: float) -> list[JobProgress | JobEnd]:
        """Return what jobs tell and their ends; wait for the first, at most so long."""
        if self._new:
            self._submit_all()
        deadline = time.monotonic() + seconds
        while True:
            events = [event for each in self._submitted.values() for event in each.events()]
            for key in [key for key, each in self._submitted.items() if each.heard.is_over]:
                del self._submitted[key]
            if events or time.monotonic() >= deadline:
                return events
            time.sleep(_POLL_SECONDS)

    def stop(self, signum: int) -> Sequence[JobEnd]:
        """Cancel all jobs; wait until their trainings have closed their runs."""
        cause = f"stopped by {signal.Signals(signum).name}"
        ends = [JobEnd(job, cause, "") for job in self._new]
        self._new.clear()
        for submitted in self._submitted.values():
            submitted.slurm.cancel()
        deadline = time.monotonic() + STOP_SECONDS + _LOOK_SECONDS
        while self._submitted and time.monotonic() < deadline:
            events = self.events(1.0)
            ends += [JobEnd(e.job, cause, e.output) for e in events if isinstance(e, JobEnd)]
        ends += [JobEnd(each.heard.job, cause, "") for each in self._submitted.values()]
        self._submitted.clear()
        return ends


class _Submitted:
    """A job in the queue or running, and the file of what it tells."""

    def __init__(self, job: Job, path: Path, slurm: Any) -> None:
        self.heard = Heard(job)
        self.slurm = slurm
        self._path = path
        self._position = 0
        self._next_look = time.monotonic() + _LOOK_SECONDS

    def events(self) -> list[JobProgress | JobEnd]:
        events = self._told()
        if not self.heard.is_over and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LOOK_SECONDS
            if self.slurm.done():
                events += self._told()  # what came in between
                if not self.heard.is_over:
                    events.append(self._end())
        return events

    def _told(self) -> list[JobProgress | JobEnd]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                lines = file.read()
        except FileNotFoundError:  # it waits in the queue
            return []
        whole = lines[: lines.rfind(b"\n") + 1]
        self._position += len(whole)
        return [
            event
            for line in whole.splitlines()
            for event in self.heard.events(line.decode(errors="replace"))
        ]

    def _end(self) -> JobEnd:
        """Return the end of a job that could not tell it."""
        state = str(self.slurm.state).upper().partition(" ")[0]
        if state in _LOST:
            return self.heard.end(f"Slurm's job {self.slurm.job_id} ended as {state}", is_lost=True)
        error = self.slurm.exception()
        why = one_line(error) if error else "it told nothing"
        return self.heard.end(f"Slurm's job {self.slurm.job_id} ended as {state}: {why}")


def work(arguments: Sequence[str], environment: Mapping[str, str | None], path: str) -> None:
    """Be the job, on Slurm's machine: run the training, write what it tells to the file.

    Slurm's signals - SIGTERM before a pre-emption, submitit's SIGUSR2 before the time is over -
    stop the training, which closes its run; the job that comes next continues it.
    """
    for signum in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
        signal.signal(signum, _interrupt)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with open(descriptor, "a", encoding="utf-8") as file:
        for message in run_child(arguments, environment):
            file.write(f"{message}\n")
            file.flush()
        os.fsync(descriptor)


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    for each in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)  # once is enough
    raise KeyboardInterrupt
