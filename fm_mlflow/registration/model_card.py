"""A model card: the description of a version in the model registry, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from fm_mlflow import keys
from fm_mlflow.analysis.prose.words import in_row, interval, number
from fm_mlflow.analysis.records import TrainingRun
from fm_mlflow.data.dataset import Dataset
from fm_mlflow.keys import Key
from fm_mlflow.registration.checks import Verification
from fm_mlflow.report.markdown import environment
from fm_mlflow.report.text import markdown, printable

_COSTS: tuple[tuple[str, Key], ...] = (
    ("FLOPs to predict an image", keys.FLOPS_INFERENCE),
    ("FLOPs to train on an image", keys.FLOPS_TRAINING),
    ("trainable parameters", keys.PARAMETERS_TRAINABLE),
    ("size to predict", keys.SIZE_INFERENCE),
    ("size of the logged model", keys.SIZE_MLFLOW_MODEL),
    ("latency, one image (median)", keys.LATENCY_P50),
    ("latency, one image (95%)", keys.LATENCY_P95),
    ("memory to load and predict", keys.MEMORY_LOAD),
    ("peak memory of the training", keys.MEMORY_PEAK),
    ("time to train", keys.FIT_SECONDS),
)


@dataclass(frozen=True)
class ModelCard:
    """What the description of a version says.

    Attributes:
        name: The registered model.
        run: The run that trained it.
        command: What repeats the training.
        dataset: What it was trained and tested on.
        dataset_title: Its name, as a person would say it.
        metrics: Of the run, by logged name; measured again where possible.
        measurements: The run's `measurements.json` by metric name.
        verification: What was measured again.
        verified_at: When, ISO 8601.
        seed_accuracies: Test accuracies of all runs that differ in nothing but the seed.
    """

    name: str
    run: TrainingRun
    command: str
    dataset: Dataset
    dataset_title: str
    metrics: Mapping[str, float]
    measurements: Mapping[str, Mapping[str, Any]]
    verification: Verification
    verified_at: str
    seed_accuracies: tuple[float, ...] = ()


def render_model_card(card: ModelCard) -> str:
    """Render a model card."""
    templates = environment(markdown, escaped=True)
    templates.filters["code"] = lambda text: Markup(printable(text))  # nothing to escape in code
    held_out, verification = card.dataset.validation, card.verification
    where = "on the machine that trained it" if verification.same_machine else "on another machine"
    return templates.get_template("model_card.md").render(
        card=card,
        run=card.run,
        dataset=card.dataset,
        accuracy=_accuracy(card),
        loss=_text(card, keys.TEST_LOSS),
        seeds=_seeds(card),
        costs=[(label, *_cost(card, key)) for label, key in _COSTS],
        validated_on=f"{len(held_out):,} held-out images" if held_out else "the test set",
        input_shape=verification.input_shape,
        gives_logits=verification.gives_logits,
        verified=[check.figure for check in verification.checks if check.passed],
        where=where,
    )


def _accuracy(card: ModelCard) -> str:
    """The accuracy with its Wilson interval: what other test images of this kind would show."""
    from fm_mlflow.analysis.statistics.intervals import wilson

    name, value = keys.TEST_ACCURACY, card.metrics[keys.TEST_ACCURACY]
    span = wilson(value, len(card.dataset.test))
    return f"{number(name, value)} (95% interval {interval(name, span.low, span.high)})"


def _text(card: ModelCard, key: Key) -> str:
    return in_row(key, card.metrics.get(key))


def _seeds(card: ModelCard) -> str:
    values = card.seed_accuracies
    if len(values) < 2:
        return ""
    mean = sum(values) / len(values)
    name = keys.TEST_ACCURACY
    span = interval(name, min(values), max(values))
    return f"{len(values)} seeds: test accuracy {span}, mean {number(name, mean)}"


def _cost(card: ModelCard, key: Key) -> tuple[str, str]:
    """Return a figure and how it came about; the logged method and interval where there are."""
    logged: Any = {**card.measurements, **card.verification.measurements}.get(key, {})
    value = card.metrics.get(key)
    text = _text(card, key)
    if value is None and logged.get("reason"):
        return text, str(logged["reason"])
    if logged.get("interval") and value == logged.get("value"):
        text += f" ({interval(key, *logged['interval'])})"
    return text, str(logged.get("method") or key.meaning)
