"""A measured value that can be traced to its method, or the reason why there is none."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

import pydantic_core

from fm_mlflow.errors import InputError
from fm_mlflow.keys import Key

if TYPE_CHECKING:
    from fm_mlflow.measure.machine import Machine

MIB = 1024**2
"""Bytes in one MiB, the notebook's "MB"."""


@dataclass(frozen=True)
class Measurement:
    """One cost.

    Attributes:
        name: The metric's name (`fm_mlflow.keys`).
        value: The figure, or None where it could not be measured.
        unit: Its unit.
        method: How it came about.
        samples: How many readings the value summarises; 1 for an exact count.
        spread: Standard deviation of the readings, in the same unit; 0 for an exact count,
            None where a single reading shows none.
        reason: Why there is no value.
        interval: 95% interval of the value, in the same unit, where the method gives one.
        details: What else belongs to the figure, by name; plain values only.
    """

    name: str
    value: float | None
    unit: str
    method: str
    samples: int = 1
    spread: float | None = None
    reason: str | None = None
    interval: tuple[float, float] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def exact(cls, key: Key, value: float, method: str) -> Measurement:
        """Return a count: nothing varies between readings."""
        return cls(str(key), value, key.unit, method, samples=1, spread=0.0)

    @classmethod
    def single(cls, key: Key, value: float, method: str) -> Measurement:
        """Return one reading of something that would vary; its spread is unknown."""
        return cls(str(key), value, key.unit, method)

    @classmethod
    def missing(cls, key: Key, method: str, reason: str) -> Measurement:
        """Record that there is no value, and why."""
        return cls(str(key), None, key.unit, method, samples=0, reason=reason)


def metrics(measurements: Iterable[Measurement]) -> dict[str, float]:
    """Return what can be logged: values by name, missing ones left out (never 0)."""
    return {m.name: m.value for m in measurements if m.value is not None}


def to_json(measurements: Iterable[Measurement], machine: Machine | Mapping[str, Any]) -> str:
    """Return the contents of `measurements.json`: every cost, and what it was measured on."""
    document = {"format": 1, "machine": machine, "measurements": list(measurements)}
    return pydantic_core.to_json(document, indent=2, inf_nan_mode="null").decode() + "\n"


def whole_number(parameter: str, value: object) -> int:
    """Return a whole number from 1, of Python's type or any other (NumPy's).

    Raises:
        InputError: It is none; truth values are not.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # what is none raises TypeError
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise InputError(parameter, value, "a whole number from 1")
    return number


def positive_number(parameter: str, value: object) -> float:
    """Return a positive, finite number.

    Raises:
        InputError: It is none; truth values are not.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    number = float(value) if is_number else math.nan  # type: ignore[arg-type]
    if not 0 < number < math.inf:
        raise InputError(parameter, value, "a positive number")
    return number
