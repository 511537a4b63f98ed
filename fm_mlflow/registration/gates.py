"""What a model must hold before it is promoted: bounds, and the present champion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fm_mlflow.analysis.costs import COSTS
from fm_mlflow.analysis.objective import DEFAULT, Objective, limits
from fm_mlflow.analysis.prose.words import difference, difference_interval, in_row, number
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
        demanded = f"at {_end(objective)} {bound:g}"
        passed = value is not None and objective.gain(value) >= objective.gain(bound)
        shown = in_row(objective.metric, value)
        needed = "" if passed else f"{objective.title} {demanded} (it is {shown})"
        # Less may be better: "min" alone would read wrong.
        name = _option(option) if objective.is_accuracy else f"{objective.metric} (--min-metric)"
        gates.append(Gate(name, demanded, shown, passed, needed=needed))
    for cost in (each for each in COSTS if each.option):
        bound, value = getattr(config, cost.option), metrics.get(cost.key)
        if bound is None:
            continue
        passed = value is not None and value <= bound
        demanded, shown = f"at most {in_row(cost.key, bound)}", in_row(cost.key, value)
        needed = "" if passed else f"{cost.title} {demanded} (it is {shown})"
        gates.append(Gate(_option(cost.option), demanded, shown, passed, by(cost.key), needed))
    return gates


def _end(objective: Objective) -> str:
    """Return which end of a range a bound of the metric is, after `at`."""
    return "most" if objective.smaller_is_better else "least"


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
    has_to_gain: bool = True,
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
        has_to_gain: Whether it has to be better or cheaper as well.
    """
    name = f"champion, version {version}"
    if candidate.data_digest != champion.data_digest:
        bound = "tested on the same data; --name gives another model"
        digest = f"digest {champion.data_digest or 'not recorded'}"
        needed = "a model of the champion's data, or a --name of its own"
        return [Gate(name, bound, digest, False, needed=needed)]
    if candidate.value is None or champion.value is None:
        bound = f"{objective.one} on either side"
        return [Gate(name, bound, "not recorded", False, needed=bound)]
    allowed = tolerance if objective.is_accuracy else tolerance * abs(champion.value)
    found = metric_difference(candidate, champion, over_examples, objective.metric)
    held = _not_worse(candidate, champion, found, version, tolerance, allowed, objective)
    if not has_to_gain:
        return [held]
    return [held, _gain(candidate, champion, found, version, cost, objective, held.passed)]


def _not_worse(
    candidate: Contender,
    champion: Contender,
    found: MetricDifference,
    version: int,
    tolerance: float,
    allowed: float,
    objective: Objective,
) -> Gate:
    metric, gain = objective.metric, objective.gain
    ours, theirs = candidate.value or 0.0, champion.value or 0.0
    shown = difference(metric, found.value)
    of_means = found.interval
    if of_means is None:
        holds = gain(found.value) >= -allowed
    else:
        low, high = of_means.interval.low, of_means.interval.high
        shown += f", 95% {difference_interval(metric, low, high)}"
        worse = objective.smaller_is_better
        holds = of_means.p_worse_by(allowed, smaller_is_better=worse) <= _NON_INFERIOR
    # What other runs logged was not verified: it takes nothing from what was.
    shown += f" ({found.basis})"
    own_holds = gain(ours - theirs) >= -allowed
    if not own_holds and holds:
        shown += f"; these two: {difference(metric, ours - theirs)}"
    needed = []
    if of_means is not None and not holds:
        short = -allowed - min(gain(of_means.interval.low), gain(of_means.interval.high))
        mean = sum(candidate.seed_values) / len(candidate.seed_values)
        least = gain(gain(mean) + short)
        text = (
            f"a mean over seeds of at {_end(objective)} {number(metric, least)}, as they vary "
            f"(it is {number(metric, mean)})"
        )
        can_be_shown = gain(found.value) > -allowed
        lowest, highest = limits(metric)
        if not lowest <= least <= highest:  # so few seeds show nothing, whatever they are
            text = "" if can_be_shown else f"a {objective.better} mean over seeds, and "
            text += "more seeds, which narrow the interval"
        elif can_be_shown:
            text += ", or more seeds, which narrow the interval"
        needed.append(text)
    if not own_holds:
        least = gain(gain(theirs) - allowed)
        needed.append(
            f"{objective.title} of this run at {_end(objective)} {number(metric, least)} "
            f"(it is {number(metric, ours)})"
        )
    side = "above" if objective.smaller_is_better else "below"
    in_words = f"{100 * tolerance:g}" + (" points" if objective.is_accuracy else "% of it")
    return Gate(
        f"{objective.short} v version {version}",
        f"not {side} it by more than {in_words}",
        shown,
        holds and own_holds,
        needed="; and ".join(needed),
    )


def _gain(
    candidate: Contender,
    champion: Contender,
    found: MetricDifference,
    version: int,
    cost: str,
    objective: Objective,
    is_not_worse: bool,
) -> Gate:
    metric, ours, theirs = objective.metric, candidate.cost, champion.cost
    cheaper = ours is not None and theirs is not None and ours < theirs
    is_better = objective.gain(found.value) > 0
    needed = ""
    if not (is_better or cheaper):
        mean, held = found.interval is not None, champion.value or 0.0
        if mean:
            held = sum(champion.seed_values) / len(champion.seed_values)
        side = "below" if objective.smaller_is_better else "above"
        way_out = "; a change that is to change no result passes with --against-champion not-worse"
        needed = (
            f"{'a mean ' if mean else ''}{objective.title} {side} {number(metric, held)}"
            + ("" if theirs is None else f", or {cost} below {in_row(cost, theirs)}")
            + (way_out if is_not_worse else "")
        )
    return Gate(
        f"gain over version {version}",
        f"{objective.better}, or lower {cost}",
        f"{difference(metric, found.value)}; {in_row(cost, ours)} v {in_row(cost, theirs)}",
        is_better or cheaper,
        "us" if is_better else by(cost),
        needed,
    )


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
    candidate: Contender,
    champion: Contender,
    over_examples: DifferenceInterval | None = None,
    metric: str = "",
) -> MetricDifference:
    """Compare the means over seeds where both sides have several, else the two runs.

    Two seeds of one configuration are two single runs: the means would be the same.

    Args:
        candidate: The model to promote.
        champion: The model in use.
        over_examples: The interval of the means' difference that counts the test examples, too.
        metric: Its name.
    """
    ours, theirs = candidate.seed_values, champion.seed_values
    if ours != theirs and min(len(ours), len(theirs)) > 1:
        from fm_mlflow.analysis.statistics.resampling import welch_interval

        value = sum(ours) / len(ours) - sum(theirs) / len(theirs)
        basis = f"{len(ours)} v {len(theirs)} seeds"
        found = over_examples or welch_interval(ours, theirs, "seeds", metric)
        return MetricDifference(value, found, basis)
    value = (candidate.value or 0.0) - (champion.value or 0.0)
    return MetricDifference(value, None, "one run each")
