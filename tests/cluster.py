"""An executor that is no local one: its jobs log what a training logs, on machines of their own."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Literal

from mlflow.tracking import MlflowClient

from fm_mlflow import TrainConfig, keys
from fm_mlflow.jobs.executors import Job, JobEnd, JobProgress
from fm_mlflow.listeners import Progress
from fm_mlflow.settings.base import parse
from fm_mlflow.settings.model_reference import (
    ARGUMENT_PREFIX,
    BUILTIN_DEFAULTS,
    ModelReference,
    joined_settings,
)
from tests.simulated import Simulated, log_run

Fate = Literal["finishes", "fails", "dies", "dies after the end", "is not delivered", "hangs"]


class Cluster:
    """Starts nothing; a job does as the fate of its training says.

    Args:
        fates: By model and seed; the others finish.
        slots: How many at a time.
        interrupt_after: Ask the benchmark to stop, as Ctrl-C does, when so many jobs have ended.
        losses: By model and seed, how often the place of its job dies; the first time before the
            run is opened.
        accuracies: Of each model with seed 0; each seed has a thousandth more.
    """

    def __init__(
        self,
        fates: Mapping[tuple[str, int], Fate] | None = None,
        slots: int = 2,
        interrupt_after: int | None = None,
        losses: Mapping[tuple[str, int], int] | None = None,
        accuracies: Mapping[str, float] | None = None,
    ) -> None:
        self._fates = fates or {}
        self._accuracies = {"mlp": 0.87, "cnn": 0.90} if accuracies is None else accuracies
        self.slots = slots
        self.jobs_per_machine = 1
        self._interrupt_after = interrupt_after
        self._queue: deque[Job] = deque()
        self.started: list[TrainConfig] = []
        self.jobs: list[Job] = []
        self._losses = dict(losses or {})
        self._configs: dict[str, TrainConfig] = {}
        self.most_at_a_time = 0

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert not self._queue, "the benchmark left jobs behind"

    def submit(self, job: Job) -> None:
        self._queue.append(job)
        self.jobs.append(job)
        if job.arguments[0] == "train":
            self._configs[job.key] = config_of(job)
            self.started.append(config_of(job))
        self.most_at_a_time = max(self.most_at_a_time, len(self._queue))

    def events(self, seconds: float) -> Sequence[JobProgress | JobEnd]:
        if self._interrupt_after == len(self.jobs) - len(self._queue):
            self._interrupt_after = None
            os.kill(os.getpid(), signal.SIGINT)
        ready = [job for job in self._queue if self._fate(job) != "hangs"]
        if not ready:
            return []
        self._queue.remove(ready[0])
        return [
            JobProgress(ready[0], Progress(event="epoch", epoch=1, epochs=5), "a-host"),
            self._run(ready[0]),
        ]

    def stop(self, signum: int) -> Sequence[JobEnd]:
        ends = [JobEnd(job, f"killed by {signal.Signals(signum).name}", "") for job in self._queue]
        self._queue.clear()
        return ends

    def _fate(self, job: Job) -> Fate:
        config = self._configs[job.key]
        return self._fates.get((config.model, config.seed), "finishes")

    def _run(self, job: Job) -> JobEnd:
        config = self._configs[job.key]
        run_id, uri = job.environment["MLFLOW_RUN_ID"], job.environment["MLFLOW_TRACKING_URI"]
        assert run_id
        client = MlflowClient(tracking_uri=uri)
        fate = self._fate(job)
        if left := self._losses.get((config.model, config.seed)):
            self._losses[config.model, config.seed] -= 1
            if job.arguments[0] == "resume" or left == 1:
                client.set_tag(run_id, keys.KIND, keys.KIND_TRAINING)
            return JobEnd(job, "its machine is gone", "", is_lost=True)
        if fate == "fails":
            client.set_tag(run_id, keys.ERROR, "the loss is nan")
            client.set_terminated(run_id, "FAILED")
            return JobEnd(job, "what the process wrote last", "fm-mlflow: the loss is nan\n")
        if fate == "dies":
            return JobEnd(job, "killed by SIGKILL", "epoch 1/5\n")
        status = "RUNNING" if fate == "is not delivered" else "FINISHED"
        own = {} if config.learning_rate == 0.001 else {"learning_rate": config.learning_rate}
        accuracy = self._accuracies[joined_settings(config.model, own)] + config.seed / 1000
        model = ModelReference.parse(config.model)
        arguments = {**BUILTIN_DEFAULTS.get(model.name, {}), **model.arguments}
        params = {f"{ARGUMENT_PREFIX}{name}": value for name, value in arguments.items()}
        params |= {"model": config.model, "learning_rate": str(config.learning_rate)}
        run = Simulated(model.name, config.seed, accuracy, status, params)
        log_run(client, run, run_id=run_id)
        return JobEnd(job, "killed by SIGSEGV" if fate == "dies after the end" else None, "text\n")


def config_of(job: Job) -> TrainConfig:
    """Read a job's arguments as the command line does."""
    command, *options = job.arguments
    assert command == "train"
    names = (name.removeprefix("--").replace("-", "_") for name in options[::2])
    return parse(TrainConfig, dict(zip(names, options[1::2], strict=True)))
