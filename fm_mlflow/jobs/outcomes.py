"""What came of a training: by what the store says, or by its process' own word."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pydantic_core

from fm_mlflow import keys
from fm_mlflow.analysis.prose.words import counted
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


def to_json(outcomes: Sequence[BenchmarkTraining]) -> str:
    """Return what came of trainings as JSON, secrets hidden."""
    # In each text, not in the JSON: there a secret may end within an escape or past a quote.
    safe = [
        replace(each, model=redact(each.model), error=each.error and redact(each.error))
        for each in outcomes
    ]
    return pydantic_core.to_json(safe, indent=2, inf_nan_mode="null").decode() + "\n"


def reruns(before: Sequence[StoredRun]) -> list[str]:
    """Say which trainings of an earlier call are done again, and why: a sentence a reason.

    Args:
        before: The runs of earlier calls.
    """
    finished = [each for each in before if each.finished]
    why: dict[str, dict[str, None]] = defaultdict(dict)
    for each in before:
        # One that failed before it was under way has no parameters.
        twins = (one for one in finished if one.name == each.name)
        if not any(not each.params or one.params == each.params for one in twins):
            status = f"it ended as {each.status}" if each.ended else "it has not ended"
            cause = each.tags.get(keys.ERROR)
            why[f"{status}: {cause}" if cause else status][each.name] = None
    sentences = []
    for reason, (name, *more) in why.items():
        whose = f"{name} and {counted(len(more), 'other')} are" if more else f"{name} is"
        sentences.append(f"{whose} trained again: {reason}")
    return sentences
