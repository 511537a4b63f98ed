"""What a model costs in core-hours, as plain values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """A mean with its 95% interval, whose ends are None where there is none."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Expense:
    """What a group costs to use and to train on the machine that measured it.

    Attributes:
        cores: That a process may use there; they count as long as it runs, busy or not.
        predictions: Core-hours of a million predictions, in batches; None where not measured.
        training: Core-hours of a fit; None likewise.
        predictions_price: The same in money; None where no price was given.
        training_price: Likewise.
    """

    model: str
    cores: int
    predictions: Range | None
    training: Range | None
    predictions_price: Range | None
    training_price: Range | None
