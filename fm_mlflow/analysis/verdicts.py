"""What the evidence says of each pair of groups, and in which words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Group, Statistic, Verdict, VerdictWord
from fm_mlflow.analysis.costs import COSTS, LOWER_IS_BETTER, Cost
from fm_mlflow.analysis.images import TestImages, match_images
from fm_mlflow.analysis.machines import incomparable
from fm_mlflow.analysis.records import RunDetails
from fm_mlflow.analysis.resampling import (
    DifferenceInterval,
    SeedsAndImages,
    paired_interval,
    welch_interval,
)
from fm_mlflow.analysis.significance import (
    ALPHA,
    holm,
    mcnemar,
    permutation_test,
    seeds_needed,
    smallest_p,
)
from fm_mlflow.words import capitalised, figure, p_text, times

EXACT_COUNT = "exact count"
MCNEMAR = "exact McNemar test"
EXACT_PERMUTATION = "exact permutation test"
RANDOM_PERMUTATION = "permutation test (random splits)"


@dataclass(frozen=True)
class _Evidence:
    """A pair before the p-values of all pairs are adjusted.

    Attributes:
        a: The first group.
        b: The second.
        test: Name of the test; empty where there is none.
        p_value: Of the test.
        smallest_p: What it could give at best with so many runs.
        interval: Of the difference.
        counts: McNemar's counts.
    """

    a: Group
    b: Group
    test: str
    p_value: float
    smallest_p: float
    interval: DifferenceInterval | None
    counts: tuple[int, int] | None = None

    @property
    def p_value_with_images(self) -> float:
        """Of the t-test over seeds and test images, where it could be made."""
        interval = self.interval
        return interval.p_value if interval and interval.counts_images else self.p_value


def accuracy_verdicts(
    groups: Sequence[Group], details: Mapping[str, RunDetails]
) -> tuple[Verdict, ...]:
    """Judge the test accuracy of each pair of detailed groups, the more accurate first."""
    compared = [group for group in groups if group.ranked and group.detailed]
    images = match_images(compared, details)
    resampled = SeedsAndImages(compared, images)
    evidence = [_accuracy_evidence(a, b, images, resampled) for a, b in combinations(compared, 2)]
    return _judged(evidence, keys.TEST_ACCURACY)


def cost_verdicts(groups: Sequence[Group]) -> tuple[Verdict, ...]:
    """Judge each cost of each pair of detailed groups that have it."""
    compared = [group for group in groups if group.ranked and group.detailed]
    return tuple(verdict for cost in COSTS for verdict in _cost_verdicts(compared, cost))


def _accuracy_evidence(
    a: Group, b: Group, images: TestImages, resampled: SeedsAndImages
) -> _Evidence:
    first, second = a.metrics[keys.TEST_ACCURACY], b.metrics[keys.TEST_ACCURACY]
    if first.n > 1 or second.n > 1:
        interval = resampled.interval(a, b) or welch_interval(first.values, second.values, "seeds")
        return _permutation(a, b, keys.TEST_ACCURACY, interval)
    right_a, right_b = images.of(a), images.of(b)
    if not (len(right_a) and len(right_b)):
        return _Evidence(a, b, "", 1.0, 1.0, None)
    only_a = int(np.count_nonzero(right_a[0] & ~right_b[0]))
    only_b = int(np.count_nonzero(right_b[0] & ~right_a[0]))
    p_value = mcnemar(only_a, only_b)
    method = "over test images alone, these two trained models (Bonett and Price)"
    interval = DifferenceInterval(paired_interval(only_a, only_b, images.count), method, p_value)
    return _Evidence(a, b, MCNEMAR, p_value, 0.0, interval, (only_a, only_b))


def _permutation(a: Group, b: Group, metric: str, interval: DifferenceInterval | None) -> _Evidence:
    first, second = a.metrics[metric], b.metrics[metric]
    if first.n == second.n == 1:
        return _Evidence(a, b, "", 1.0, 1.0, interval)
    result = permutation_test(first.values, second.values)
    test = EXACT_PERMUTATION if result.exact else RANDOM_PERMUTATION
    return _Evidence(a, b, test, result.p_value, smallest_p(first.n, second.n), interval)


def _cost_verdicts(compared: Sequence[Group], cost: Cost) -> list[Verdict]:
    having = [group for group in compared if cost.key in group.metrics]
    certain: dict[tuple[str, str], Verdict] = {}
    evidence = []
    for a, b in combinations(having, 2):
        reason = incomparable(cost, [*a.runs, *b.runs])
        if reason:
            certain[a.name, b.name] = _no_verdict(a, b, cost, reason)
        elif cost.counted and _constant(a.metrics[cost.key]) and _constant(b.metrics[cost.key]):
            certain[a.name, b.name] = _counted_verdict(a, b, cost)
        else:
            first, second = a.metrics[cost.key], b.metrics[cost.key]
            interval = welch_interval(first.values, second.values, "runs")
            evidence.append(_permutation(a, b, cost.key, interval))
    judged = {(verdict.a, verdict.b): verdict for verdict in _judged(evidence, cost.key)}
    everything = certain | judged
    return [everything[a.name, b.name] for a, b in combinations(having, 2)]


def _constant(statistic: Statistic) -> bool:
    return min(statistic.values) == max(statistic.values)


def _judged(evidence: Sequence[_Evidence], metric: str) -> tuple[Verdict, ...]:
    """Adjust the p-values of all pairs and say what they mean."""
    tested = [each for each in evidence if each.test]
    adjusted = iter(holm([each.p_value for each in tested]))
    reachable = iter(holm([each.smallest_p for each in tested]))
    # Seeds alone do not carry a verdict on accuracy: the test images are a sample too.
    with_images = iter(holm([each.p_value_with_images for each in tested]))
    verdicts = []
    for each in evidence:
        if each.test:
            p_values = next(adjusted), next(reachable), next(with_images)
            verdicts.append(_verdict(each, metric, *p_values, pairs=len(tested)))
        else:
            verdicts.append(_untested(each, metric, pairs=max(1, len(tested))))
    return tuple(verdicts)


def _verdict(
    evidence: _Evidence,
    metric: str,
    p_value: float,
    reachable: float,
    interval_p: float,
    *,
    pairs: int,
) -> Verdict:
    a, b = evidence.a, evidence.b
    first, second = a.metrics[metric], b.metrics[metric]
    difference = first.mean - second.mean
    shown = p_value < ALPHA
    contradicted = shown and interval_p >= ALPHA
    word: VerdictWord = "not_distinguishable"
    if shown and not contradicted and difference != 0:
        word = "a_better" if (difference < 0) == (metric in LOWER_IS_BETTER) else "b_better"
    interval = evidence.interval
    single = evidence.test == MCNEMAR
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
        verdict=word,
        probability_of_improvement=_probability(first, second, metric),
        words="",
        seeds_needed=seeds_needed(pairs) if reachable >= ALPHA or single else None,
        counts=evidence.counts,
    )
    return replace(
        verdict, words=_words(verdict, first, second, pairs, interval_p if contradicted else None)
    )


def _untested(evidence: _Evidence, metric: str, *, pairs: int) -> Verdict:
    """Say that one run each, without predictions to compare, shows nothing."""
    a, b = evidence.a, evidence.b
    first, second = a.metrics[metric], b.metrics[metric]
    needed = seeds_needed(pairs)
    figures = f"{figure(metric, first.mean)} against {figure(metric, second.mean)}"
    without = (
        ", and no predictions to compare image by image" if metric == keys.TEST_ACCURACY else ""
    )
    words = (
        f"{_topic(metric)}{a.name} and {b.name} are not distinguishable: {figures}, one run each"
        f"{without}; {needed} seeds each could show a difference."
    )
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
        verdict="not_distinguishable",
        probability_of_improvement=_probability(first, second, metric),
        words=words,
        seeds_needed=needed,
    )


def _counted_verdict(a: Group, b: Group, cost: Cost) -> Verdict:
    first, second = a.metrics[cost.key], b.metrics[cost.key]
    difference = first.mean - second.mean
    word: VerdictWord = "not_distinguishable"
    if difference != 0:
        word = "a_better" if difference < 0 else "b_better"
    less, more = (a, b) if difference <= 0 else (b, a)
    low, high = less.metrics[cost.key].mean, more.metrics[cost.key].mean
    if low == high:
        rest = f"{a.name} and {b.name} the same, {figure(cost.key, low)}"
    else:
        ratio = f"; {times(high, low)} as much" if low > 0 else ""
        rest = f"{less.name} {figure(cost.key, low)}, {more.name} {figure(cost.key, high)}{ratio}"
    return Verdict(
        a=a.name,
        b=b.name,
        metric=cost.key,
        difference=difference,
        ci_low=difference,
        ci_high=difference,
        interval="counted, the same in every run",
        p_value=None,
        p_unadjusted=None,
        test=EXACT_COUNT,
        verdict=word,
        probability_of_improvement=_probability(first, second, cost.key),
        words=f"{capitalised(cost.title)}: {rest} (exact count).",
    )


def _no_verdict(a: Group, b: Group, cost: Cost, reason: str) -> Verdict:
    first, second = a.metrics[cost.key], b.metrics[cost.key]
    words = (
        f"{capitalised(cost.title)}: {a.name} {figure(cost.key, first.mean)} and {b.name} "
        f"{figure(cost.key, second.mean)} are not compared, because {reason}."
    )
    return Verdict(
        a=a.name,
        b=b.name,
        metric=cost.key,
        difference=first.mean - second.mean,
        ci_low=None,
        ci_high=None,
        interval="",
        p_value=None,
        p_unadjusted=None,
        test="",
        verdict="not_distinguishable",
        probability_of_improvement=None,
        words=words,
    )


def _probability(first: Statistic, second: Statistic, metric: str) -> float:
    """Return the share of pairs of runs in which the first is better, ties half."""
    differences = np.subtract.outer(first.values, second.values)
    better = differences < 0 if metric in LOWER_IS_BETTER else differences > 0
    return float(np.mean(better + 0.5 * (differences == 0)))


def _words(
    verdict: Verdict, first: Statistic, second: Statistic, pairs: int, images_p: float | None
) -> str:
    """Say what a tested pair shows."""
    a, b, metric = verdict.a, verdict.b, verdict.metric
    if verdict.verdict == "b_better":
        a, b, first, second = b, a, second, first
    figures = f"{figure(metric, first.mean)} against {figure(metric, second.mean)}"
    spread = f"difference {figure(metric, abs(first.mean - second.mean))}"
    if verdict.ci_low is not None and verdict.ci_high is not None:
        low, high = verdict.ci_low, verdict.ci_high
        if verdict.difference < 0:
            low, high = -high, -low
        spread += f", 95% interval {figure(metric, low)} to {figure(metric, high)}"
    p_value = verdict.p_value if verdict.p_value is not None else math.nan
    evidence = f"{verdict.test}, {p_text(p_value)}"
    if pairs > 1:
        evidence += f" after Holm's correction for {pairs} pairs"
    if verdict.counts is not None:
        return _mcnemar_words(verdict, a, b, f"{figures} ({spread}; {evidence}")
    noun = "seeds" if metric == keys.TEST_ACCURACY else "runs"
    sizes = f"{first.n} and {second.n} {noun}"
    topic = _topic(metric)
    if verdict.verdict != "not_distinguishable":
        better = "less for" if metric in LOWER_IS_BETTER else ""
        lead = f"{topic}less for {a} than for {b}" if better else f"{a} is better than {b}"
        return f"{lead}: {figures} ({spread}; {evidence}, {sizes})."
    if verdict.seeds_needed is not None:
        few = f"{first.n} {noun} each" if first.n == second.n else sizes
        return (
            f"{topic}{a} and {b} are not distinguishable with {few}: no result of so few could "
            f"reach p < {ALPHA:g}{_family(pairs)}; {verdict.seeds_needed} {noun} each could "
            f"({figures}, {spread})."
        )
    if images_p is not None:
        return (
            f"{a} and {b} are not distinguishable: {figures} on these test images ({evidence}, "
            f"{sizes}), but by no more than the choice of images explains ({spread}; "
            f"{p_text(images_p)} with it)."
        )
    return f"{topic}{a} and {b} are not distinguishable: {figures} ({spread}; {evidence}, {sizes})."


def _mcnemar_words(verdict: Verdict, a: str, b: str, figures: str) -> str:
    only_a, only_b = verdict.counts or (0, 0)
    if verdict.verdict == "b_better":
        only_a, only_b = only_b, only_a
    judgement = (
        "are not distinguishable"
        if verdict.verdict == "not_distinguishable"
        else f"differ, {a} is better"
    )
    return (
        f"The two trained models {a} and {b} {judgement}: {figures}; {only_a:,} images only {a} "
        f"has right, {only_b:,} only {b}), which says nothing about other seeds; "
        f"{verdict.seeds_needed} seeds each could."
    )


def _family(pairs: int) -> str:
    return f" for {pairs} pairs" if pairs > 1 else ""


def _topic(metric: str) -> str:
    """Return what a sentence on a cost begins with; accuracy goes without saying."""
    title = next((cost.title for cost in COSTS if cost.key == metric), "")
    return f"{capitalised(title)}: " if title else ""
