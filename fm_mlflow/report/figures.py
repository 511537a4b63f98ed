"""One formatter for the figures of a training run, whoever shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fm_mlflow import keys


def training_figures(metrics: Mapping[str, float]) -> Iterable[tuple[str, str]]:
    """Yield label and text of what a reader wants to see first; what is missing says so.

    Args:
        metrics: Values of the whole run by logged name.
    """
    yield "test accuracy", _text(metrics, keys.TEST_ACCURACY, ".4f")
    yield "test loss", _text(metrics, keys.TEST_LOSS, ".4f")
    trainable = _text(metrics, keys.PARAMETERS_TRAINABLE, ",.0f")
    others = _text(metrics, keys.PARAMETERS_NON_TRAINABLE, ",.0f")
    yield "parameters", f"{trainable} trainable, {others} other"
    yield "size as HDF5", _text(metrics, keys.SIZE_H5, ".2f", " MiB with optimizer state")
    yield "size to predict", _text(metrics, keys.SIZE_INFERENCE, ".2f", " MiB")
    yield "memory", _text(metrics, keys.MEMORY_PEAK, ",.0f", " MiB peak of the process")
    yield (
        "latency",
        _text(metrics, keys.LATENCY_P50, ".2f", " ms an image (median), ")
        + _text(metrics, keys.LATENCY_P95, ".2f", " ms (95%)"),
    )
    yield (
        "speed",
        _text(metrics, keys.THROUGHPUT_TRAINING, ",.0f", " images/s in training, ")
        + _text(metrics, keys.MFU, ".0f", "% of the machine's rate"),
    )
    yield (
        "time",
        _text(metrics, keys.FIT_SECONDS, ".1f", " s fit, ")
        + _text(metrics, keys.TOTAL_SECONDS, ".1f", " s in all"),
    )


_MEASURED_AND_ESTIMATED = (
    ("FLOPs to predict an image", keys.FLOPS_INFERENCE, keys.ESTIMATE_INFERENCE_FLOPS, ",.0f", ""),
    ("FLOPs to train on an image", keys.FLOPS_TRAINING, keys.ESTIMATE_TRAINING_FLOPS, ",.0f", ""),
    ("memory for training", keys.MEMORY_TRAINING, keys.ESTIMATE_TRAINING_MEMORY, ",.2f", " MiB"),
)


def measured_and_estimated(metrics: Mapping[str, float]) -> Iterable[tuple[str, str, str]]:
    """Yield label, measured figure and rule of thumb of what has both.

    Args:
        metrics: Values of the whole run by logged name.
    """
    for label, measured, estimate, form, unit in _MEASURED_AND_ESTIMATED:
        yield label, _text(metrics, measured, form, unit), _text(metrics, estimate, form, unit)


def _text(metrics: Mapping[str, float], name: str, form: str, unit: str = "") -> str:
    return f"{metrics[name]:{form}}{unit}" if name in metrics else "not measured"
