"""What a model must hold before it is promoted: bounds, and the present champion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fm_mlflow.analysis.costs import COSTS
from fm_mlflow.analysis.objective import DEFAULT, Objective
from fm_mlflow.analysis.prose.words import difference, difference_interval, in_row
from fm_mlflow.registration.findings import by
from fm_mlflow.results.register import Gate
from fm_mlflow.settings.registered import RegisterConfig

if TYPE_CHECKING:
    from fm_mlflow.analysis.statistics.differences import DifferenceInterval

_NON_INFERIOR = 0.025
"""Level of the test of non-inferiority, one-sided: as a 95% interval has it."""


@dataclass(frozen=True)
class Contender:
    """A model that is held against another.

    Attributes:
        value: Its own, of the metric that decides; None where nobody recorded it.
        cost: By which "cheaper" is decided; None likewise.
        seed_values: Those of all runs that differ from its run in nothing but the seed.
        data_digest: Of the data that it was tested on.
    """

    value: float | None
    cost: float | None
    seed_values: tuple[float, ...]
    data_digest: str | None


def check_bounds(
    config: RegisterConfig, metrics: Mapping[str, float], objective: Objective = DEFAULT
) -> list[Gate]:
    """Hold a model against the bounds that were set; a cost that was not measured exceeds its own.

    Args:
        config: Holds the bounds.
        metrics: Of the model, by logged name; measured again where that is possible.
        objective: The metric that decides.
    """
    gates = []
    for option in ("min_accuracy", "min_metric"):
        bound, value = getattr(config, option), metrics.get(objective.metric)
        if bound is None:
            continue
        which = "most" if objective.smaller_is_better else "least"
        passed = value is not None and objective.gain(value) >= objective.gain(bound)
        shown = in_row(objective.metric, value)
        # Less may be better: "min" alone would read wrong.
        name = _option(option) if objective.is_accuracy else f"{objective.metric} (--min-metric)"
        gates.append(Gate(name, f"at {which} {bound:g}", shown, passed))
    for cost in (each for each in COSTS if each.option):
        bound, value = getattr(config, cost.option), metrics.get(cost.key)
        if bound is None:
            continue
        passed = value is not None and value <= bound
        demanded, shown = f"at most {in_row(cost.key, bound)}", in_row(cost.key, value)
        gates.append(Gate(_option(cost.option), demanded, shown, passed, by(cost.key)))
    return gates


def _option(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"


def check_champion(
    candidate: Contender,
    champion: Contender,
    *,
    version: int,
    tolerance: float,
    cost: str,
    objective: Objective = DEFAULT,
    over_examples: DifferenceInterval | None = None,
) -> list[Gate]:
    """Hold a model against the champion: hardly worse, and better or cheaper.

    Where both have several seeds, the means of the two are compared, and "not worse" must be shown:
    by a test of non-inferiority at 2.5%, so the worse end of the difference's 95% interval has to
    be within the tolerance. It must hold of the two models themselves, too.

    Args:
        candidate: The model to promote.
        champion: The model in use.
        version: The champion's version.
        tolerance: How much worse the candidate may be: of an accuracy in its unit, of another
            metric as a share of the champion's value.
        cost: By which "cheaper" is decided.
        objective: The metric that decides.
        over_examples: The interval of the difference of the means over seeds, where that counts
            the test examples, too.
    """
    name = f"champion, version {version}"
    if candidate.data_digest != champion.data_digest:
        digest = f"digest {champion.data_digest or 'not recorded'}"
        return [Gate(name, "tested on the same data; --name gives another model", digest, False)]
    if candidate.value is None or champion.value is None:
        return [Gate(name, f"{objective.one} on either side", "not recorded", False)]
    metric = objective.metric
    found = metric_difference(candidate, champion, over_examples)
    text = difference(metric, found.value)
    shown = text
    if found.interval is not None:
        low, high = found.interval.interval.low, found.interval.interval.high
        shown += f", 95% {difference_interval(metric, low, high)}"
    # What other runs logged was not verified: it takes nothing from what was.
    own = candidate.value - champion.value
    shown += f" ({found.basis})"
    allowed, in_words = tolerance, f"{100 * tolerance:g} points"
    if not objective.is_accuracy:
        allowed, in_words = tolerance * abs(champion.value), f"{100 * tolerance:g}% of it"
    holds = objective.gain(found.value) >= -allowed
    if found.interval is not None:
        worse = objective.smaller_is_better
        holds = found.interval.p_worse_by(allowed, smaller_is_better=worse) <= _NON_INFERIOR
    if objective.gain(own) < -allowed and holds:
        shown += f"; these two: {difference(metric, own)}"
        holds = False
    ours, theirs = candidate.cost, champion.cost
    cheaper = ours is not None and theirs is not None and ours < theirs
    is_better = objective.gain(found.value) > 0
    side = "above" if objective.smaller_is_better else "below"
    return [
        Gate(
            f"{objective.short} v version {version}",
            f"not {side} it by more than {in_words}",
            shown,
            holds and objective.gain(own) >= -allowed,
        ),
        Gate(
            f"gain over version {version}",
            f"{objective.better}, or lower {cost}",
            f"{text}; {in_row(cost, ours)} v {in_row(cost, theirs)}",
            is_better or cheaper,
            "us" if is_better else by(cost),
        ),
    ]


@dataclass(frozen=True)
class MetricDifference:
    """By how much a candidate's metric is more than the champion's.

    Attributes:
        value: The difference.
        interval: Its 95% interval; None between two single runs, which show none.
        basis: What was compared, in words.
    """

    value: float
    interval: DifferenceInterval | None
    basis: str


def metric_difference(
    candidate: Contender, champion: Contender, over_examples: DifferenceInterval | None = None
) -> MetricDifference:
    """Compare the means over seeds where both sides have several, else the two runs.

    Two seeds of one configuration are two single runs: the means would be the same.

    Args:
        candidate: The model to promote.
        champion: The model in use.
        over_examples: The interval of the means' difference that counts the test examples, too.
    """
    ours, theirs = candidate.seed_values, champion.seed_values
    if ours != theirs and min(len(ours), len(theirs)) > 1:
        from fm_mlflow.analysis.statistics.resampling import welch_interval

        value = sum(ours) / len(ours) - sum(theirs) / len(theirs)
        basis = f"{len(ours)} v {len(theirs)} seeds"
        found = over_examples or welch_interval(ours, theirs, "seeds")
        return MetricDifference(value, found, basis)
    value = (candidate.value or 0.0) - (champion.value or 0.0)
    return MetricDifference(value, None, "one run each")
