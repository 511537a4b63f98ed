"""The figures of runs as their reports show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fm_mlflow import keys
from fm_mlflow.analysis.prose.words import (
    NOT_MEASURED,
    number,
)


def training_figures(metrics: Mapping[str, float]) -> Iterable[tuple[str, str]]:
    """Yield label and text of the main figures; a missing one says so.

    Args:
        metrics: Values of the whole run by logged name.
    """
    yield "test accuracy", _text(metrics, keys.TEST_ACCURACY)
    yield "test loss", _text(metrics, keys.TEST_LOSS)
    trainable = _text(metrics, keys.PARAMETERS_TRAINABLE)
    others = _text(metrics, keys.PARAMETERS_NON_TRAINABLE)
    yield "parameters", f"{trainable} trainable, {others} other"
    yield "size as HDF5", _text(metrics, keys.SIZE_H5, " MiB with optimizer state")
    yield "size to predict", _text(metrics, keys.SIZE_INFERENCE, " MiB")
    yield "memory", _text(metrics, keys.MEMORY_PEAK, " MiB peak of the process")
    yield (
        "latency",
        _text(metrics, keys.LATENCY_P50, " ms an image (median), ")
        + _text(metrics, keys.LATENCY_P95, " ms (95%)"),
    )
    yield (
        "speed",
        _text(metrics, keys.THROUGHPUT_TRAINING, " images/s in training, ")
        + _text(metrics, keys.MFU, "% of the machine's rate"),
    )
    yield (
        "time",
        _text(metrics, keys.FIT_SECONDS, " s fit, ")
        + _text(metrics, keys.TOTAL_SECONDS, " s in all"),
    )


@dataclass(frozen=True)
class Estimated:
    """A cost that the notebook estimated and that is measured here.

    Attributes:
        label: What a reader calls it.
        measured: Logged name of the measured figure.
        estimate: Logged name of the rule of thumb.
        unit: To write behind either.
    """

    label: str
    measured: str
    estimate: str
    unit: str = ""


ESTIMATED = (
    Estimated("FLOPs to predict an image", keys.FLOPS_INFERENCE, keys.ESTIMATE_INFERENCE_FLOPS),
    Estimated("FLOPs to train on an image", keys.FLOPS_TRAINING, keys.ESTIMATE_TRAINING_FLOPS),
    Estimated("memory for training", keys.MEMORY_TRAINING, keys.ESTIMATE_TRAINING_MEMORY, " MiB"),
)


def measured_and_estimated(metrics: Mapping[str, float]) -> Iterable[tuple[str, str, str]]:
    """Yield label, measured figure and rule of thumb of what has both.

    Args:
        metrics: Values of the whole run by logged name.
    """
    for cost in ESTIMATED:
        yield (
            cost.label,
            _text(metrics, cost.measured, cost.unit),
            _text(metrics, cost.estimate, cost.unit),
        )


def _text(metrics: Mapping[str, float], name: str, unit: str = "") -> str:
    return f"{number(name, metrics[name])}{unit}" if name in metrics else NOT_MEASURED
