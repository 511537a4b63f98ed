"""A model card: the description of a version in the model registry, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from fm_mlflow import keys
from fm_mlflow.analysis.prose.words import in_row, interval, number
from fm_mlflow.keys import Key
from fm_mlflow.report.templating import environment
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


def render_model_card(card: ModelCard) -> str:
    """Render a model card."""
    templates = environment(markdown, escaped=True)
    templates.filters["code"] = lambda text: Markup(printable(text))  # nothing to escape in code
    return templates.get_template("model_card.md").render(
        card=card,
        accuracy=_accuracy(card),
        loss=_text(card, keys.TEST_LOSS),
        seeds=_seeds(card),
        costs=[(label, *_cost(card, key)) for label, key in _COSTS],
        where="on the machine that trained it" if card.same_machine else "on another machine",
    )


def _accuracy(card: ModelCard) -> str:
    """The accuracy with its Wilson interval: what other test images of this kind would show."""
    from fm_mlflow.analysis.statistics.intervals import wilson

    name, value = keys.TEST_ACCURACY, card.metrics[keys.TEST_ACCURACY]
    span = wilson(value, card.test_images)
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
    logged: Any = card.measurements.get(key, {})
    value = card.metrics.get(key)
    text = _text(card, key)
    if value is None and logged.get("reason"):
        return text, str(logged["reason"])
    if logged.get("interval") and value == logged.get("value"):
        text += f" ({interval(key, *logged['interval'])})"
    return text, str(logged.get("method") or key.meaning)


@dataclass(frozen=True)
class ModelCard:
    """What the description of a version says; `fm_mlflow.registration.model_card` renders it.

    Attributes:
        name: The registered model.
        model: What was trained.
        run_id: The run.
        run_name: Its name.
        command: What repeats the training, or empty.
        dataset: Name of the data set, as a person would say it.
        dataset_digest: SHA-256 of its contents.
        train_images: Images that it was trained on.
        test_images: Images that it was tested on.
        validated_on: What each epoch was validated on, in words.
        config: The settings of the training, by name.
        class_names: In label order.
        input_shape: Of one image.
        gives_logits: Whether the outputs are logits.
        metrics: Of the run, by logged name; measured again where possible.
        measurements: `measurements.json` by metric name.
        same_machine: Whether it was verified where it was trained.
        verified: What was measured again and holds, by name.
        verified_at: When, ISO 8601.
        machine: What it was trained on, by tag name without the prefix.
        seed_accuracies: Test accuracies of all runs that differ in nothing but the seed.
    """

    name: str
    model: str
    run_id: str
    run_name: str
    command: str
    dataset: str
    dataset_digest: str
    train_images: int
    test_images: int
    validated_on: str
    config: Mapping[str, str]
    class_names: tuple[str, ...]
    input_shape: tuple[int, ...]
    gives_logits: bool
    metrics: Mapping[str, float]
    measurements: Mapping[str, Mapping[str, Any]]
    same_machine: bool
    verified: tuple[str, ...]
    verified_at: str
    machine: Mapping[str, str] = field(default_factory=dict)
    seed_accuracies: tuple[float, ...] = ()
