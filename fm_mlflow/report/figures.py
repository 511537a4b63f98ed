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
    yield (
        "time",
        (
            _text(metrics, keys.FIT_SECONDS, ".1f", " s fit, ")
            + _text(metrics, keys.TOTAL_SECONDS, ".1f", " s in all")
        ),
    )


def _text(metrics: Mapping[str, float], name: str, form: str, unit: str = "") -> str:
    return f"{metrics[name]:{form}}{unit}" if name in metrics else "not measured"
