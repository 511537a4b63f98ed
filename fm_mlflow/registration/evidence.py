"""What was verified of a model before anything is decided, and what a version carries of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fm_mlflow import keys
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.records import DataSet, TrainingRun
from fm_mlflow.data.dataset import Dataset
from fm_mlflow.keys import Key
from fm_mlflow.naming import training_command, training_config
from fm_mlflow.registration.checks import Verification
from fm_mlflow.registration.model_card import render_model_card, render_own_data_card
from fm_mlflow.results.register import Check
from fm_mlflow.tracking.registered_data import to_tags
from fm_mlflow.tracking.registered_metric import to_tags as metric_tags

if TYPE_CHECKING:
    from fm_mlflow.tracking.candidate import Candidate

EVIDENCE: tuple[Key, ...] = (
    keys.TEST_ACCURACY,
    keys.FLOPS_INFERENCE,
    keys.SIZE_INFERENCE,
    keys.LATENCY_P50,
    keys.MEMORY_PEAK,
)
"""Figures that a version carries as tags, beside the metric that decides: they outlive its run."""


@dataclass(frozen=True)
class Verified:
    """A verified model, before anything is decided."""

    reason: str
    candidate: Candidate
    dataset: Dataset | None
    verification: Verification

    @property
    def run(self) -> TrainingRun:
        """The run that trained it."""
        return self.candidate.run

    @property
    def data_set(self) -> DataSet:
        """What it was verified on; what its run says of it, where nobody has the data."""
        if self.dataset is None:
            return self.run.data_set
        return DataSet(self.dataset.name, self.dataset.digest)

    @property
    def metrics(self) -> dict[str, float]:
        """The run's figures, and where they could be measured again, what was found."""
        return {**self.run.metrics, **self.verification.metrics}


def not_verified(verified: Verified, objective: Objective) -> list[Check]:
    """Say that the metric that decides was not measured again."""
    metric = objective.metric
    if verified.dataset is None or metric in verified.verification.metrics:
        return []
    rule = "none: it cannot be measured again; what the run logged decides"
    return [Check(metric, verified.run.metrics.get(metric), None, rule, None)]


def evidence(verified: Verified, objective: Objective) -> dict[str, str]:
    """Return the tags of a version, so that its figures outlive its run."""
    metrics, weights_digest = verified.metrics, verified.candidate.weights_digest
    # In the order in which the UI's table shows them, from the most asked for on.
    return {
        **{key: _exact(metrics[key]) for key in (objective.metric, *EVIDENCE) if key in metrics},
        **metric_tags(objective),
        keys.MODEL: verified.run.model,
        keys.VERIFIED_AT: verified.verification.verified_at,
        **to_tags(verified.data_set),
        keys.MODEL_DIGEST: verified.candidate.model_digest,
        **({keys.WEIGHTS_DIGEST: weights_digest} if weights_digest else {}),
        **({keys.MLFLOW_GIT_COMMIT: verified.run.commit} if verified.run.commit else {}),
    }


def _exact(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def card(name: str, verified: Verified, seeds: tuple[float, ...], objective: Objective) -> str:
    """Return the description of a version, as Markdown."""
    run = verified.run
    if verified.dataset is None:
        of_run = verified.candidate, verified.verification
        return render_own_data_card(name, *of_run, seeds, objective)
    seed = {} if run.seed is None else {"seed": run.seed}
    trained = training_config(run.model, {**run.config, **seed})
    return render_model_card(
        name,
        verified.candidate,
        verified.dataset.hold_out(trained.validation_split),
        verified.verification,
        training_command(trained),
        seeds,
        objective,
    )
