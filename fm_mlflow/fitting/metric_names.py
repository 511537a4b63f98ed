"""What the metrics of Keras and of a user's model are called in the store."""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fm_mlflow import keys
from fm_mlflow.settings.selection import USER_PREFIX

_log = logging.getLogger(__name__)

ACCURACY_METRICS = ("accuracy", "acc", "sparse_categorical_accuracy")
"""What a user's compiled model may call its accuracy; it is logged as `accuracy`."""

# MLflow takes letters, digits and these in the name of a metric, and no path that could be shorter.
_REFUSED = re.compile(r"[^\w\-. /:]")
_NO_PART = frozenset({"", ".", ".."})
_LONGEST = 200  # of the 250 that MLflow takes: a class may follow
_LONGEST_PART = 40
_MOST_ELEMENTS = 1000
_VALIDATION = "val_"
_RESERVED = frozenset(str(key) for key in keys.all_keys() if key.is_metric)


class MetricNames:
    """Logged names for the metrics of one model; a metric has the same name in each epoch.

    No two metrics get one name, none gets a name of `fm_mlflow.keys` that is not what that key
    means, and none gets a name that MLflow refuses. What is logged by another name than its own,
    or left out, is told once.

    Args:
        class_names: In label order; a vector with a value for each class is logged by them.
    """

    def __init__(self, class_names: Sequence[str] = ()) -> None:
        self._class_names = class_names
        self._names: dict[str, str] = {}
        self._told: set[str] = set()

    def logged(self, logs: Mapping[str, Any]) -> dict[str, float]:
        """Return the metrics of an epoch by logged name: one of each element of a vector.

        Args:
            logs: What Keras passes to callbacks, or a model's metrics.
        """
        accuracy = next((name for name in ACCURACY_METRICS if name in logs), None)
        metrics = {}
        for name, value in logs.items():
            if name == keys.LEARNING_RATE and _VALIDATION + name not in logs:
                continue  # Keras' callbacks put the rate there; we log it ourselves
            is_validation = name.startswith(_VALIDATION)
            bare = name.removeprefix(_VALIDATION)
            known = {keys.LOSS: keys.LOSS, accuracy: keys.ACCURACY}.get(bare)
            logged = known or self._name(bare)
            if is_validation:
                own = logged.removeprefix(USER_PREFIX)
                logged = f"{logged[: len(logged) - len(own)]}{_VALIDATION}{own}"
            for part, number in self._numbers(bare, value):
                metrics[logged + part] = number
        return metrics

    def _name(self, bare: str) -> str:
        """Return the logged name of a metric of the user's, without `val_`."""
        if bare not in self._names:
            name = _storable(bare, _LONGEST)
            why = "MLflow does not take that name" if name != bare else ""
            if not _RESERVED.isdisjoint({name, _VALIDATION + name}):
                name, why = USER_PREFIX + name, "fm_mlflow logs something else by that name"
            free = _free(name, self._names.values())
            self._names[bare] = free
            if free != bare:
                why = why if free == name else "another metric has that name"
                _log.warning("the metric %r is logged as %s: %s", bare[:_LONGEST], free, why)
        return self._names[bare]

    def _numbers(self, bare: str, value: Any) -> Iterator[tuple[str, float]]:
        """Yield what comes after a metric's name, and its value; of each element of an array."""
        try:
            array = np.asarray(value)
            array = array.astype(np.float64) if array.dtype != object else np.array(float(value))
        except (TypeError, ValueError):
            self._leave_out(bare, "it is not a number")
            return
        if array.ndim == 0:
            yield "", float(array)
        elif array.size > _MOST_ELEMENTS:
            self._leave_out(bare, f"it has {array.size:,} elements, more than {_MOST_ELEMENTS:,}")
        else:
            parts: list[str] = []
            is_by_class = array.shape == (len(self._class_names),)
            for index in np.ndindex(array.shape):
                text = self._class_names[index[0]] if is_by_class else "/".join(map(str, index))
                parts.append(_free("/" + _storable(text, _LONGEST_PART), parts))
                yield parts[-1], float(array[index])

    def _leave_out(self, bare: str, why: str) -> None:
        if bare not in self._told:
            self._told.add(bare)
            _log.warning("the metric %r is left out: %s", bare[:_LONGEST], why)


def of_test_set(name: str) -> str:
    """Return what a metric is called on the test set: `test_mae`, `user/test_size`."""
    prefix = USER_PREFIX if name.startswith(USER_PREFIX) else ""
    return f"{prefix}test_{name.removeprefix(prefix)}"


def _storable(name: str, longest: int) -> str:
    """Return a name that MLflow takes: its characters, no empty part of a path, not too long."""
    parts = _REFUSED.sub("_", name).split("/")
    text = "/".join("_" if part in _NO_PART else part for part in parts)
    if len(text) > longest:
        checksum = zlib.crc32(name.encode("utf-8", "replace"))
        text = f"{text[: longest - 9].rstrip('/')}_{checksum:08x}"
    return text


def _free(name: str, taken: Any) -> str:
    """Return a name that is not taken yet, with a number where need be."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free
