"""The figures of runs as their reports show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fm_mlflow import keys
from fm_mlflow.analysis.prose.words import NOT_MEASURED, in_row, number

_ERROR = "test error"
_MAIN: dict[str, dict[str, str]] = {
    "test accuracy": {keys.TEST_ACCURACY: ""},
    _ERROR: {keys.TEST_MAE: " (mean absolute)"},
    "test loss": {keys.TEST_LOSS: ""},
    "parameters": {
        keys.PARAMETERS_TRAINABLE: " trainable",
        keys.PARAMETERS_NON_TRAINABLE: " other",
    },
    "size as HDF5": {keys.SIZE_H5: " MiB with optimizer state"},
    "size to predict": {keys.SIZE_INFERENCE: " MiB"},
    "memory": {keys.MEMORY_PEAK: " MiB peak until the end of training"},
    "latency": {keys.LATENCY_P50: " ms a prediction (median)", keys.LATENCY_P95: " ms (95%)"},
    "speed": {
        keys.THROUGHPUT_TRAINING: " {noun}/s in training",
        keys.MFU: "% of the machine's rate",
    },
    "time": {keys.FIT_SECONDS: " s fit", keys.TOTAL_SECONDS: " s in all"},
}

ESTIMATED = {
    "FLOPs per prediction": (keys.FLOPS_INFERENCE, keys.ESTIMATE_INFERENCE_FLOPS),
    "FLOPs per training example": (keys.FLOPS_TRAINING, keys.ESTIMATE_TRAINING_FLOPS),
    "memory for training": (keys.MEMORY_TRAINING, keys.ESTIMATE_TRAINING_MEMORY),
}
"""Costs with a rule of thumb: logged names of the measured figure and of the rule's."""


def training_figures(
    metrics: Mapping[str, float], noun: str = "examples"
) -> Iterable[tuple[str, str]]:
    """Yield label and text of the main figures; a line without any says so.

    Args:
        metrics: Values of the whole run by logged name.
        noun: What the examples are called.
    """
    for label, parts in _MAIN.items():
        if label == ("test accuracy" if keys.TEST_MAE in metrics else _ERROR):
            continue  # a model predicts classes or numbers
        texts = [
            f"{number(name, metrics[name])}{said.format(noun=noun)}"
            for name, said in parts.items()
            if name in metrics
        ]
        yield label, ", ".join(texts) or NOT_MEASURED


def measured_and_estimated(metrics: Mapping[str, float]) -> Iterable[tuple[str, ...]]:
    """Yield label, measured figure and rule of thumb of what has both.

    Args:
        metrics: Values of the whole run by logged name.
    """
    for label, names in ESTIMATED.items():
        yield label, *(in_row(name, metrics.get(name)) for name in names)
