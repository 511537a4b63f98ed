"""What came of a training: by what the store says, or by its process' own word."""

from __future__ import annotations

from dataclasses import dataclass

from fm_mlflow import keys
from fm_mlflow.process.redaction import redact
from fm_mlflow.results.benchmark import BenchmarkTraining
from fm_mlflow.settings.config import TrainConfig
from fm_mlflow.tracking.child_runs import StoredRun


@dataclass(frozen=True)
class End:
    """How a training's process ended, and what it told of its result."""

    training: TrainConfig
    cause: str | None
    output: str
    killed: bool
    test_accuracy: float | None


def as_told(run_id: str, end: End) -> BenchmarkTraining:
    """Return what came of a training by its process' own word."""
    failed = keys.KILLED if end.killed else keys.FAILED
    return BenchmarkTraining(
        model=end.training.entry,
        seed=end.training.seed,
        run_id=run_id,
        status=keys.FINISHED if end.cause is None else failed,
        test_accuracy=end.test_accuracy if end.cause is None else None,
        seconds=None,
        error=end.cause,
    )


def outcome_of(training: TrainConfig, stored: StoredRun, cause: str | None) -> BenchmarkTraining:
    """Return what came of a training by what the store says."""
    error = None
    if not stored.finished:
        undelivered = f"its process ended well, but the store has its run as {stored.status}"
        error = stored.tags.get(keys.ERROR) or redact(cause or undelivered)
    return BenchmarkTraining(
        model=training.entry,
        seed=training.seed,
        run_id=stored.run_id,
        status=stored.status,
        test_accuracy=stored.test_accuracy if stored.finished else None,
        seconds=stored.seconds,
        error=error,
    )
