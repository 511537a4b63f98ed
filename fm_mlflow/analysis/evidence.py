"""What the runs of each pair of groups give to judge them by: tests and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Group
from fm_mlflow.analysis.images import TestImages, match_images
from fm_mlflow.analysis.records import RunDetails
from fm_mlflow.analysis.statistics.resampling import (
    DifferenceInterval,
    SeedsAndImages,
    paired_interval,
    welch_interval,
)
from fm_mlflow.analysis.statistics.significance import mcnemar, permutation_tests, smallest_p

MCNEMAR = "exact McNemar test"
EXACT_PERMUTATION = "exact permutation test"
RANDOM_PERMUTATION = "permutation test (random splits)"


@dataclass(frozen=True)
class Evidence:
    """A pair in one metric, before the p-values of all pairs are adjusted.

    Attributes:
        a: The first group.
        b: The second.
        test: Name of the test; empty where none is possible.
        p_value: Of the test; 1 without.
        smallest_p: What it could give at best with so many runs.
        interval: Of the difference.
        counts: McNemar: images that only a has right, that only b has right.
    """

    a: Group
    b: Group
    test: str
    p_value: float
    smallest_p: float
    interval: DifferenceInterval | None
    counts: tuple[int, int] | None = None

    @property
    def interval_p_value(self) -> float:
        """Of the t-test that belongs to the interval; `p_value` without one."""
        return self.p_value if self.interval is None else self.interval.p_value


def accuracy_evidence(groups: Sequence[Group], details: Mapping[str, RunDetails]) -> list[Evidence]:
    """Hold the test accuracies of each pair against each other, image by image where possible."""
    images = match_images(groups, details)
    resampled = SeedsAndImages(groups, images)
    several = []
    single: dict[tuple[str, str], Evidence] = {}
    for a, b in combinations(groups, 2):
        first, second = a.metrics[keys.TEST_ACCURACY], b.metrics[keys.TEST_ACCURACY]
        if first.n == second.n == 1:
            single[a.name, b.name] = _of_single_models(a, b, images)
        else:
            interval = resampled.interval(a, b)
            if interval is None:
                interval = welch_interval(first.values, second.values, "seeds")
            several.append((a, b, interval))
    found = single | {(e.a.name, e.b.name): e for e in _permuted(several, keys.TEST_ACCURACY)}
    return [found[a.name, b.name] for a, b in combinations(groups, 2)]


def cost_evidence(pairs: Sequence[tuple[Group, Group]], metric: str) -> list[Evidence]:
    """Hold a cost that varies from run to run against each other, in each of some pairs."""
    return _permuted(
        [
            (a, b, welch_interval(a.metrics[metric].values, b.metrics[metric].values, "runs"))
            for a, b in pairs
        ],
        metric,
    )


def _permuted(
    pairs: Sequence[tuple[Group, Group, DifferenceInterval | None]], metric: str
) -> list[Evidence]:
    results = permutation_tests(
        [(a.metrics[metric].values, b.metrics[metric].values) for a, b, _ in pairs]
    )
    evidence = []
    for (a, b, interval), result in zip(pairs, results, strict=True):
        sizes = a.metrics[metric].n, b.metrics[metric].n
        test = EXACT_PERMUTATION if result.exact else RANDOM_PERMUTATION
        test = "" if sizes == (1, 1) else test
        evidence.append(Evidence(a, b, test, result.p_value, smallest_p(*sizes), interval))
    return evidence


def _of_single_models(a: Group, b: Group, images: TestImages) -> Evidence:
    right_a, right_b = images.of(a), images.of(b)
    if not (len(right_a) and len(right_b)):
        return Evidence(a, b, "", 1.0, 1.0, None)
    only_a = int(np.count_nonzero(right_a[0] & ~right_b[0]))
    only_b = int(np.count_nonzero(right_b[0] & ~right_a[0]))
    p_value = mcnemar(only_a, only_b)
    method = "over test images alone, for these two trained models (Bonett and Price)"
    interval = DifferenceInterval(paired_interval(only_a, only_b, images.count), method, p_value)
    return Evidence(a, b, MCNEMAR, p_value, 0.0, interval, (only_a, only_b))
