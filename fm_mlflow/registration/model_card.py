"""A model card: the description of a version in the model registry, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup

from fm_mlflow import keys
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.prose.words import in_row, interval, number
from fm_mlflow.data.dataset import Dataset
from fm_mlflow.escaping import code_span, markdown, printable
from fm_mlflow.keys import Key
from fm_mlflow.naming import dataset_title
from fm_mlflow.registration.checks import Verification
from fm_mlflow.report.markdown import environment

if TYPE_CHECKING:
    from fm_mlflow.tracking.candidate import Candidate

_COSTS: tuple[tuple[str, Key], ...] = (
    ("FLOPs per prediction", keys.FLOPS_INFERENCE),
    ("FLOPs per training example", keys.FLOPS_TRAINING),
    ("trainable parameters", keys.PARAMETERS_TRAINABLE),
    ("size to predict", keys.SIZE_INFERENCE),
    ("size of the logged model", keys.SIZE_MLFLOW_MODEL),
    ("latency, one image (median)", keys.LATENCY_P50),
    ("latency, one image (95%)", keys.LATENCY_P95),
    ("memory to load and predict", keys.MEMORY_LOAD),
    ("peak memory of the training", keys.MEMORY_PEAK),
    ("time to train", keys.FIT_SECONDS),
)


def render_model_card(
    name: str,
    candidate: Candidate,
    dataset: Dataset,
    verification: Verification,
    command: str,
    seed_values: Sequence[float],
    objective: Objective,
) -> str:
    """Render a model card.

    Args:
        name: The registered model.
        candidate: The run that trained the model, and what it measured.
        dataset: What it was trained, validated and tested on.
        verification: What was measured again, which counts instead.
        command: What repeats the training.
        seed_values: The metric of all runs that differ in nothing but the seed.
        objective: The metric that decided.
    """
    from fm_mlflow.analysis.statistics.intervals import wilson

    held_out = dataset.validation
    metrics = {**candidate.run.metrics, **verification.metrics}
    key, accuracy = keys.TEST_ACCURACY, metrics[keys.TEST_ACCURACY]
    # What other test images of this kind would show.
    span = wilson(accuracy, len(dataset.test))
    return _rendered(
        "model_card.md",
        *(name, candidate, verification, seed_values, objective),
        command=command,
        dataset=dataset,
        dataset_title=dataset_title(dataset.name),
        accuracy=f"{number(key, accuracy)} (95% interval {interval(key, span.low, span.high)})",
        loss=in_row(keys.TEST_LOSS, metrics.get(keys.TEST_LOSS)),
        validated_on=f"{len(held_out):,} held-out images" if held_out else "the test set",
    )


def render_own_data_card(
    name: str,
    candidate: Candidate,
    verification: Verification,
    seed_values: Sequence[float],
    objective: Objective,
) -> str:
    """Render the card of a model whose training and test data only its script had.

    Args:
        name: The registered model.
        candidate: The run that trained the model, and what it measured.
        verification: What was measured again, which counts instead.
        seed_values: The metric of all runs that differ in nothing but the seed.
        objective: The metric that decided.
    """
    logged = candidate.run.metrics.get(objective.metric)
    shared = (name, candidate, verification, seed_values, objective)
    figure = f"{objective.title} {in_row(objective.metric, logged)}"
    return _rendered("own_data_card.md", *shared, figure=figure, title=objective.title)


def _rendered(
    template: str,
    name: str,
    candidate: Candidate,
    verification: Verification,
    seed_values: Sequence[float],
    objective: Objective,
    **more: object,
) -> str:
    metrics = {**candidate.run.metrics, **verification.metrics}
    measurements = {**candidate.measurements, **verification.measurements}
    where = "on the machine that trained it" if verification.same_machine else "on another machine"
    templates = environment(markdown)
    templates.filters["code"] = lambda text: Markup(code_span(text))
    templates.filters["literal"] = lambda text: Markup(json.dumps(printable(text)))
    return templates.get_template(template).render(
        name=name,
        run=candidate.run,
        seeds=_seeds(seed_values, objective),
        decided_by=_decided_by(objective, metrics),
        costs=[
            (label, *_cost(cost, metrics.get(cost), measurements.get(cost, {})))
            for label, cost in _COSTS
        ],
        verification=verification,
        verified=_passed(verification, "us"),
        measured=_passed(verification, "model"),
        where=where,
        **more,
    )


def _passed(verification: Verification, by: Literal["us", "model"]) -> list[str]:
    return [each.figure for each in verification.checks if each.passed and each.by == by]


def _seeds(values: Sequence[float], objective: Objective) -> str:
    if len(values) < 2:
        return ""
    span = interval(objective.metric, min(values), max(values))
    mean = number(objective.metric, sum(values) / len(values))
    return f"{len(values)} seeds: {objective.title} {span}, mean {mean}"


def _decided_by(objective: Objective, metrics: Mapping[str, float]) -> str:
    if objective.is_accuracy:
        return ""
    value = in_row(objective.metric, metrics.get(objective.metric))
    return f"{objective.metric}, {value} ({objective.direction} is better)"


def _cost(key: Key, value: float | None, measured: Mapping[str, Any]) -> tuple[str, str]:
    """Return a figure and how it came about; the logged method and interval where there are."""
    text = in_row(key, value)
    if value is None and measured.get("reason"):
        return text, str(measured["reason"])
    if measured.get("interval") and value == measured.get("value"):
        text += f" ({interval(key, *measured['interval'])})"
    return text, str(measured.get("method") or key.meaning)
