"""An executor that runs jobs in this process, which has TensorFlow already."""

from __future__ import annotations

import os
import threading

from fm_mlflow.jobs.executors import Executor, Job, JobEnd, JobProgress
from tests.processes import command_in_this_process


class InlineExecutor(Executor):
    """Runs each job at once, on a thread of its own: MLflow's active run is a thread's.

    Attributes:
        jobs: What was asked for, in order.
    """

    slots = 1
    jobs_per_machine = 1

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self._events: list[JobProgress | JobEnd] = []

    def __exit__(self, *_: object) -> None:
        self._events.clear()

    def submit(self, job: Job) -> None:
        self.jobs.append(job)
        before = dict(os.environ)
        for name, value in job.environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        ends: list[JobEnd] = []

        def run() -> None:
            code, _, err = command_in_this_process(*job.arguments)
            ends.append(JobEnd(job, err.strip().splitlines()[-1] if code else None, err))

        try:
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
        finally:
            os.environ.clear()
            os.environ.update(before)
        self._events += ends

    def events(self, seconds: float) -> list[JobProgress | JobEnd]:
        events, self._events = self._events, []
        return events

    def stop(self, signum: int) -> list[JobEnd]:
        return []
