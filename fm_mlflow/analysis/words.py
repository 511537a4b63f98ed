"""How figures, evidence and lists read in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from fm_mlflow import keys

_UNITS = {str(key): key.unit for key in keys.all_keys()}
_SAID_BY_THE_NAME = ("fraction", "nats", "count", "FLOPs", "FLOPs an image", "1")
_LISTED = 3


def figure(name: str, value: float) -> str:
    """Return a metric's value as text, with its unit where the metric's title does not say it."""
    unit = _UNITS.get(name, "")
    text = f"{value:,.{_decimals(unit, abs(value))}f}"
    if not any(c in "123456789" for c in text):
        text = text.removeprefix("-")
    return text if unit in _SAID_BY_THE_NAME else f"{text} {unit}".rstrip()


def _decimals(unit: str, size: float) -> int:
    match unit:
        case "fraction" | "nats":
            return 4
        case "count" | "FLOPs" | "FLOPs an image":
            return 0
        case "MiB":
            return 2 if size < 1000 else 0
        case "ms":
            return 2 if size >= 0.1 or size == 0 else 4
        case _:
            return 1 if size >= 1 or size == 0 else 3


def times(more: float, less: float) -> str:
    """Return a ratio as text: 3.07 times."""
    ratio = more / less
    return f"{ratio:,.0f} times" if ratio >= 100 else f"{ratio:.3g} times"


def p_text(p_value: float) -> str:
    """Return a p-value as text, never as 0."""
    if p_value < 0.001:
        return "p < 0.001"
    return f"p = {p_value:.3f}" if p_value < 0.0995 else f"p = {p_value:.2f}"


def listed(names: Sequence[str], most: int = _LISTED) -> str:
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
