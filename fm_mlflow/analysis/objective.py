"""The metric that models are compared by: its direction, how it is worded, what it is a mean of."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fm_mlflow import keys
from fm_mlflow.settings.selection import Choice

Quantity = Literal["correct", "absolute error", "squared error", "cross-entropy"]
"""What a metric is the mean of, over the test examples."""

_SMALLER = frozenset(
    {
        *("loss", "mae", "mse", "rmse", "mape", "msle", "rmsle", "error", "errors", "nll"),
        *("crossentropy", "entropy", "hinge", "perplexity", "deviance", "divergence"),
    }
)
_LARGER = frozenset(
    {
        *("accuracy", "acc", "auc", "precision", "recall", "f1", "r2", "score", "iou"),
        *("similarity", "correlation"),
    }
)
"""Last words of the names of metrics of which less is better, or more."""

_SHARES = frozenset({"accuracy", "acc", "auc", "precision", "recall", "f1", "iou"})

_WORD = re.compile(r"[a-z][a-z0-9]*")

_QUANTITIES: dict[str, Quantity] = {
    "accuracy": "correct",
    "acc": "correct",
    "mae": "absolute error",
    "mean_absolute_error": "absolute error",
    "mse": "squared error",
    "mean_squared_error": "squared error",
    "rmse": "squared error",
    "root_mean_squared_error": "squared error",
    "sparse_categorical_crossentropy": "cross-entropy",
}
"""By how a metric's name ends: all of it, or what follows an underscore or another sign."""

_LOSSES: dict[str, Quantity] = {
    **dict.fromkeys(("mae", "mean_absolute_error"), "absolute error"),
    **dict.fromkeys(("mse", "mean_squared_error"), "squared error"),
    "sparse_categorical_crossentropy": "cross-entropy",
    "categorical_crossentropy": "cross-entropy",
    "binary_crossentropy": "cross-entropy",
}
"""By the parameter `loss` of a run."""

_ROOTS = ("rmse", "root_mean_squared_error")
_LOSS = "loss"
_PREFIXES = re.compile(r"(test|val)_")
_NOT_EVERY = re.compile(r"top_?k|top_?\d")
_FROM_LOGITS = re.compile(r" \(from logits\)$")


@dataclass(frozen=True)
class Objective:
    """What models are compared by.

    Attributes:
        metric: Its logged name: foreign text.
        smaller_is_better: Whether less of it is better.
        known_by: Where the direction comes from, in words; empty for the default metric.
        contradicts: The name of a well-known metric says that the other direction is better.
        example: What one element of the test set is called.
    """

    metric: str = keys.TEST_ACCURACY
    smaller_is_better: bool = False
    known_by: str = ""
    contradicts: bool = False
    example: str = field(default="example", compare=False)

    @classmethod
    def of(cls, choice: Choice) -> Objective:
        """Return what settings ask for; where they name no direction, the metric's name does."""
        said = less_is_better(choice.metric)
        if choice.smaller_is_better or choice.larger_is_better:
            smaller = choice.smaller_is_better
            return cls(choice.metric, smaller, "as was asked for", said not in (None, smaller))
        if choice.metric == keys.TEST_ACCURACY:
            return cls()
        known_by = "by default" if said is None else "by its name"
        return cls(choice.metric, bool(said), known_by)

    @property
    def is_accuracy(self) -> bool:
        """Whether it is the default: more test accuracy, for which prose has its own words."""
        return self.metric == keys.TEST_ACCURACY and not self.smaller_is_better

    @property
    def title(self) -> str:
        """What a reader calls the metric."""
        return "test accuracy" if self.metric == keys.TEST_ACCURACY else self.metric

    @property
    def heading(self) -> str:
        """The same where a title begins with it."""
        return "Test accuracy" if self.metric == keys.TEST_ACCURACY else self.metric

    @property
    def one(self) -> str:
        """The same after `has` and `with`."""
        return "a test accuracy" if self.metric == keys.TEST_ACCURACY else self.metric

    @property
    def short(self) -> str:
        """The same where it is clear on which data."""
        return "accuracy" if self.metric == keys.TEST_ACCURACY else self.metric

    @property
    def options(self) -> tuple[str, ...]:
        """The options of a command that ask for it, for a shell; none for the default."""
        if self == DEFAULT:
            return ()
        direction = "--smaller-is-better" if self.smaller_is_better else "--larger-is-better"
        return ("--metric", shlex.quote(self.metric), direction)

    @property
    def better(self) -> str:
        """Comparative."""
        return "more accurate" if self.is_accuracy else "better"

    @property
    def best(self) -> str:
        """Superlative, after `the`."""
        return "most accurate" if self.is_accuracy else "best"

    @property
    def extreme(self) -> str:
        """Which of several values is the best."""
        return "lowest" if self.smaller_is_better else "highest"

    @property
    def direction(self) -> str:
        """Which of two values is better."""
        return "lower" if self.smaller_is_better else "higher"

    @property
    def base(self) -> str:
        """The metric without what says on which data: `mae` of `test_mae`."""
        return _PREFIXES.sub("", self.metric, count=1) or self.metric

    @property
    def validation(self) -> str:
        """Logged name of the same metric on the validation data, one point an epoch."""
        return f"val_{self.base}"

    @property
    def is_of_test_set(self) -> bool:
        """Whether its name says that it is of the test set, so that its predictions give it."""
        return self.metric.startswith("test_")

    def gain(self, value: float) -> float:
        """Return a value with its sign changed where less is better: more of it is better."""
        return -value if self.smaller_is_better else value

    def margin(self, margin: float, a: float, b: float) -> float:
        """Return a margin in the metric's unit: of any but an accuracy, it is a share of a value.

        Args:
            margin: As it was set.
            a: A value of the metric.
            b: Another; the smaller of the two counts.
        """
        return margin if self.is_accuracy else margin * min(abs(a), abs(b))

    def quantity(self, config: Mapping[str, str]) -> Quantity | None:
        """Return what the metric is the mean of over test examples, as its name's end says.

        Args:
            config: A run's parameters; `loss` says what a loss is.

        Returns:
            None where no value of an example belongs to the metric.
        """
        name = self.base.lower()
        if name == _LOSS:
            return _LOSSES.get(_FROM_LOGITS.sub("", config.get(_LOSS, "")).lower())
        return None if _NOT_EVERY.search(name) else _quantity(name)

    @property
    def is_root(self) -> bool:
        """Whether it is the root of the mean of its quantity."""
        return _ending(self.base.lower(), _ROOTS)

    def of_means(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the metric from means of its quantity, of any shape."""
        return np.sqrt(means) if self.is_root else means

    def slope(self, mean: float) -> float:
        """Return by how much the metric changes with the mean of its quantity, at that mean."""
        return 0.5 / math.sqrt(mean) if self.is_root and mean > 0 else 1.0


DEFAULT = Objective()
"""More test accuracy."""


def less_is_better(metric: str) -> bool | None:
    """Return whether less of a metric is better, as the last word of its name says; else None."""
    word = _last_word(metric)
    return word in _SMALLER if word in _SMALLER | _LARGER else None


def limits(metric: str) -> tuple[float, float]:
    """Return between what values of a metric lie, as its name says: shares, errors, any number."""
    if _last_word(metric) in _SHARES:
        return 0.0, 1.0
    is_error = _quantity(metric.lower()) not in (None, "correct")
    return (0.0 if is_error else -math.inf), math.inf


def largest_difference(metric: str, *values: Sequence[float]) -> float:
    """Return what no difference of a metric exceeds: 1 of shares, unless its values are others."""
    least, most = limits(metric)
    is_within = all(least <= min(each) and max(each) <= most for each in values)
    return most - least if is_within else math.inf


def _last_word(metric: str) -> str:
    words: list[str] = _WORD.findall(metric.lower())
    return words[-1] if words else ""


@lru_cache(maxsize=4096)
def _ending(name: str, endings: tuple[str, ...]) -> bool:
    return any(re.search(rf"(^|[^a-z0-9]){each}$", name) for each in endings)


@lru_cache(maxsize=4096)
def _quantity(name: str) -> Quantity | None:
    # The longest first: `root_mean_squared_error` ends in `mean_squared_error` too.
    endings = sorted(_QUANTITIES, key=len, reverse=True)
    return next((_QUANTITIES[each] for each in endings if _ending(name, (each,))), None)
