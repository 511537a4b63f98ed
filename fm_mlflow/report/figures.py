"""The figures of runs as their reports show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Statistic
from fm_mlflow.words import figure, number, unit

NOT_MEASURED = "not measured"

_DIGITS = frozenset("123456789")


def in_row(name: str, value: float | None) -> str:
    """Return a metric's value as it stands beside its name, which says what FLOPs are of."""
    if value is None:
        return NOT_MEASURED
    return number(name, value) if unit(name).startswith("FLOPs") else figure(name, value)


def spread(name: str, statistic: Statistic) -> str:
    """Return the standard deviation as `± 0.0021`.

    Empty for one run, and where nothing is left of it in the digits shown: counts are exact.
    """
    if not statistic.sd:
        return ""
    text = number(name, statistic.sd, like=statistic.mean)
    return f"± {text}" if _DIGITS.intersection(text) else ""


def difference(name: str, value: float) -> str:
    """Return a signed difference with its unit; of accuracies, in percentage points."""
    if _is_fraction(name):
        return f"{_signed(f'{100 * value:,.2f}')} points"
    return f"{_signed(number(name, value))} {unit(name)}".rstrip()


def difference_interval(name: str, low: float, high: float) -> str:
    """Return the interval of a difference, without the unit."""
    if _is_fraction(name):
        return f"{_signed(f'{100 * low:,.2f}')} to {_signed(f'{100 * high:,.2f}')}"
    like = max(abs(low), abs(high))
    return f"{_signed(number(name, low, like))} to {_signed(number(name, high, like))}"


def _is_fraction(name: str) -> bool:
    return name in (keys.TEST_ACCURACY, keys.VAL_ACCURACY, keys.ACCURACY)


def _signed(text: str) -> str:
    if not _DIGITS.intersection(text):
        return text.removeprefix("-")
    return text if text.startswith("-") else f"+{text}"


def interval(name: str, low: float, high: float) -> str:
    """Return an interval of a metric, without the unit; of a count that never varies, nothing."""
    if low == high:
        return ""
    like = max(abs(low), abs(high))
    return f"{number(name, low, like)} to {number(name, high, like)}"


def percent(share: float, decimals: int = 1) -> str:
    """Return a share of 1 in percent."""
    return f"{100 * share:.{decimals}f}%"


def training_figures(metrics: Mapping[str, float]) -> Iterable[tuple[str, str]]:
    """Yield label and text of what a reader wants to see first; what is missing says so.

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
