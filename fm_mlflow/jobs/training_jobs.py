"""The jobs of one training: the one that starts it, and those that continue it when it is lost."""

from __future__ import annotations

import shlex

from fm_mlflow import keys
from fm_mlflow.jobs.executors import Job
from fm_mlflow.naming import command_line, training_name
from fm_mlflow.settings.config import ResumeConfig, TrainConfig
from fm_mlflow.tracking.child_runs import StoredRun, environment_to_join, reopen_child


def first_job(training: TrainConfig, run_id: str, experiment_id: str) -> Job:
    """Return the job that starts a training in a run that waits for it."""
    command = command_line("train", training, always=["model", "seed"])
    return _job(training, run_id, experiment_id, shlex.split(command)[1:])


def next_job(training: TrainConfig, stored: StoredRun) -> Job:
    """Return the job that continues a training whose place was lost.

    It resumes the run from its last checkpoint in the store. Whoever lost it knows that its process
    is gone or cut off, so it takes the run over at once. A run that its process never opened starts
    anew.

    Args:
        training: Its settings.
        stored: Its run, which has not finished.
    """
    if keys.KIND not in stored.tags:
        reopen_child(stored)
        return first_job(training, stored.run_id, stored.experiment_id)
    settings = ResumeConfig(
        data_dir=training.data_dir,
        flush_timeout=training.flush_timeout,
        checkpoint_seconds=training.checkpoint_seconds,
        take_over=True,
    )
    command, *options = shlex.split(command_line("resume", settings))[1:]
    arguments = [command, stored.run_id, *options]
    return _job(training, stored.run_id, stored.experiment_id, arguments)


def _job(training: TrainConfig, run_id: str, experiment_id: str, arguments: list[str]) -> Job:
    name = training_name(training.entry, training.seed)
    return Job(run_id, name, tuple(arguments), environment_to_join(run_id, experiment_id))
