"""One training on an executor: what a benchmark does with many of them."""

from __future__ import annotations

from collections.abc import Callable
from signal import SIGTERM

from fm_mlflow import keys
from fm_mlflow.errors import Interrupted
from fm_mlflow.jobs.executors import Executor, Job, JobEnd
from fm_mlflow.jobs.losses import Losses
from fm_mlflow.jobs.training_jobs import first_job, next_job
from fm_mlflow.process.signals import guard, shield
from fm_mlflow.settings.config import TrainConfig
from fm_mlflow.tracking.child_runs import close_child, log_output, read_child

_LISTEN_SECONDS = 0.5


def train_once(
    run_id: str,
    training: TrainConfig,
    executor: Executor,
    retries: int,
    notice: Callable[[str], None],
) -> bool:
    """Train in a run that waits for it; continue the training where its place is lost.

    Args:
        run_id: The run.
        training: What to train.
        executor: Where; not entered yet.
        retries: How often a training that is lost is continued.
        notice: Hears what a person should know, in one line.

    Returns:
        Whether the run has finished.
    """
    stored = read_child(run_id)
    losses = Losses(retries, notice)
    with guard(), executor:
        job = first_job(training, run_id, stored.experiment_id)
        while True:
            end = _run(job, executor)
            stored = read_child(run_id)
            is_over = stored.status in (keys.FINISHED, keys.FAILED)
            if not end.is_lost or is_over:
                break
            if not losses.may_continue(run_id, job.name, end.cause):
                break
            job = next_job(training, stored)
        log_output(stored, end.output)
        if end.cause is not None and not stored.finished:
            stored = close_child(stored, end.cause, killed=False)
    return stored.finished


def _run(job: Job, executor: Executor) -> JobEnd:
    executor.submit(job)
    try:
        while True:
            for event in executor.events(_LISTEN_SECONDS):
                if isinstance(event, JobEnd):
                    return event
    except BaseException as error:
        with shield(forget=True):
            executor.stop(error.signum if isinstance(error, Interrupted) else SIGTERM)
            stored = read_child(job.key)
            if not stored.ended:
                close_child(stored, "interrupted", killed=True)
        raise
