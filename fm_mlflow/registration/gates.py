"""What a model must hold before it is promoted: bounds, and the present champion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fm_mlflow import keys
from fm_mlflow.analysis.costs import COSTS
from fm_mlflow.analysis.prose.words import difference, difference_interval, in_row
from fm_mlflow.config import RegisterConfig
from fm_mlflow.registration.findings import by
from fm_mlflow.results.register import Gate

if TYPE_CHECKING:
    from fm_mlflow.analysis.statistics.intervals import Interval

_BOUNDS = [
    ("min_accuracy", keys.TEST_ACCURACY),
    *((cost.option, cost.key) for cost in COSTS if cost.option),
]


@dataclass(frozen=True)
class Contender:
    """A model that is held against another.

    Attributes:
        accuracy: Its own, on the test set; None where nobody recorded it.
        cost: By which "cheaper" is decided; None likewise.
        seed_accuracies: Those of all runs that differ from its run in nothing but the seed.
        data_digest: Of the data that it was tested on.
    """

    accuracy: float | None
    cost: float | None
    seed_accuracies: tuple[float, ...]
    data_digest: str | None


def check_bounds(config: RegisterConfig, metrics: Mapping[str, float]) -> list[Gate]:
    """Hold a model against the bounds that were set; a cost that was not measured exceeds its own.

    Args:
        config: Holds the bounds.
        metrics: Of the model, by logged name; measured again where that is possible.
    """
    gates = []
    for option, key in _BOUNDS:
        bound, value = getattr(config, option), metrics.get(key)
        if bound is None:
            continue
        at_least = key == keys.TEST_ACCURACY
        demanded = f"at least {bound:g}" if at_least else f"at most {in_row(key, bound)}"
        passed = value is not None and (value >= bound if at_least else value <= bound)
        name = f"--{option.replace('_', '-')}"
        gates.append(Gate(name, demanded, in_row(key, value), passed, by(key)))
    return gates


def check_champion(
    candidate: Contender, champion: Contender, *, version: int, tolerance: float, cost: str
) -> list[Gate]:
    """Hold a model against the champion: hardly less accurate, and more accurate or cheaper.

    Where both have several seeds, the means of the two are compared, and "not less accurate" must
    be shown: the lower end of the difference's 95% interval decides. It must hold of the two models
    themselves, too.

    Args:
        candidate: The model to promote.
        champion: The model in use.
        version: The champion's version.
        tolerance: How much less accurate the candidate may be.
        cost: By which "cheaper" is decided.
    """
    name = f"champion, version {version}"
    if candidate.data_digest != champion.data_digest:
        digest = f"digest {champion.data_digest or 'not recorded'}"
        return [Gate(name, "tested on the same data; --name gives another model", digest, False)]
    if candidate.accuracy is None or champion.accuracy is None:
        return [Gate(name, "a test accuracy on either side", "not recorded", False)]
    found = accuracy_difference(candidate, champion)
    lowest, text = found.value, difference(keys.TEST_ACCURACY, found.value)
    shown = text
    if found.interval is not None:
        lowest, high = found.interval.low, found.interval.high
        shown += f", 95% {difference_interval(keys.TEST_ACCURACY, lowest, high)}"
    # What other runs logged was not verified: it takes nothing from what was.
    own = candidate.accuracy - champion.accuracy
    shown += f" ({found.basis})"
    if own < -tolerance <= lowest:
        shown += f"; these two: {difference(keys.TEST_ACCURACY, own)}"
    lowest = min(lowest, own)
    ours, theirs = candidate.cost, champion.cost
    cheaper = ours is not None and theirs is not None and ours < theirs
    return [
        Gate(
            f"accuracy v version {version}",
            f"not below it by more than {100 * tolerance:g} points",
            shown,
            lowest >= -tolerance,
        ),
        Gate(
            f"gain over version {version}",
            f"more accurate, or lower {cost}",
            f"{text}; {in_row(cost, ours)} v {in_row(cost, theirs)}",
            found.value > 0 or cheaper,
            "us" if found.value > 0 else by(cost),
        ),
    ]


@dataclass(frozen=True)
class AccuracyDifference:
    """How much more accurate a candidate is than the champion.

    Attributes:
        value: The difference.
        interval: Its 95% interval; None between two single runs, which show none.
        basis: What was compared, in words.
    """

    value: float
    interval: Interval | None
    basis: str


def accuracy_difference(candidate: Contender, champion: Contender) -> AccuracyDifference:
    """Compare the means over seeds where both sides have several, else the two runs.

    Two seeds of one configuration are two single runs: the means would be the same.
    """
    ours, theirs = candidate.seed_accuracies, champion.seed_accuracies
    if ours != theirs and min(len(ours), len(theirs)) > 1:
        from fm_mlflow.analysis.statistics.resampling import welch_interval

        value = sum(ours) / len(ours) - sum(theirs) / len(theirs)
        basis = f"{len(ours)} v {len(theirs)} seeds"
        found = welch_interval(ours, theirs, "seeds")
        if found is not None:
            return AccuracyDifference(value, found.interval, basis)
    value = (candidate.accuracy or 0.0) - (champion.accuracy or 0.0)
    return AccuracyDifference(value, None, "one run each")
