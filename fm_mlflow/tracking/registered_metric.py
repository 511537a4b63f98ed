"""By which metric a registered model's champion is decided, and what says so."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow.entities.model_registry import RegisteredModel
from mlflow.tracking import MlflowClient

from fm_mlflow import keys
from fm_mlflow.analysis.objective import DEFAULT, Objective
from fm_mlflow.process.redaction import redact_named
from fm_mlflow.results.register import GateError


class OtherMetricError(GateError):
    """A champion that was decided by one metric may not be replaced by another metric."""

    def __init__(self, name: str, owner: Objective, asked: Objective) -> None:
        super().__init__(
            f"versions of {name} are held against each other by {_words(owner)}; this is by "
            f"{_words(asked)}; --metric and the direction name the former, --name another model"
        )


def _words(objective: Objective) -> str:
    return f"{objective.metric} ({objective.direction} is better)"


def to_tags(objective: Objective) -> dict[str, str]:
    """Return the tags that speak of a metric and its direction.

    In this order: without the metric, what is left of a crash between the two says nothing.
    """
    return {str(keys.DIRECTION): objective.direction, str(keys.METRIC): objective.metric}


def of_tags(tags: Mapping[str, str]) -> Objective | None:
    """Return the metric that tags speak of; None where they speak of none."""
    metric = tags.get(keys.METRIC)
    smaller = Objective("", smaller_is_better=True).direction
    return Objective(metric, tags.get(keys.DIRECTION) == smaller) if metric else None


def check(model: RegisteredModel, asked: Objective, *, is_new: bool) -> None:
    """Refuse to decide by another metric than versions of a registered model were decided by.

    Args:
        model: The registered model.
        asked: The metric.
        is_new: It has no version yet. Earlier versions recorded nothing: it was the accuracy.

    Raises:
        OtherMetricError: Names both metrics.
    """
    owner = of_tags(model.tags) or (None if is_new else DEFAULT)
    if owner is not None and _words(owner) != _words(asked):
        raise OtherMetricError(model.name, owner, asked)


def claim(client: MlflowClient, model: RegisteredModel, asked: Objective) -> None:
    """Record by which metric a registered model's champion is decided, if nothing is recorded."""
    if of_tags(model.tags) is None:
        for name, value in to_tags(asked).items():
            client.set_registered_model_tag(model.name, name, redact_named(name, value))
