"""The judgement of each pair of groups, in each metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Group, Statistic, Verdict, VerdictWord
from fm_mlflow.analysis.costs import COSTS, LOWER_IS_BETTER, Cost
from fm_mlflow.analysis.evidence import MCNEMAR, Evidence, accuracy_evidence, cost_evidence
from fm_mlflow.analysis.machines import incomparable
from fm_mlflow.analysis.prose import sentences
from fm_mlflow.analysis.records import RunDetails
from fm_mlflow.analysis.statistics.significance import ALPHA, holm, seeds_needed

EXACT_COUNT = "exact count"


def accuracy_verdicts(
    groups: Sequence[Group], details: Mapping[str, RunDetails]
) -> tuple[Verdict, ...]:
    """Judge the test accuracy of each pair of detailed groups, the more accurate first."""
    return _judged(accuracy_evidence(_compared(groups), details), keys.TEST_ACCURACY)


def cost_verdicts(groups: Sequence[Group]) -> tuple[Verdict, ...]:
    """Judge each cost of each pair of detailed groups that have it."""
    compared = _compared(groups)
    return tuple(verdict for cost in COSTS for verdict in _cost_verdicts(compared, cost))


def _compared(groups: Sequence[Group]) -> list[Group]:
    return [group for group in groups if group.ranked and group.detailed]


def _cost_verdicts(compared: Sequence[Group], cost: Cost) -> list[Verdict]:
    pairs = list(combinations([group for group in compared if cost.key in group.metrics], 2))
    found: dict[tuple[str, str], Verdict] = {}
    noisy = []
    for a, b in pairs:
        if reason := incomparable(cost, [*a.runs, *b.runs]):
            words = sentences.incomparable(cost.key, a, b, reason)
            found[a.name, b.name] = replace(
                _untested(a, b, cost.key, words), probability_of_improvement=None
            )
        elif cost.counted and all(is_constant(group.metrics[cost.key]) for group in (a, b)):
            found[a.name, b.name] = _counted(a, b, cost.key)
        else:
            noisy.append((a, b))
    for verdict in _judged(cost_evidence(noisy, cost.key), cost.key):
        found[verdict.a, verdict.b] = verdict
    return [found[a.name, b.name] for a, b in pairs]


def is_constant(statistic: Statistic) -> bool:
    """Return whether all runs have the same value."""
    return min(statistic.values) == max(statistic.values)


def _judged(evidence: Sequence[Evidence], metric: str) -> tuple[Verdict, ...]:
    """Adjust the p-values for the number of pairs and say what they mean."""
    tested = [each for each in evidence if each.test]
    adjusted = iter(holm([each.p_value for each in tested]))
    reachable = iter(holm([each.smallest_p for each in tested]))
    # The permutation test takes the test images as given, but they are a sample too: models that
    # are equally good on all images differ on these. So the interval, which counts both, has to
    # agree.
    of_intervals = iter(holm([each.interval_p_value for each in tested]))
    verdicts = []
    for each in evidence:
        if each.test:
            pairs = len(tested)
            verdicts.append(
                _verdict(each, metric, pairs, next(adjusted), next(reachable), next(of_intervals))
            )
        else:
            needed = seeds_needed(len(evidence))
            words = sentences.untested(metric, each.a, each.b, needed)
            verdicts.append(replace(_untested(each.a, each.b, metric, words), seeds_needed=needed))
    return tuple(verdicts)


def _verdict(
    evidence: Evidence,
    metric: str,
    pairs: int,
    p_value: float,
    reachable: float,
    interval_p_value: float,
) -> Verdict:
    a, b = evidence.a, evidence.b
    first, second = a.metrics[metric], b.metrics[metric]
    difference = first.mean - second.mean
    test_shows_it = p_value < ALPHA and difference != 0
    is_shown = test_shows_it and interval_p_value < ALPHA
    interval = evidence.interval
    too_few = reachable >= ALPHA or evidence.test == MCNEMAR
    verdict = Verdict(
        a=a.name,
        b=b.name,
        metric=metric,
        difference=difference,
        ci_low=interval.interval.low if interval else None,
        ci_high=interval.interval.high if interval else None,
        interval=interval.method if interval else "",
        p_value=p_value,
        p_unadjusted=evidence.p_value,
        test=evidence.test,
        verdict=_better(difference, metric) if is_shown else sentences.NOT_DISTINGUISHABLE,
        probability_of_improvement=_probability(first, second, metric),
        words="",
        seeds_needed=seeds_needed(pairs) if too_few else None,
        counts=evidence.counts,
    )
    objection = ""
    if test_shows_it and not is_shown:
        counts_images = interval is not None and interval.counts_images
        objection = sentences.objection(verdict, interval_p_value, counts_images=counts_images)
    words = sentences.tested(verdict, first, second, pairs, objection)
    return replace(verdict, words=words)


def _untested(a: Group, b: Group, metric: str, words: str) -> Verdict:
    first, second = a.metrics[metric], b.metrics[metric]
    return Verdict(
        a=a.name,
        b=b.name,
        metric=metric,
        difference=first.mean - second.mean,
        ci_low=None,
        ci_high=None,
        interval="",
        p_value=None,
        p_unadjusted=None,
        test="",
        verdict=sentences.NOT_DISTINGUISHABLE,
        probability_of_improvement=_probability(first, second, metric),
        words=words,
    )


def _counted(a: Group, b: Group, metric: str) -> Verdict:
    verdict = _untested(a, b, metric, sentences.counted_exactly(metric, a, b))
    difference = verdict.difference
    return replace(
        verdict,
        ci_low=difference,
        ci_high=difference,
        interval="counted, the same in every run",
        test=EXACT_COUNT,
        verdict=_better(difference, metric) if difference else sentences.NOT_DISTINGUISHABLE,
    )


def _better(difference: float, metric: str) -> VerdictWord:
    return "a_better" if (difference < 0) == (metric in LOWER_IS_BETTER) else "b_better"


def _probability(first: Statistic, second: Statistic, metric: str) -> float:
    """Return the share of pairs of runs in which the first is better, ties half."""
    differences = np.subtract.outer(first.values, second.values)
    better = differences < 0 if metric in LOWER_IS_BETTER else differences > 0
    return float(np.mean(better + 0.5 * (differences == 0)))
