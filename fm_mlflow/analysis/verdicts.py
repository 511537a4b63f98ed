"""The judgement of each pair of groups, in each metric, and the evidence for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Group, Verdict, VerdictWord
from fm_mlflow.analysis.costs import COSTS, LOWER_IS_BETTER, MEASURED, Cost, incomparable
from fm_mlflow.analysis.images import TestImages, match_images
from fm_mlflow.analysis.prose import sentences
from fm_mlflow.analysis.records import RunDetails
from fm_mlflow.analysis.statistics.resampling import (
    DifferenceInterval,
    Ratio,
    SeedsAndImages,
    paired_interval,
    ratio_of_means,
    welch_interval,
)
from fm_mlflow.analysis.statistics.significance import (
    ALPHA,
    holm,
    mcnemar,
    permutation_tests,
    seeds_needed,
    smallest_p,
)

_ENOUGH_RUNS = 3
"""Of each group: a t-test finds a difference of ten times the noise with them."""


@dataclass(frozen=True)
class _Evidence:
    """A pair in one metric, before the p-values of all pairs are adjusted.

    Attributes:
        test: Name of the test; empty where none is possible.
        p_value: Of the test; 1 without.
        smallest_p: What it could give at best with so many runs.
        interval: Of the difference.
        ratio: Instead, for a measured positive cost.
        counts: McNemar: images that only a has right, that only b has right.
    """

    a: Group
    b: Group
    test: str
    p_value: float
    smallest_p: float
    interval: DifferenceInterval | None = None
    ratio: Ratio | None = None
    counts: tuple[int, int] | None = None


def accuracy_verdicts(
    groups: Sequence[Group], details: Mapping[str, RunDetails]
) -> tuple[Verdict, ...]:
    """Judge the test accuracy of each pair of detailed groups, the more accurate first.

    Args:
        groups: As `group_runs` gives them.
        details: Of the runs of detailed groups, by run id; what is missing weakens the evidence.
    """
    compared = [group for group in groups if group.detailed]
    images = match_images(compared, details)
    resampled = SeedsAndImages(compared, images)
    pairs = [(a, b, resampled.interval(a, b)) for a, b in combinations(compared, 2)]
    evidence = _permuted(pairs, keys.TEST_ACCURACY, "seeds")
    return _judged(
        [each if each.test else _image_by_image(each, images) for each in evidence],
        keys.TEST_ACCURACY,
    )


def cost_verdicts(groups: Sequence[Group]) -> tuple[Verdict, ...]:
    """Judge each cost of each pair of detailed groups that have it."""
    compared = [group for group in groups if group.detailed]
    return tuple(verdict for cost in COSTS for verdict in _cost_verdicts(compared, cost))


def _cost_verdicts(compared: Sequence[Group], cost: Cost) -> list[Verdict]:
    pairs = list(combinations([group for group in compared if cost.key in group.metrics], 2))
    plain = [_judged_without_test(a, b, cost) for a, b in pairs]
    noisy = [pair for pair, known in zip(pairs, plain, strict=True) if known is None]
    ratios = [_by_ratio(*pair, cost) for pair in noisy]
    others = [(*pair, None) for pair, ratio in zip(noisy, ratios, strict=True) if ratio is None]
    permuted = iter(_permuted(others, cost.key, "runs"))
    judged = iter(_judged([ratio or next(permuted) for ratio in ratios], cost.key))
    return [known or next(judged) for known in plain]


def _by_ratio(a: Group, b: Group, cost: Cost) -> _Evidence | None:
    """Test the ratio of two groups in a measured positive cost; None where that says nothing.

    Its noise is a share of it, and a t-test on the logarithms can decide with three runs each.
    """
    first, second = a.metrics[cost.key], b.metrics[cost.key]
    if cost.key not in MEASURED or min(*first.values, *second.values) <= 0:
        return None
    test = "" if first.n == second.n == 1 else "t-test on logarithms"
    if test and first.is_constant and second.is_constant:
        return None  # no noise to hold the difference against
    ratio = ratio_of_means(first.values, second.values)
    return _Evidence(a, b, test, ratio.p_value, 0.0, ratio=ratio)


def _judged_without_test(a: Group, b: Group, cost: Cost) -> Verdict | None:
    """Return the verdict on a cost that is incomparable or does not vary; None where it varies."""
    first, second = a.metrics[cost.key], b.metrics[cost.key]
    if reason := incomparable(cost, [*a.runs, *b.runs]):
        words = sentences.incomparable(cost.key, a, b, reason)
        return replace(_undecided(a, b, cost.key, words), probability_of_improvement=None)
    if not (cost.counted and first.is_constant and second.is_constant):
        return None
    verdict = _undecided(a, b, cost.key, sentences.counted_exactly(cost.key, a, b))
    difference = verdict.difference
    return replace(
        verdict,
        ci_low=difference,
        ci_high=difference,
        interval="counted, the same in every run",
        test="exact count",
        verdict=_better(difference, cost.key) if difference else "not_distinguishable",
    )


def _permuted(
    pairs: Sequence[tuple[Group, Group, DifferenceInterval | None]], metric: str, what: str
) -> list[_Evidence]:
    """Test each pair by permutation; one without an interval is given Welch's over `what`."""
    values = [(a.metrics[metric].values, b.metrics[metric].values) for a, b, _ in pairs]
    evidence = []
    for (a, b, interval), both, result in zip(
        pairs, values, permutation_tests(values), strict=True
    ):
        sizes = len(both[0]), len(both[1])
        test = "exact permutation test" if result.exact else "permutation test (random splits)"
        evidence.append(
            _Evidence(
                a,
                b,
                "" if sizes == (1, 1) else test,
                result.p_value,
                smallest_p(*sizes),
                interval or welch_interval(*both, what),
            )
        )
    return evidence


def _image_by_image(evidence: _Evidence, images: TestImages) -> _Evidence:
    """Compare two single models by the images that only one of them classified correctly."""
    right_a, right_b = images.of(evidence.a), images.of(evidence.b)
    if not (len(right_a) and len(right_b)):
        return evidence
    only_a = int(np.count_nonzero(right_a[0] & ~right_b[0]))
    only_b = int(np.count_nonzero(right_b[0] & ~right_a[0]))
    p_value = mcnemar(only_a, only_b)
    method = "over test images alone, for these two trained models (Bonett and Price)"
    interval = DifferenceInterval(paired_interval(only_a, only_b, images.count), method, p_value)
    counts = (only_a, only_b)
    return replace(
        evidence,
        test="exact McNemar test",
        p_value=p_value,
        smallest_p=0.0,
        interval=interval,
        counts=counts,
    )


def _judged(evidence: Sequence[_Evidence], metric: str) -> tuple[Verdict, ...]:
    """Adjust the p-values for the number of pairs and say what they mean."""
    tested = [each for each in evidence if each.test]
    # The permutation test takes the test images as given, but they are a sample too: models that
    # are equally good on all images differ on these. So the interval, which counts both, has to
    # agree.
    of_intervals = [each.interval.p_value if each.interval else each.p_value for each in tested]
    adjusted = zip(
        holm([each.p_value for each in tested]),
        holm([each.smallest_p for each in tested]),
        holm(of_intervals),
        strict=True,
    )
    verdicts = []
    for each in evidence:
        if each.test:
            verdicts.append(_verdict(each, metric, len(tested), *next(adjusted)))
        else:
            needed = _ENOUGH_RUNS if each.ratio else seeds_needed(len(evidence))
            words = sentences.untested(metric, each.a, each.b, needed)
            verdicts.append(replace(_undecided(each.a, each.b, metric, words), seeds_needed=needed))
    return tuple(verdicts)


def _verdict(
    evidence: _Evidence,
    metric: str,
    pairs: int,
    p_value: float,
    reachable: float,
    interval_p_value: float,
) -> Verdict:
    a, b, interval = evidence.a, evidence.b, evidence.interval
    verdict = _undecided(a, b, metric, words="")
    if interval is not None:
        verdict = replace(
            verdict,
            ci_low=interval.interval.low,
            ci_high=interval.interval.high,
            interval=interval.method,
        )
    difference = verdict.difference
    if evidence.ratio is not None:
        verdict = _with_ratio(verdict, evidence.ratio, b.metrics[metric].mean)
        difference = evidence.ratio.value - 1
    is_shown = max(p_value, interval_p_value) < ALPHA and difference != 0
    too_few = reachable >= ALPHA or evidence.counts is not None
    verdict = replace(
        verdict,
        p_value=p_value,
        p_unadjusted=evidence.p_value,
        test=evidence.test,
        verdict=_better(difference, metric) if is_shown else "not_distinguishable",
        seeds_needed=seeds_needed(pairs) if too_few else None,
        counts=evidence.counts,
    )
    words = sentences.tested(
        verdict,
        a.metrics[metric],
        b.metrics[metric],
        pairs,
        interval_p_value,
        counts_images=interval is not None and interval.counts_images,
    )
    return replace(verdict, words=words)


def _with_ratio(verdict: Verdict, ratio: Ratio, mean_of_b: float) -> Verdict:
    if ratio.interval is None:
        return replace(verdict, ratio=ratio.value)
    low, high = ratio.interval.low, ratio.interval.high
    return replace(
        verdict,
        ratio=ratio.value,
        ratio_low=low,
        ratio_high=high,
        ci_low=(low - 1) * mean_of_b,
        ci_high=(high - 1) * mean_of_b,
        interval=ratio.method,
    )


def _undecided(a: Group, b: Group, metric: str, words: str) -> Verdict:
    first, second = a.metrics[metric], b.metrics[metric]
    differences = np.subtract.outer(first.values, second.values)
    better = differences < 0 if metric in LOWER_IS_BETTER else differences > 0
    return Verdict(
        a=a.name,
        b=b.name,
        metric=metric,
        difference=first.mean - second.mean,
        verdict="not_distinguishable",
        probability_of_improvement=float(np.mean(better + 0.5 * (differences == 0))),
        words=words,
    )


def _better(difference: float, metric: str) -> VerdictWord:
    return "a_better" if (difference < 0) == (metric in LOWER_IS_BETTER) else "b_better"
