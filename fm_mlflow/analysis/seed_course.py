"""Follow a design through the results: which models get more seeds, and what is decided when."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal

from scipy import special

from fm_mlflow.analysis.seed_design import SeedDesign
from fm_mlflow.analysis.statistics.differences import DifferenceInterval
from fm_mlflow.analysis.statistics.intervals import Interval
from fm_mlflow.analysis.statistics.sequential import adjusted_p, nominal_level
from fm_mlflow.analysis.statistics.significance import holm
from fm_mlflow.settings.selection import MOST_SEEDS

_POWER = 0.8

Pair = tuple[str, str]
Decision = Literal["first_more", "second_more", "equivalent", "open"]


@dataclass(frozen=True)
class Evidence:
    """A pair of models at a look.

    Attributes:
        interval: Of the difference of the compared metric, the first minus the second.
        margin: In the metric's unit.
    """

    interval: DifferenceInterval
    margin: float


Look = Callable[[Sequence[str], int], Mapping[Pair, Evidence] | None]
"""Returns the evidence on each pair of these models by so many seeds; None where some lack."""


@dataclass
class _Judged:
    """A pair so far: its evidence at each look, the first first."""

    evidence: list[Evidence] = field(default_factory=list)
    decision: Decision = "open"


@dataclass(frozen=True)
class PairCourse:
    """What a design says of a pair of models.

    Attributes:
        models: The pair.
        decision: Which has more of the metric, or that they are equivalent; `open` otherwise.
        seeds: Of each, at the last look at this pair.
        evidence: At that look.
        interval: Of the difference there, such that all looks together keep the design's alpha.
        p_value: Of all looks together, adjusted by Holm for all pairs.
        p_unadjusted: Before that adjustment.
        p_equivalent: Of equivalence, likewise for all looks and all pairs.
        would_take: Seeds of each that would probably settle an open pair; None where no number
            would, because the test examples are too few.
    """

    models: Pair
    decision: Decision
    seeds: int
    evidence: Evidence
    interval: Interval
    p_value: float
    p_unadjusted: float
    p_equivalent: float
    would_take: int | None


@dataclass(frozen=True)
class Course:
    """How far a design has come.

    Attributes:
        pairs: Those that were looked at.
        seeds: How many each model needs now, from seed 0; what is decided needs no more.
        state: `training` where results of these seeds lack, `decided`, or at its `limit`.
    """

    pairs: Mapping[Pair, PairCourse]
    seeds: Mapping[str, int]
    state: Literal["training", "decided", "limit"]


def cautious(interval: DifferenceInterval, seeds: int) -> DifferenceInterval:
    """Return an interval whose seeds have the degrees of freedom of one model's, not Welch's.

    The early looks test at levels so small that Welch's approximation is not good enough.

    Args:
        interval: Of a difference, over seeds and perhaps test examples.
        seeds: Of each model.
    """
    if not interval.error > 0:
        return interval
    of_seeds = max(0.0, 1 - (interval.examples_error / interval.error) ** 2)
    fewest = (seeds - 1) / of_seeds**2 if of_seeds else math.inf
    degrees = min(interval.degrees, max(seeds - 1.0, fewest))
    p_value = 2 * float(special.stdtr(degrees, -abs(interval.difference) / interval.error))
    p_value = max(p_value, 2 * interval.least_p)
    return replace(interval, degrees=degrees, p_value=p_value)


def follow(design: SeedDesign, look: Look, less_is_better: bool) -> Course:
    """Look at the results as the design says; the same results give the same course.

    Whatever is decided stays so. A model that is worse than another gets no more seeds.

    Args:
        design: What was decided before.
        look: The results.
        less_is_better: Of the metric.
    """
    pairs = {pair: _Judged() for pair in combinations(sorted(design.models), 2)}
    seeds = dict.fromkeys(sorted(design.models), 0)
    state: Literal["training", "decided", "limit"] = "limit"
    for number in design.looks:
        open_pairs = _open(pairs, less_is_better)
        if not open_pairs:
            state = "decided"
            break
        active = sorted({model for pair in open_pairs for model in pair})
        seeds |= dict.fromkeys(active, number)
        found = look(active, number)
        if found is None:
            state = "training"
            break
        for pair in open_pairs:
            pairs[pair].evidence.append(found[pair])
        _decide(pairs, open_pairs, design)
    else:
        if not _open(pairs, less_is_better):
            state = "decided"
    courses = _courses(pairs, design)
    return Course(courses, seeds, state)


def _open(pairs: Mapping[Pair, _Judged], less_is_better: bool) -> list[Pair]:
    """Return the undecided pairs of models of which neither is worse than another."""
    worse = {
        pair[(judged.decision == "first_more") != less_is_better]
        for pair, judged in pairs.items()
        if judged.decision in ("first_more", "second_more")
    }
    return [
        pair
        for pair, judged in pairs.items()
        if judged.decision == "open" and worse.isdisjoint(pair)
    ]


def _decide(pairs: Mapping[Pair, _Judged], open_pairs: Sequence[Pair], design: SeedDesign) -> None:
    different = holm([_p_different(each, design) for each in pairs.values()])
    equal = holm([_p_equivalent(each, design) for each in pairs.values()])
    for (pair, judged), p_different, p_equal in zip(pairs.items(), different, equal, strict=True):
        if pair not in open_pairs:
            continue
        if p_different < design.alpha:
            is_more = judged.evidence[-1].interval.difference > 0
            judged.decision = "first_more" if is_more else "second_more"
        elif p_equal < design.alpha:
            judged.decision = "equivalent"


def _p_different(judged: _Judged, design: SeedDesign) -> float:
    return adjusted_p([each.interval.p_value for each in judged.evidence], design.looks)


def _p_equivalent(judged: _Judged, design: SeedDesign) -> float:
    """Return the p-value of two one-sided tests over all looks: half of a two-sided one's."""
    doubled = [min(1.0, 2 * e.interval.p_not_within(e.margin)) for e in judged.evidence]
    return adjusted_p(doubled, design.looks) / 2 if doubled else 1.0


def _courses(pairs: Mapping[Pair, _Judged], design: SeedDesign) -> dict[Pair, PairCourse]:
    alone = [_p_different(each, design) for each in pairs.values()]
    equal = holm([_p_equivalent(each, design) for each in pairs.values()])
    courses = {}
    for (pair, judged), p_value, p_unadjusted, p_equivalent in zip(
        pairs.items(), holm(alone), alone, equal, strict=True
    ):
        if not judged.evidence:
            continue
        at, last = len(judged.evidence) - 1, judged.evidence[-1]
        courses[pair] = PairCourse(
            models=pair,
            decision=judged.decision,
            seeds=design.looks[at],
            evidence=last,
            interval=last.interval.at(nominal_level(design.alpha, design.looks, at)),
            p_value=p_value,
            p_unadjusted=p_unadjusted,
            p_equivalent=p_equivalent,
            would_take=_would_take(last, design, design.looks[at]),
        )
    return courses


def _would_take(evidence: Evidence, design: SeedDesign, seeds: int) -> int | None:
    """Return how many seeds of each would probably settle a pair, if the difference is as seen."""
    interval = evidence.interval
    size = abs(interval.difference)
    level = design.alpha / design.pairs
    power = float(special.ndtri(_POWER))
    smallest = max(
        size / (power - float(special.ndtri(level / 2))),
        (evidence.margin - size) / (power - float(special.ndtri(level))),
    )
    left = smallest**2 - interval.examples_error**2
    if left <= 0:
        return None
    of_seeds = max(0.0, interval.error**2 - interval.examples_error**2) * seeds
    needed = max(seeds + 1, math.ceil(of_seeds / left))
    return needed if needed <= MOST_SEEDS else None
