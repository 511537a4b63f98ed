"""Parameters as MLflow logs them: text, of which one value may have several spellings."""

from __future__ import annotations

import shlex


def same_value(logged: str, ours: str) -> bool:
    """Tell whether two spellings mean one value: `1e-3` and `0.001`, `'a b'` and `a b`."""
    if logged == ours:
        return True
    try:
        logged = shlex.split(logged)[0]  # `mlflow run` logs values as its shell will see them
    except (ValueError, IndexError):
        logged = logged.strip("'")
    if logged == ours:
        return True
    try:
        return float(logged) == float(ours)
    except ValueError:
        return False
