"""The runs of a sweep's trials: created here, trained elsewhere, read back as the only truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlflow.entities import Param, Run
from mlflow.tracking import MlflowClient

from fm_mlflow import keys
from fm_mlflow.process.redaction import redact, redact_named
from fm_mlflow.tracking.child_runs import create_child
from fm_mlflow.tracking.params import unquoted, whole_number
from fm_mlflow.tracking.run import TrackedRun
from fm_mlflow.tracking.store import OLDEST_FIRST, check_reachable, pages, store_errors


@dataclass(frozen=True)
class TrialRun:
    """What the store knows of a trial.

    Attributes:
        number: Of the trial.
        status: RUNNING, FINISHED, FAILED or KILLED.
        is_begun: Whether a process has taken it up.
        params: By name.
        metrics: Last values by name.
        curve: The compared metric by epoch.
    """

    run_id: str
    number: int
    status: str
    is_begun: bool
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    curve: Mapping[int, float]

    @property
    def ended(self) -> bool:
        """Whether it is over, one way or another."""
        return self.status in keys.ENDED

    @property
    def error(self) -> str:
        """Why it failed; empty where it did not."""
        cause = self.tags.get(keys.ERROR, "no cause is recorded")
        return cause if self.status == keys.FAILED else ""

    def training_flops(self, epochs: int, images: int) -> float | None:
        """Return the FLOPs of its training steps; None where nobody counted them.

        Args:
            epochs: That it was trained for.
            images: Of an epoch.
        """
        per_image = self.metrics.get(keys.FLOPS_TRAINING)
        return None if per_image is None else per_image * images * epochs


def create_trial(
    parent: TrackedRun, number: int, name: str, params: Mapping[str, str], model: str, jobs: int
) -> str:
    """Create the run of a trial, or find the one that was begun; return its id.

    Its parameters say what it is, before anything is trained.

    Args:
        parent: The run of the sweep.
        number: Of the trial.
        name: What it is called.
        params: Its parameters, by name.
        model: What it trains, without arguments.
        jobs: Trials at a time.
    """
    identity = f"{parent.run_id}/{number}"
    tags = {str(keys.TRIAL): str(number)}
    # A sweep that was killed just now, or a lost answer, may have left it without parameters.
    run_id = create_child(parent, name, model, jobs, identity, tags, is_repeated=True)
    with store_errors("log parameters"):
        logged = [Param(key, redact_named(key, value)) for key, value in params.items()]
        MlflowClient().log_batch(run_id, params=logged)
    return run_id


def read_trial(run_id: str, metric: str) -> TrialRun:
    """Read the run of a trial.

    Args:
        run_id: Its id.
        metric: The compared metric.
    """
    check_reachable()
    with store_errors("read a run"):
        return _trial(MlflowClient().get_run(run_id), metric)


def trials_of(sweep: str, metric: str) -> dict[int, TrialRun]:
    """Return the trials of a sweep by number; of two with one number, the first.

    Args:
        sweep: Id of the sweep's run.
        metric: The compared metric.
    """
    client = MlflowClient()
    check_reachable()
    with store_errors("query runs"):
        experiment = client.get_run(sweep).info.experiment_id
        text = f"tags.`{keys.MLFLOW_PARENT_RUN_ID}` = '{sweep}'"
        runs = list(pages(client.search_runs, [experiment], text, order_by=OLDEST_FIRST))
        found: dict[int, TrialRun] = {}
        for run in runs:
            if run.data.tags.get(keys.TRIAL, "").isdecimal():
                trial = _trial(run, metric)
                found.setdefault(trial.number, trial)
        return found


def fail_trial(run_id: str, cause: str) -> None:
    """Have the run of a trial say that it failed, where its process could not.

    Args:
        run_id: Its id.
        cause: Why, in one line.
    """
    client = MlflowClient()
    with store_errors("close a run"):
        client.set_tag(run_id, keys.KIND, keys.KIND_TRIAL)
        client.set_tag(run_id, keys.ERROR, redact(cause))
        client.set_terminated(run_id, keys.FAILED)


def finish_trial(run_id: str) -> None:
    """Have the run of a trial say that it finished: it was killed after all that it had to do.

    Args:
        run_id: Its id.
    """
    client = MlflowClient()
    with store_errors("close a run"):
        if keys.ERROR in client.get_run(run_id).data.tags:
            client.delete_tag(run_id, keys.ERROR)
        client.set_terminated(run_id, keys.FINISHED)


def seconds_of(sweep: str) -> float:
    """Return how long the search of a sweep has taken in earlier calls."""
    check_reachable()
    with store_errors("read a run"):
        metrics = MlflowClient().get_run(sweep).data.metrics
    return float(metrics.get(keys.SEARCH_SECONDS, 0.0))


def benchmark_of(sweep: str) -> str | None:
    """Return the id of the last benchmark of a sweep's finalists; None before there is one."""
    client = MlflowClient()
    check_reachable()
    with store_errors("query runs"):
        experiment = client.get_run(sweep).info.experiment_id
        text = (
            f"tags.`{keys.MLFLOW_PARENT_RUN_ID}` = '{sweep}' "
            f"and tags.`{keys.KIND}` = '{keys.KIND_BENCHMARK}'"
        )
        runs = client.search_runs([experiment], text, order_by=OLDEST_FIRST)
    return str(runs[-1].info.run_id) if runs else None


def _trial(run: Run, metric: str) -> TrialRun:
    data = run.data
    curve: dict[int, float] = {}
    if metric in data.metrics:
        for point in MlflowClient().get_metric_history(run.info.run_id, metric):
            curve[point.step] = point.value
    return TrialRun(
        run_id=run.info.run_id,
        number=whole_number(data.tags.get(keys.TRIAL, ""), 0),
        status=run.info.status,
        is_begun=keys.KIND in data.tags,
        params={name: unquoted(value) for name, value in data.params.items()},
        tags=data.tags,
        metrics=data.metrics,
        curve=curve,
    )
