"""The runs within a benchmark's run: handed to other processes, and looked after from here."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import mlflow
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from fm_mlflow import keys
from fm_mlflow.errors import TrackingError
from fm_mlflow.process.identity import Presence, ProcessIdentity, this_process
from fm_mlflow.process.redaction import one_line, redact
from fm_mlflow.process.signals import shield
from fm_mlflow.process.temporary import temporary_folder
from fm_mlflow.tracking.artifacts import upload
from fm_mlflow.tracking.experiment import start_run
from fm_mlflow.tracking.outbox.remote_run import utc_now
from fm_mlflow.tracking.params import unquoted
from fm_mlflow.tracking.run import REOPENED, TrackedRun
from fm_mlflow.tracking.store import (
    OLDEST_FIRST,
    check_reachable,
    get_run,
    pages,
    status_after,
    store_errors,
)
from fm_mlflow.tracking.uris import absolute_uri

_log = logging.getLogger(__name__)

_SOURCE = "mlflow.source."
_ANSWER_HOLDS_SECONDS = 1.0


@dataclass(frozen=True)
class StoredRun:
    """What the store says of a run.

    Attributes:
        status: RUNNING, FINISHED, FAILED or KILLED.
        params: By name, as they would be typed.
        test_accuracy: Where it got so far.
        seconds: From its creation to its end; None while it runs.
        artifact_uri: Where its artifacts are.
    """

    run_id: str
    experiment_id: str
    name: str
    status: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    test_accuracy: float | None
    seconds: float | None
    artifact_uri: str

    @property
    def finished(self) -> bool:
        """It did all that it should."""
        return self.status == keys.FINISHED

    @property
    def ended(self) -> bool:
        """It is over, one way or another."""
        return self.status in keys.ENDED


class StoreProbe:
    """Looks whether the store answers before it is asked; not again when it has just answered.

    A context manager around the requests. MLflow would retry them for minutes.
    """

    def __init__(self) -> None:
        self._answered_at = -math.inf

    def __enter__(self) -> None:
        """Look; raises as `check_reachable`."""
        if time.monotonic() - self._answered_at > _ANSWER_HOLDS_SECONDS:
            check_reachable()
        self.forget()

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Note the answer."""
        if error is None:
            self._answered_at = time.monotonic()

    def forget(self) -> None:
        """Look again the next time: something else was waited for."""
        self._answered_at = -math.inf


def read_run(run_id: str, parameter: str) -> StoredRun:
    """Read a run that the user named.

    Raises:
        InputError: There is no such run; names the user's parameter.
        TrackingError: The store does not answer or refuses.
    """
    check_reachable()
    with store_errors("read a run"):
        return _stored(get_run(run_id, parameter, "the id of a run in the store"))


def read_child(run_id: str, probe: StoreProbe | None = None) -> StoredRun:
    """Read a run.

    Args:
        run_id: Its id.
        probe: Of the requests of one moment.
    """
    with probe or StoreProbe(), store_errors("read a run"):
        return _stored(MlflowClient().get_run(run_id))


def children_of(run_id: str) -> list[StoredRun]:
    """Return the trainings within a run, oldest first."""
    client = MlflowClient()
    with store_errors("query runs"):
        experiment = client.get_run(run_id).info.experiment_id
        text = f"tags.`{keys.MLFLOW_PARENT_RUN_ID}` = '{run_id}'"
        runs = pages(client.search_runs, [experiment], text, order_by=OLDEST_FIRST)
        # By what `create_child` was told: one that failed before it was under way has no kind.
        return [_stored(run) for run in runs if keys.JOBS in run.data.tags]


def comparison_of(run_id: str) -> StoredRun | None:
    """Return the last comparison within a run that finished; None before there is one."""
    client = MlflowClient()
    with store_errors("query runs"):
        experiment = client.get_run(run_id).info.experiment_id
        text = (
            f"tags.`{keys.MLFLOW_PARENT_RUN_ID}` = '{run_id}' "
            f"and tags.`{keys.KIND}` = '{keys.KIND_COMPARISON}' "
            f"and attributes.status = '{keys.FINISHED}'"
        )
        runs = list(pages(client.search_runs, [experiment], text, order_by=OLDEST_FIRST))
    return _stored(runs[-1]) if runs else None


def create_child(
    parent: TrackedRun,
    name: str,
    model: str,
    jobs: int,
    identity: str,
    tags: Mapping[str, str] | None = None,
    *,
    is_repeated: bool = False,
    probe: StoreProbe | None = None,
) -> str:
    """Create a training's run within another, to be joined by another process; return its id.

    It has the same source (commit, project, user) as its parent. Called again with the same
    identity, because the store's answer was lost, it returns the same run.

    Args:
        parent: The run of the benchmark.
        name: The child's name.
        model: What it trains.
        jobs: Trainings at a time.
        identity: Unique; the tag `fm_mlflow.journal` until the training sets its own.
        tags: More of them.
        is_repeated: It may have been asked for before.
        probe: Of the requests of one moment.
    """
    client = MlflowClient()
    with probe or StoreProbe(), store_errors("create a run"):
        text = f"tags.`{keys.JOURNAL}` = '{identity}'"
        if is_repeated and (
            made := client.search_runs([parent.experiment_id], text, max_results=1)
        ):
            return str(made[0].info.run_id)
        run = client.create_run(
            parent.experiment_id,
            tags={
                **_source_of(parent.run_id),
                **(tags or {}),
                keys.MLFLOW_PARENT_RUN_ID: parent.run_id,
                keys.MODEL: redact(model),
                keys.JOBS: str(jobs),
                keys.JOURNAL: identity,
            },
            run_name=redact(name),
        )
    return str(run.info.run_id)


@lru_cache(maxsize=1)
def _source_of(run_id: str) -> dict[str, str]:
    """Return the tags of a run that say what program it is of, and whose; they never change."""
    tags = MlflowClient().get_run(run_id).data.tags
    return {
        name: value
        for name, value in tags.items()
        if name.startswith(_SOURCE) or name == keys.MLFLOW_USER
    }


def environment_to_join(run_id: str, experiment_id: str) -> dict[str, str | None]:
    """Return the variables by which a process joins a run, as `mlflow run` hands one over."""
    return {
        "MLFLOW_RUN_ID": run_id,
        "MLFLOW_TRACKING_URI": absolute_uri(mlflow.get_tracking_uri()),
        "MLFLOW_EXPERIMENT_ID": experiment_id,
        "MLFLOW_EXPERIMENT_NAME": None,  # would contradict the id
    }


def close_child(run: StoredRun, cause: str, *, killed: bool) -> StoredRun:
    """Make a training whose process is gone say so, where that process could not.

    One that a living process of this machine has taken over is left to that.

    Args:
        run: The run.
        cause: One line for the tag `fm_mlflow.error`.
        killed: It was asked to stop, rather than failed.

    Returns:
        The run as it is now.
    """
    process = ProcessIdentity.from_tags(run.tags)
    if process is not None and process.presence() is Presence.ALIVE:
        return run
    client = MlflowClient()
    with store_errors("close a run"):
        if keys.KIND not in run.tags:  # it ended before it was under way
            client.set_tag(run.run_id, keys.KIND, keys.KIND_TRAINING)
        if not run.ended:
            client.set_tag(run.run_id, keys.ERROR, redact(cause))
            client.set_terminated(run.run_id, keys.KILLED if killed else keys.FAILED)
    return read_child(run.run_id)


def reopen_child(run: StoredRun) -> None:
    """Have a run that no training has opened yet wait for one again, whatever closed it."""
    client = MlflowClient()
    with store_errors("reopen a run"):
        if run.ended:
            client.update_run(run.run_id, status=keys.RUNNING)
        if keys.ERROR in run.tags:
            client.delete_tag(run.run_id, keys.ERROR)


def note_jobs(run_id: str, jobs: int) -> None:
    """Record how many trainings shared a run's machine, itself included."""
    with store_errors("set a tag"):
        MlflowClient().set_tag(run_id, keys.JOBS, str(jobs))


def log_output(run: StoredRun, text: str) -> None:
    """Keep what a run's process wrote as an artifact of the run; the store has just answered."""
    with store_errors("log artifacts"), temporary_folder() as folder:
        path = folder / keys.OUTPUT_FILE
        path.write_text(redact(text), encoding="utf-8")
        upload(run.run_id, run.artifact_uri, path)


def set_aside_handed_over_run(name: str) -> None:
    """Do not join the run that `mlflow run` made for this process, but name it.

    `mlflow run` closes it by our exit code.
    """
    run_id = os.environ.pop("MLFLOW_RUN_ID", None)
    if run_id is not None:
        with store_errors("name a run"):
            MlflowClient().set_tag(run_id, keys.MLFLOW_RUN_NAME, name)


@contextmanager
def open_run(kind: str, reopen: str | None = None) -> Iterator[None]:
    """Open a run for a TrackedRun to join, and close it as it truly ended.

    Args:
        kind: What the TrackedRun will be.
        reopen: A run of that kind that has ended, to continue; by default a new one, within the
            active run.
    """
    with shield(), store_errors("open a run"):
        # It has a kind and a process from the first moment on: whoever finds it after a kill has to
        # know what it is, and that its process is gone.
        tags = {keys.KIND: kind, keys.HEARTBEAT: utc_now(), **this_process().tags()}
        run = start_run(run_id=reopen, nested=True, tags=tags)
        REOPENED.add(run.info.run_id)
        if keys.ERROR in run.data.tags:
            mlflow.delete_tag(keys.ERROR)  # the TrackedRun will say how it ends
    try:
        yield
    except BaseException as error:
        # The store may be what failed: that must not hide the first error.
        try:
            with shield(), store_errors("close a run"):
                mlflow.set_tags({keys.KIND: kind, keys.ERROR: one_line(error)})
                mlflow.end_run(status_after(error))
        except TrackingError as failure:
            _log.warning("run %s is not closed: %s", run.info.run_id, failure)
        raise
    with shield(), store_errors("close a run"):
        mlflow.end_run()


def _stored(run: Run) -> StoredRun:
    info, data = run.info, run.data
    ended = info.end_time is not None and info.status != keys.RUNNING
    return StoredRun(
        run_id=info.run_id,
        experiment_id=info.experiment_id,
        name=info.run_name or info.run_id,
        status=info.status,
        params={name: unquoted(value) for name, value in data.params.items()},
        tags=data.tags,
        test_accuracy=data.metrics.get(keys.TEST_ACCURACY),
        seconds=(info.end_time - info.start_time) / 1000 if ended else None,
        artifact_uri=info.artifact_uri or "",
    )
