"""The wording of figures, evidence and lists, the same in every output."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Statistic

_UNITS = {str(key): key.unit for key in keys.all_keys()}
_SAID_BY_THE_NAME = ("fraction", "nats", "count", "FLOPs an image", "1", "target units")
_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"))
_DIGITS = frozenset("123456789")

NOT_MEASURED = "not measured"


def number(name: str, value: float, like: float | None = None) -> str:
    """Return a metric's value as text, without its unit.

    Args:
        name: Logged name; it decides how many digits make sense.
        value: The value.
        like: The figure that it belongs to, if any: a spread has the decimals of its mean.
    """
    if not math.isfinite(value):
        return str(value)
    size, unit = abs(value if like is None else like), _UNITS.get(name, "")
    if unit == "FLOPs":  # of a whole fit; those of an image are exact counts
        for scale, prefix in _PREFIXES:
            if size >= scale:
                decimals = significant(size / scale, 3)
                return f"{value / scale:,.{decimals}f} {prefix}"
    text = f"{value:,.{_decimals(unit, size)}f}"
    return text if _DIGITS.intersection(text) else text.removeprefix("-")


def _decimals(unit: str, size: float) -> int:
    match unit:
        case "fraction" | "nats":
            return 4
        case "count" | "FLOPs" | "FLOPs an image":
            return 0
        case "images/s" | "%":  # of small and of huge models, too
            return 0 if size >= 10 else significant(size, 2)
        case "MiB":
            return 0 if size >= 1000 else max(2, significant(size, 2))
        case "ms":
            return 2 if size >= 0.1 or size == 0 else 4
        case "s":
            return 1 if size >= 1 or size == 0 else 3
    # A metric of other software: four significant digits.
    return significant(size, 4)


def significant(size: float, digits: int) -> int:
    """Return how many decimals show so many significant digits of a number."""
    if not 0 < size < math.inf:
        return 0
    return min(max(digits - 1 - math.floor(math.log10(size)), 0), 12)


def unit(name: str) -> str:
    """Return a metric's unit; empty where its name says it or none is known."""
    text = _UNITS.get(name, "")
    return "" if text in _SAID_BY_THE_NAME else text


def figure(name: str, value: float) -> str:
    """Return a metric's value as text, with its unit where the metric's title does not say it."""
    return f"{number(name, value)} {unit(name)}".rstrip()


def ratio(value: float) -> str:
    """Return how many times as much: 3.07."""
    return f"{value:,.{significant(abs(value), 3)}f}"


def times(more: float, less: float) -> str:
    """Return a ratio as text: 3.07 times."""
    return f"{ratio(more / less)} times"


def ratio_interval(low: float, high: float) -> str:
    """Return the interval of a ratio, both ends with the digits of the upper one."""
    decimals = significant(high, 3)
    return f"{low:,.{decimals}f} to {high:,.{decimals}f}"


def nearly_equal(more: float, less: float) -> bool:
    """Return whether their ratio would read as 1.00."""
    return more == less or (less > 0 and ratio(more / less) == ratio(1))


def p_value(value: float) -> str:
    """Return a p-value as text, never as 0."""
    if value < 0.001:
        return "< 0.001"
    return f"{value:.3f}" if value < 0.0995 else f"{value:.2f}"


def p_text(value: float) -> str:
    """Return a p-value as it stands in a sentence: p = 0.008."""
    text = p_value(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def listed(names: Sequence[str], most: int = 3) -> str:
    """Join names: a, b and c; beyond `most`, how many more."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most:,} more"
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun: 1 run, 5 runs."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def capitalised(sentence: str) -> str:
    """Return a sentence with a capital first letter, the rest as it is."""
    return sentence[:1].upper() + sentence[1:]


def in_row(name: str, value: float | None) -> str:
    """Return a metric's value as it stands beside its name, which says what FLOPs are of."""
    if value is None:
        return NOT_MEASURED
    return number(name, value) if unit(name).startswith("FLOPs") else figure(name, value)


def spread(name: str, statistic: Statistic) -> str:
    """Return the standard deviation as `± 0.0021`.

    Empty for one run, and where it rounds to zero in the digits shown: counts are exact.
    """
    if not statistic.sd:
        return ""
    text = number(name, statistic.sd, like=statistic.mean)
    return f"± {text}" if _DIGITS.intersection(text) else ""


def difference(name: str, value: float) -> str:
    """Return a signed difference with its unit; of accuracies, in percentage points."""
    if is_fraction(name):
        return f"{_signed(f'{100 * value:,.2f}')} points"
    return f"{_signed(number(name, value))} {unit(name)}".rstrip()


def difference_interval(name: str, low: float, high: float) -> str:
    """Return the interval of a difference, without the unit."""
    if is_fraction(name):
        return f"{_signed(f'{100 * low:,.2f}')} to {_signed(f'{100 * high:,.2f}')}"
    like = max(abs(low), abs(high))
    return f"{_signed(number(name, low, like))} to {_signed(number(name, high, like))}"


def is_fraction(name: str) -> bool:
    """Return whether a metric is a share of 1, of which differences are percentage points."""
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
