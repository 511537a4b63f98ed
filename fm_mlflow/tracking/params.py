"""Parameters as MLflow logs them: text, of which one value may have several spellings."""

from __future__ import annotations

import shlex


def unquoted(logged: str) -> str:
    """Return a parameter without the quotes that `mlflow run` gives it for its shell."""
    if logged[:1] not in ("'", '"'):
        return logged
    try:
        return " ".join(shlex.split(logged))
    except ValueError:  # no quoting after all
        return logged


def whole_number(text: str, otherwise: int, most: int = 2**53) -> int:
    """Return the number from 0 that a tag or parameter holds; `otherwise` where it is none.

    Anybody can write anything there: `int` refuses thousands of digits, and others overflow.
    """
    is_short = text.isdecimal() and len(text) <= len(str(most))
    return number if is_short and (number := int(text)) <= most else otherwise


def same_value(logged: str, ours: str) -> bool:
    """Tell whether two spellings mean one value: `1e-3` and `0.001`, `'a b'` and `a b`."""
    if ours in (logged, unquoted(logged)):
        return True
    try:
        return float(unquoted(logged)) == float(ours)
    except ValueError:
        return False
