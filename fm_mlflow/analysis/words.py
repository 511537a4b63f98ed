"""How figures, evidence and lists read in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from fm_mlflow import keys

_UNITS = {str(key): key.unit for key in keys.all_keys()}
_FORMS = {
    "fraction": (".4f", ""),
    "nats": (".4f", ""),
    "count": (",.0f", ""),
    "FLOPs": (",.0f", ""),
    "FLOPs an image": (",.0f", ""),
    "MiB": (",.2f", " MiB"),
    "ms": (",.3f", " ms"),
    "s": (",.1f", " s"),
    "images/s": (",.0f", " images/s"),
    "%": (".1f", "%"),
}
_LISTED = 3


def figure(name: str, value: float) -> str:
    """Return a metric's value as text, with its unit where the number alone would not say it."""
    form, unit = _FORMS.get(_UNITS.get(name, ""), (".4g", ""))
    return f"{value:{form}}{unit}"


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
