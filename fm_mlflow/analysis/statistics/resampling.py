"""Confidence intervals of differences of a metric, over seeds and test examples at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fm_mlflow.analysis.comparison import Group
from fm_mlflow.analysis.examples import TestExamples
from fm_mlflow.analysis.objective import Objective, largest_difference
from fm_mlflow.analysis.statistics.differences import DifferenceInterval
from fm_mlflow.analysis.statistics.intervals import Interval, t_quantile

_RESAMPLES = 2000
_AT_ONCE, _MOST_AT_ONCE = 250, 2**22
_SEED = 1803_09578


@dataclass(frozen=True)
class Ratio:
    """The ratio of two geometric means.

    Attributes:
        value: Of the first to the second.
        interval: Its 95% interval; None where both are of a single value.
        method: How the interval was computed, in words; empty without one.
        p_value: Of the t-test that belongs to the interval; 1 without one.
    """

    value: float
    interval: Interval | None = None
    method: str = ""
    p_value: float = 1.0


class SeedsAndExamples:
    """Intervals of differences of a mean metric that count seeds and test examples as chance.

    Both are resampled, crossed (Owen's pigeonhole bootstrap, arXiv 0711.2182): the same examples
    for all groups, seeds for each group on its own. Images that as many runs of each group
    classified correctly are exchangeable: their numbers are drawn at once, from a multinomial
    distribution. Errors differ on every example, which is therefore drawn by itself; a root is
    taken of the mean of each resample.

    Two corrections make it valid for few seeds: resampled seed effects have the unbiased variance,
    and the standard deviation of the resampled differences is multiplied by Student's t with
    Welch's degrees of freedom, instead of taking percentiles.

    It errs on the wide side. That seeds differ on single examples is counted twice, among the seeds
    and among the examples; in simulations the intervals cover the truth in 95 to 99% of cases
    (`docs/statistics.md`).
    """

    def __init__(
        self, groups: Sequence[Group], examples: TestExamples, objective: Objective
    ) -> None:
        """Resample once for all groups; those without predictions have no interval here."""
        generator = np.random.default_rng(_SEED)
        tables = {g.name: table for g in groups if len(table := examples.of(g))}
        are_correct = all(table.dtype == bool for table in tables.values())
        self._examples = (
            _resampled_images(tables, generator)
            if are_correct
            else _resampled_errors(tables, objective, generator)
        )
        self._seeds = {
            group.name: _resampled_seeds(group.metrics[objective.metric].values, generator)
            for group in groups
            if group.name in self._examples
        }
        self._count = examples.count
        self._are_correct = are_correct
        self._objective = objective

    def interval(self, a: Group, b: Group) -> DifferenceInterval | None:
        """Return the interval of mean of a - mean of b; None where both have a single run.

        Where predictions are missing it is Welch's, over seeds alone.
        """
        metric = self._objective.metric
        first, second = (each.metrics[metric] for each in (a, b))
        if a.name not in self._examples or b.name not in self._examples:
            return welch_interval(first.values, second.values, "seeds", metric)
        spreads = [each.sd for each in (first, second) if each.sd is not None]
        if not spreads:
            return None
        # A single run is taken to vary with its seed as the other group does.
        sd_a, sd_b = (spreads[0] if s.sd is None else s.sd for s in (first, second))
        examples = self._examples[a.name] - self._examples[b.name]
        error = float(np.std(examples + sd_a * self._seeds[a.name] - sd_b * self._seeds[b.name]))
        seeds = [(s.sd**2 / s.n, s.n - 1) for s in (first, second) if s.sd is not None]
        if len(seeds) == 1:
            ((_, freedom),) = seeds
            seeds = [(spreads[0] ** 2 * (1 / first.n + 1 / second.n), freedom)]
        of_examples = float(np.std(examples))
        if self._are_correct and of_examples < (least := math.sqrt(2) / (self._count + 2)):
            # That no image told two models apart does not mean that none could: as Bonett and
            # Price, one more on each side.
            error = math.sqrt(error**2 + least**2 - of_examples**2)
            of_examples = least
        degrees = _welch(error**2, [*seeds, (of_examples**2, self._count - 1)])
        method = f"over seeds and test {self._objective.example}s, both resampled"
        if len(spreads) == 1:
            method += "; the single run is taken to vary with its seed as the others do"
        interval = replace(
            _t_interval(first.mean - second.mean, error, degrees, method),
            counts_examples=True,
            examples_error=of_examples,
        ).limited(largest_difference(metric, first.values, second.values))
        return interval if any(spreads) else interval.without_spread(first.n, second.n)


def welch_interval(
    a: Sequence[float], b: Sequence[float], what: str, metric: str = ""
) -> DifferenceInterval | None:
    """Return Welch's interval of mean of a - mean of b; None where both have a single value.

    Args:
        a: Values of independent runs, at least one. With a single one, the others' variance
            stands for its own.
        b: Likewise.
        what: What varies, for the words: seeds, runs.
        metric: Its name, which may say what no difference exceeds.
    """
    n, m = len(a), len(b)
    difference = float(np.mean(a) - np.mean(b))
    if n > 1 and m > 1:
        parts = [(float(np.var(a, ddof=1)) / n, n - 1), (float(np.var(b, ddof=1)) / m, m - 1)]
        method = f"over {what} alone, Welch's t"
    elif n > 1 or m > 1:
        several = a if n > 1 else b
        parts = [(float(np.var(several, ddof=1)) * (1 / n + 1 / m), len(several) - 1)]
        method = f"over {what} alone, Student's t; the single run is taken to vary as the others do"
    else:
        return None
    variance = sum(part for part, _ in parts)
    interval = _t_interval(difference, math.sqrt(variance), _welch(variance, parts), method)
    interval = interval.limited(largest_difference(metric, a, b))
    return interval if np.ptp(a) or np.ptp(b) else interval.without_spread(n, m)


def ratio_of_means(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """Return the ratio of the geometric means of positive values, with Welch's interval on the log.

    Args:
        a: Values of independent runs, at least one. With a single one, the others' variance
            stands for its own.
        b: Likewise.
    """
    logs_a, logs_b = np.log(a), np.log(b)
    of_logs = welch_interval(logs_a.tolist(), logs_b.tolist(), "runs")
    ends = (of_logs.interval.low, of_logs.interval.high) if of_logs else ()
    with np.errstate(over="ignore"):  # of figures that nobody measured
        value, *interval = np.exp([logs_a.mean() - logs_b.mean(), *ends]).tolist()
    if of_logs is None:
        return Ratio(value)
    method = f"of the ratio of geometric means, {of_logs.method} on the logarithms"
    return Ratio(value, Interval(*interval), method, of_logs.p_value)


def paired_interval(only_a: int, only_b: int, count: int) -> Interval:
    """Return the 95% interval of the difference of two models' accuracies over test images.

    Bonett and Price's (2012): Wald's with one more image on each side, which is valid for few
    discordant images too.

    Args:
        only_a: Images that only a classified correctly.
        only_b: Images that only b classified correctly.
        count: All images.
    """
    first, second = (only_a + 1) / (count + 2), (only_b + 1) / (count + 2)
    error = math.sqrt((first + second - (first - second) ** 2) / (count + 2))
    half = t_quantile(math.inf) * error
    return Interval(max(-1.0, first - second - half), min(1.0, first - second + half))


def paired_errors(
    a: NDArray[np.float64], b: NDArray[np.float64], objective: Objective
) -> DifferenceInterval:
    """Return the interval of the difference of two models' metric over the same test examples.

    That of a paired t-test. Two roots differ by the mean difference of the squares over their sum:
    so their test is that of the squares.

    Args:
        a: What the metric is the mean of, or the root of that, on each example; shape (n,).
        b: Likewise.
        objective: The metric.
    """
    first, second = objective.of_means(np.array([a.mean(), b.mean()])).tolist()
    differences = (a - b) / ((first + second) or 1) if objective.is_root else a - b
    degrees = max(1, len(a) - 1)
    error = float(np.std(differences)) / math.sqrt(degrees)
    return _t_interval(first - second, error, degrees, "over test examples alone, paired t")


def of_one_run(values: NDArray[np.float64], objective: Objective) -> Interval:
    """Return the 95% interval of a model's metric over test examples: Student's t."""
    mean = float(values.mean())
    value = float(objective.of_means(np.array(mean)))
    degrees = max(1, len(values) - 1)
    error = objective.slope(mean) * float(np.std(values)) / math.sqrt(degrees)
    return _t_interval(value, error, degrees, "").interval


def _t_interval(difference: float, error: float, degrees: float, method: str) -> DifferenceInterval:
    half = t_quantile(degrees) * error
    if error == 0:
        p_value = 1.0 if difference == 0 else 0.0
    else:
        p_value = 2 * float(special.stdtr(degrees, -abs(difference) / error))
    interval = Interval(difference - half, difference + half)
    return DifferenceInterval(
        interval, method, p_value, difference=difference, error=error, degrees=degrees
    )


def _welch(variance: float, parts: Sequence[tuple[float, int]]) -> float:
    """Return the degrees of freedom of a sum of variances (Welch, Satterthwaite).

    Args:
        variance: The sum.
        parts: Each part of it, with its own degrees of freedom.
    """
    smallest = min(freedom for _, freedom in parts)
    uncertainty = sum(part**2 / freedom for part, freedom in parts)
    if uncertainty == 0:
        return math.inf
    return max(float(smallest), float(variance**2 / uncertainty))


def _resampled_images(
    tables: Mapping[str, NDArray[np.bool_]], generator: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    """Return the change of each group's mean accuracy by resample of images, shape (resamples,)."""
    if not tables:
        return {}
    right = np.stack([table.sum(axis=0) for table in tables.values()], axis=1)
    runs = np.array([len(table) for table in tables.values()])
    # Numbers in the order of the rows, because it takes 10 times as long to sort the rows.
    codes = np.zeros(len(right), dtype=np.int64)
    for column, most in zip(right.T, runs, strict=True):
        codes = np.unique(codes * (most + 1) + column, return_inverse=True)[1]
    _, firsts, numbers = np.unique(codes, return_index=True, return_counts=True)
    shares = right[firsts] / runs
    count = len(right)
    at_once = min(_AT_ONCE, max(1, _MOST_AT_ONCE // len(numbers)))
    means = [
        generator.multinomial(count, numbers / count, size=min(at_once, _RESAMPLES - done))
        @ shares
        / count
        for done in range(0, _RESAMPLES, at_once)
    ]
    changes = np.concatenate(means) - numbers @ shares / count
    return {name: changes[:, index] for index, name in enumerate(tables)}


def _resampled_errors(
    tables: Mapping[str, NDArray[np.float64]], objective: Objective, generator: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    """Return the change of each group's mean metric by resample of examples: (resamples,)."""
    # In one piece: of a transposed operand OpenBLAS makes a product on threads that wait.
    errors = np.ascontiguousarray(np.concatenate(list(tables.values())).T)
    # A group's metric is the mean of its runs' metrics, each of which may be a root.
    ends = np.cumsum([len(table) for table in tables.values()])
    count = len(errors)
    at_once = min(_AT_ONCE, max(1, _MOST_AT_ONCE // count))
    metrics = []
    for done in range(0, _RESAMPLES, at_once):
        size = min(at_once, _RESAMPLES - done)
        picks = generator.integers(count, size=(size, count))
        times = np.stack([np.bincount(each, minlength=count) for each in picks])
        metrics.append(objective.of_means(times.astype(np.float64) @ errors / count))
    changes = np.concatenate(metrics) - objective.of_means(errors.mean(axis=0))
    return {
        name: part.mean(axis=1)
        for name, part in zip(tables, np.split(changes, ends[:-1], axis=1), strict=True)
    }


def _resampled_seeds(
    values: Sequence[float], generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return means of resampled seed effects of SD 1, shape (resamples,)."""
    array = np.array(values)
    if len(array) == 1 or np.ptp(array) == 0:
        return generator.standard_normal(_RESAMPLES) / math.sqrt(len(array))
    # A resample varies by (n - 1) / n of the sample's variance: dividing by the smaller standard
    # deviation compensates for it.
    effects = (array - array.mean()) / np.std(array)
    at_once = max(1, _MOST_AT_ONCE // len(array))
    means = [
        effects[generator.integers(len(array), size=(size, len(array)))].mean(axis=1)
        for done in range(0, _RESAMPLES, at_once)
        if (size := min(at_once, _RESAMPLES - done))
    ]
    return np.concatenate(means)
