"""The design of a benchmark that trains as many seeds as its decision needs."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import Self

from fm_mlflow import keys
from fm_mlflow.settings.selection import FEWEST_SEEDS, MOST_SEEDS

_EACH_UNTIL = 6
_GROWTH = 1.25
"""A look at each number of seeds at first, then at a quarter more."""

LONGEST_NAME = 1000
"""Characters of a model with its arguments."""

_Name = Annotated[str, Field(max_length=LONGEST_NAME)]


class SeedDesign(BaseModel):
    """What is decided before the first result, so that looking at results early is harmless.

    Attributes:
        models: Between which it decides.
        metric: By which it decides; empty: test_accuracy, of numbers test_mae.
        better: Which of two values is, if that was asked for; empty: as the metric's name says.
        max_seeds: Of each model, at most.
        margin: Two models are equivalent whose difference is less: of an accuracy a share of the
            test images, of another metric a share of its value.
        alpha: Most of the designs that may call any pair different wrongly; likewise equivalent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    models: tuple[_Name, ...] = Field(min_length=2, max_length=1000)
    metric: str = Field("", max_length=250)
    better: Literal["", "smaller", "larger"] = ""
    max_seeds: int = Field(ge=FEWEST_SEEDS, le=MOST_SEEDS)
    margin: float = Field(gt=0, le=1)
    alpha: float = Field(ge=1e-4, le=0.5)

    @property
    def looks(self) -> tuple[int, ...]:
        """At how many seeds of each model the results are looked at."""
        return looks(self.max_seeds)

    def is_about(self, metric: str) -> bool:
        """Whether it decides by a metric."""
        if not self.metric:
            return metric in (keys.TEST_ACCURACY, keys.TEST_MAE)
        return metric == self.metric

    def less_is_better(self, by_name: bool) -> bool:
        """Whether it takes less of its metric for better.

        Args:
            by_name: Whether the metric's name says so.
        """
        return self.better == "smaller" if self.better else by_name

    @property
    def pairs(self) -> int:
        """Pairs of models."""
        return len(self.models) * (len(self.models) - 1) // 2

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Read what a run's tag says; None where it is no design."""
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            return None


def looks(most: int) -> tuple[int, ...]:
    """Return at how many seeds of each model a design looks at the results.

    Args:
        most: The limit, at least `FEWEST_SEEDS`.
    """
    numbers = [FEWEST_SEEDS]
    while numbers[-1] < most:
        last = numbers[-1]
        step = 1 if last < _EACH_UNTIL else math.ceil(last * (_GROWTH - 1))
        numbers.append(min(most, last + step))
    return tuple(numbers)
