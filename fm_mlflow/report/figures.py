"""One formatter for every figure, whoever shows it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Statistic

NOT_MEASURED = "not measured"

_UNITS = {str(key): key.unit for key in keys.all_keys()}


def figure(name: str, value: float, like: float | None = None) -> str:
    """Return a metric's value without its unit.

    Args:
        name: Logged name; it decides how many digits make sense.
        value: The value.
        like: The figure that it belongs to, if any: a spread has the decimals of its mean.
    """
    if not math.isfinite(value):
        return str(value)
    decimals = _decimals(_UNITS.get(name, ""), value if like is None else like)
    text = f"{value:,.{decimals}f}"
    # Less than nothing of the last digit is nothing.
    return text.removeprefix("-") if not any(c in "123456789" for c in text) else text


def _decimals(unit: str, value: float) -> int:
    size = abs(value)
    match unit:
        case "fraction" | "nats":
            return 4
        case "count" | "FLOPs" | "FLOPs an image" | "images/s" | "%":
            return 0
        case "MiB":
            return 2 if size < 1000 else 0
        case "ms":
            return 2 if size >= 0.1 or size == 0 else 4
        case "s":
            return 1 if size >= 1 or size == 0 else 3
    # Somebody else's metric: four significant digits.
    if size == 0 or not math.isfinite(size):
        return 0
    return min(max(3 - math.floor(math.log10(size)), 0), 12)


def unit(name: str) -> str:
    """Return the unit of a metric; empty where none is known or none needs saying."""
    text = _UNITS.get(name, "")
    return "" if text in ("fraction", "count", "1") else text


def with_unit(name: str, value: float) -> str:
    """Return a metric's value as it stands in a sentence."""
    return f"{figure(name, value)} {unit(name)}".rstrip()


def in_row(name: str, value: float | None) -> str:
    """Return a metric's value as it stands beside its name, which says what FLOPs are of."""
    if value is None:
        return NOT_MEASURED
    return figure(name, value) if unit(name).startswith("FLOPs") else with_unit(name, value)


def spread(name: str, statistic: Statistic) -> str:
    """Return the standard deviation as `± 0.0021`.

    Empty for one run, and where nothing is left of it in the digits shown: counts are exact.
    """
    if not statistic.sd:
        return ""
    text = figure(name, statistic.sd, like=statistic.mean)
    return f"± {text}" if any(c in "123456789" for c in text) else ""


def difference(name: str, value: float) -> str:
    """Return a signed difference with its unit; of accuracies, in percentage points."""
    if _UNITS.get(name) == "fraction":
        return f"{_signed(f'{100 * value:,.2f}')} points"
    # What FLOPs are of, the title says; each row need not.
    text = _signed(figure(name, value))
    return text if unit(name).startswith("FLOPs") else f"{text} {unit(name)}".rstrip()


def difference_interval(name: str, low: float | None, high: float | None) -> str:
    """Return the interval of a difference, without the unit; empty where there is none."""
    if low is None or high is None:
        return ""
    if _UNITS.get(name) == "fraction":
        return f"{_signed(f'{100 * low:,.2f}')} to {_signed(f'{100 * high:,.2f}')}"
    like = max(abs(low), abs(high))
    return f"{_signed(figure(name, low, like))} to {_signed(figure(name, high, like))}"


def _signed(text: str) -> str:
    if not any(c in "123456789" for c in text):
        return text.removeprefix("-")
    return text if text.startswith("-") else f"+{text}"


def interval(name: str, low: float | None, high: float | None) -> str:
    """Return an interval of a metric, without the unit; empty where there is none."""
    if low is None or high is None:
        return ""
    like = max(abs(low), abs(high))
    return f"{figure(name, low, like)} to {figure(name, high, like)}"


def probability(p: float | None) -> str:
    """Return a p-value as it is usual; empty where there is none."""
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def share(value: float | None) -> str:
    """Return a share of 1 in percent; empty where there is none."""
    return "" if value is None else f"{100 * value:.0f}%"


def ratio(value: float) -> str:
    """Return how many times as much: three significant digits."""
    if not math.isfinite(value) or value <= 0:
        return f"{value:.3g} x"
    return f"{value:,.{min(max(2 - math.floor(math.log10(value)), 0), 12)}f} x"


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
    return f"{figure(name, metrics[name])}{unit}" if name in metrics else NOT_MEASURED
