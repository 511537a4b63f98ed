"""An executor whose trials train nothing: they log, as trials do, what a formula says."""

from __future__ import annotations

import math
import os
import threading
import time

from fm_mlflow import keys
from fm_mlflow.jobs.executors import Job, JobEnd
from fm_mlflow.settings.model_reference import ModelReference
from fm_mlflow.settings.sweep import TrialsConfig
from tests.inline import InlineExecutor


class SimulatedTrials(InlineExecutor):
    """Logs trials of the built-in mlp at once, on a thread of its own.

    Args:
        seconds: How long an epoch takes.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.epochs = 0
        """Trained by this executor."""
        self._seconds = seconds

    def submit(self, job: Job) -> None:
        self.jobs.append(job)
        given = dict(zip(job.arguments[1::2], job.arguments[2::2], strict=True))
        call = TrialsConfig(runs=given["--runs"])

        def run() -> None:
            for run_id, epochs in call.pieces.items():
                self._train(run_id, epochs)
            self._events.append(JobEnd(job, None, ""))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    def _train(self, run_id: str, epochs: int) -> None:
        from fm_mlflow.tracking.resumption import resumable
        from fm_mlflow.tracking.run import TrackedRun
        from fm_mlflow.tracking.trial_runs import read_trial

        trial = read_trial(run_id, keys.VAL_ACCURACY)
        if trial.is_begun:
            with (
                resumable(run_id, kind=keys.KIND_TRIAL, take_over=True) as found,
                TrackedRun(keys.KIND_TRIAL, "again", resumption=found.resumption) as run,
            ):
                self._log(run, dict(trial.params), max(trial.curve, default=0), epochs)
            return
        os.environ["MLFLOW_RUN_ID"] = run_id
        try:
            with TrackedRun(keys.KIND_TRIAL, "first") as run:
                self._log(run, dict(trial.params), 0, epochs)
        finally:
            os.environ.pop("MLFLOW_RUN_ID", None)

    def _log(self, run: object, params: dict[str, str], done: int, epochs: int) -> None:
        from fm_mlflow.tracking.run import TrackedRun

        assert isinstance(run, TrackedRun)
        hidden = ModelReference.parse(params["model"]).arguments.get("hidden", "256,128")
        units = math.prod(map(int, hidden.split(",")))
        costs: dict[str, float] = {
            keys.FLOPS_INFERENCE: float(units),
            keys.FLOPS_TRAINING: 3.0 * units,
        }
        run.log_metrics({**costs, keys.PARAMETERS_TRAINABLE: float(units)})
        if units > 20_000:
            run.set_tags({keys.BOUNDED_OUT: "too many"})
            return
        distance = abs(math.log10(float(params["learning_rate"])) + 2.5)
        for epoch in range(done + 1, epochs + 1):
            time.sleep(self._seconds)
            value = 0.9 - 0.1 * distance - 1 / math.sqrt(units) - 0.1 / epoch
            run.log_metrics({keys.VAL_ACCURACY: value}, step=epoch)
            self.epochs += 1
