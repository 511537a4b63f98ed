"""Whether a script validated and tested on the same data."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from fm_mlflow.data.array_digest import array_digest


def inputs_of(data: Any) -> Any:
    """Return the inputs of validation data: of (inputs, targets); else what gives its batches."""
    return data[0] if isinstance(data, (tuple, list)) and data else data


def are_same(one: Any, other: Any) -> bool:
    """Tell whether two are the same data: one object, or structures of equal arrays.

    What gives batches is compared by identity only: to go through it may change it.
    """
    first, second = keras.tree.flatten(one), keras.tree.flatten(other)
    return len(first) == len(second) and all(map(_is_same, first, second))


def _is_same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    try:
        if tuple(one.shape) != tuple(other.shape):
            return False
        return bool(np.array_equal(np.asarray(one), np.asarray(other)))
    except Exception:  # arrays of any library, on any device
        return False


def has_digest(data: Any, digest: str) -> bool:
    """Tell whether validation data, weights left out, have a digest of (inputs, targets)."""
    try:
        return array_digest(tuple(data[:2]) if isinstance(data, (tuple, list)) else data) == digest
    except ValueError:  # no arrays
        return False
