"""The judgement of each pair of groups, in each metric, and the evidence for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from fm_mlflow.analysis.comparison import Group, Verdict, VerdictWord
from fm_mlflow.analysis.costs import COSTS, MEASURED, Cost, incomparable
from fm_mlflow.analysis.design_verdicts import designed_pairs, filled
from fm_mlflow.analysis.examples import TestExamples
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.prose import sentences
from fm_mlflow.analysis.statistics.differences import DifferenceInterval, probability_of_improvement
from fm_mlflow.analysis.statistics.resampling import (
    Ratio,
    SeedsAndExamples,
    paired_errors,
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
        single_models: It is about the one run of each, by test examples, and not about seeds.
    """

    a: Group
    b: Group
    test: str
    p_value: float
    smallest_p: float
    interval: DifferenceInterval | None = None
    ratio: Ratio | None = None
    counts: tuple[int, int] | None = None
    single_models: bool = False


@dataclass(frozen=True)
class _Judged:
    """What pairs are judged by.

    Attributes:
        metric: Logged name.
        smaller_is_better: Its direction.
        objective: Where it is what models are compared by; None for a cost.
        margin: Of equivalence, as it was set; not for a cost.
    """

    metric: str
    smaller_is_better: bool = True
    objective: Objective | None = None
    margin: float = 0.0


def objective_verdicts(
    groups: Sequence[Group], examples: TestExamples, objective: Objective, margin: float
) -> tuple[Verdict, ...]:
    """Judge the compared metric of each pair of detailed groups, the better first.

    Pairs of a benchmark with as many seeds as needed are judged by its design, and do not count
    among those that are tested here.

    Args:
        groups: As `group_runs` gives them.
        examples: How their runs did on the test examples; what is missing weakens the evidence.
        objective: The metric.
        margin: Groups are equivalent that differ by less: of an accuracy a share of the test
            images, of another metric a share of its value.
    """
    compared = [group for group in groups if group.detailed]
    by = _Judged(objective.metric, objective.smaller_is_better, objective, margin)
    designed = designed_pairs(compared, examples, objective)
    pairs = list(combinations(compared, 2))
    resampled = SeedsAndExamples(compared, examples, objective)
    others = [
        (a, b, resampled.interval(a, b))
        for a, b in pairs
        if frozenset((a.name, b.name)) not in designed
    ]
    evidence = [
        each if each.test else _by_example(each, examples, objective)
        for each in _permuted(others, objective.metric)
    ]
    judged = iter(_judged(evidence, by))
    return tuple(
        filled(_undecided(a, b, by, words=""), a, b, design, objective)
        if (design := designed.get(frozenset((a.name, b.name))))
        else next(judged)
        for a, b in pairs
    )


def cost_verdicts(groups: Sequence[Group]) -> tuple[Verdict, ...]:
    """Judge each cost of each pair of detailed groups that have it."""
    compared = [group for group in groups if group.detailed]
    return tuple(verdict for cost in COSTS for verdict in _cost_verdicts(compared, cost))


def _cost_verdicts(compared: Sequence[Group], cost: Cost) -> list[Verdict]:
    pairs = list(combinations([group for group in compared if cost.key in group.metrics], 2))
    if not pairs:
        return []
    plain = [_judged_without_test(a, b, cost) for a, b in pairs]
    noisy = [pair for pair, known in zip(pairs, plain, strict=True) if known is None]
    ratios = [_by_ratio(*pair, cost) for pair in noisy]
    others = [(*pair, None) for pair, ratio in zip(noisy, ratios, strict=True) if ratio is None]
    permuted = iter(_permuted(others, cost.key))
    judged = iter(_judged([ratio or next(permuted) for ratio in ratios], _Judged(cost.key)))
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
        return replace(_undecided(a, b, _Judged(cost.key), words), probability_of_improvement=None)
    if not (cost.counted and first.is_constant and second.is_constant):
        return None
    by = _Judged(cost.key)
    verdict = _undecided(a, b, by, sentences.counted_exactly(cost.key, a, b))
    difference = verdict.difference
    return replace(
        verdict,
        ci_low=difference,
        ci_high=difference,
        interval="counted, the same in every run",
        test="exact count",
        verdict=_better(difference, by) if difference else "not_distinguishable",
    )


def _permuted(
    pairs: Sequence[tuple[Group, Group, DifferenceInterval | None]], metric: str
) -> list[_Evidence]:
    """Test each pair by permutation; one without an interval is given Welch's over runs."""
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
                interval or welch_interval(*both, "runs"),
            )
        )
    return evidence


def _by_example(evidence: _Evidence, examples: TestExamples, objective: Objective) -> _Evidence:
    """Compare two single models by the test examples that both predicted."""
    of_a, of_b = examples.of(evidence.a), examples.of(evidence.b)
    if not (len(of_a) and len(of_b)):
        return evidence
    if of_a.dtype != bool:
        interval = paired_errors(of_a[0], of_b[0], objective)
        return replace(
            evidence,
            test="paired t-test over test examples",
            p_value=interval.p_value,
            smallest_p=0.0,
            interval=interval,
            single_models=True,
        )
    only_a = int(np.count_nonzero(of_a[0] & ~of_b[0]))
    only_b = int(np.count_nonzero(of_b[0] & ~of_a[0]))
    p_value = mcnemar(only_a, only_b)
    what = f"test {objective.example}s"
    method = f"over {what} alone, for these two trained models (Bonett and Price)"
    interval = DifferenceInterval(paired_interval(only_a, only_b, examples.count), method, p_value)
    return replace(
        evidence,
        test="exact McNemar test",
        p_value=p_value,
        smallest_p=0.0,
        interval=interval,
        counts=(only_a, only_b),
        single_models=True,
    )


def _judged(evidence: Sequence[_Evidence], by: _Judged) -> tuple[Verdict, ...]:
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
        holm([_equivalence(each, by)[1] for each in tested]),
        strict=True,
    )
    verdicts = []
    for each in evidence:
        if each.test:
            verdicts.append(_verdict(each, by, len(tested), *next(adjusted)))
        else:
            needed = _ENOUGH_RUNS if each.ratio else seeds_needed(len(evidence))
            words = sentences.untested(by.metric, each.a, each.b, needed, by.objective)
            verdicts.append(replace(_undecided(each.a, each.b, by, words), seeds_needed=needed))
    return tuple(verdicts)


def _equivalence(evidence: _Evidence, by: _Judged) -> tuple[float | None, float]:
    """Return the margin in the metric's unit, None where that is not asked, and the p-value."""
    if by.objective is None or evidence.interval is None or evidence.single_models:
        return None, 1.0
    means = (each.metrics[by.metric].mean for each in (evidence.a, evidence.b))
    margin = by.objective.margin(by.margin, *means)
    return margin, evidence.interval.p_not_within(margin)


def _verdict(
    evidence: _Evidence,
    by: _Judged,
    pairs: int,
    p_value: float,
    reachable: float,
    interval_p_value: float,
    p_equivalent: float,
) -> Verdict:
    a, b, interval, metric = evidence.a, evidence.b, evidence.interval, by.metric
    verdict = _undecided(a, b, by, words="")
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
    margin, _ = _equivalence(evidence, by)
    is_equal = not is_shown and margin is not None and p_equivalent < ALPHA
    too_few = not is_equal and (reachable >= ALPHA or evidence.single_models)
    not_shown: VerdictWord = "equivalent" if is_equal else "not_distinguishable"
    verdict = replace(
        verdict,
        p_value=p_value,
        p_unadjusted=evidence.p_value,
        p_equivalent=None if margin is None else p_equivalent,
        margin=margin,
        test=evidence.test,
        verdict=_better(difference, by) if is_shown else not_shown,
        seeds_needed=seeds_needed(pairs) if too_few else None,
        counts=evidence.counts,
    )
    words = sentences.tested(
        verdict,
        a.metrics[metric],
        b.metrics[metric],
        pairs,
        interval_p_value,
        by.objective,
        counts_examples=interval is not None and interval.counts_examples,
        single_models=evidence.single_models,
        margin=by.margin,
        narrower=interval.at(2 * ALPHA) if is_equal and interval is not None else None,
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


def _undecided(a: Group, b: Group, by: _Judged, words: str) -> Verdict:
    first, second = a.metrics[by.metric], b.metrics[by.metric]
    return Verdict(
        a=a.name,
        b=b.name,
        metric=by.metric,
        difference=first.mean - second.mean,
        verdict="not_distinguishable",
        probability_of_improvement=probability_of_improvement(
            first.values, second.values, smaller_is_better=by.smaller_is_better
        ),
        words=words,
    )


def _better(difference: float, by: _Judged) -> VerdictWord:
    return "a_better" if (difference < 0) == by.smaller_is_better else "b_better"
