"""Verdicts in one sentence each, which claims no more than the evidence shows."""

from __future__ import annotations

from dataclasses import replace

from fm_mlflow.analysis.comparison import Group, Statistic, Verdict
from fm_mlflow.analysis.costs import TITLES
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.prose.words import (
    capitalised,
    figure,
    nearly_equal,
    p_text,
    ratio_interval,
    times,
)
from fm_mlflow.analysis.statistics.intervals import Interval
from fm_mlflow.analysis.statistics.significance import ALPHA


def tested(
    verdict: Verdict,
    first: Statistic,
    second: Statistic,
    pairs: int,
    interval_p_value: float,
    objective: Objective | None,
    *,
    counts_examples: bool,
    single_models: bool,
    margin: float,
    narrower: Interval | None,
) -> str:
    """Say what a test of two groups shows.

    Args:
        verdict: Complete except for the words.
        first: The metric in `verdict.a`.
        second: The metric in `verdict.b`.
        pairs: In how many pairs the metric is tested.
        interval_p_value: Of the t-test that belongs to the interval, adjusted: where it disagrees
            with the test, the difference is not shown.
        objective: What models are compared by; None where the metric is a cost.
        counts_examples: Whether the interval counts the choice of test examples as chance.
        single_models: Whether the test is of one run each, by test examples.
        margin: Of equivalence, as it was set.
        narrower: The 90% interval of the difference, which belongs to two one-sided tests at 5%.
    """
    a, b, metric = verdict.a, verdict.b, verdict.metric
    if verdict.verdict == "b_better":
        a, b, first, second = b, a, second, first
    figures = f"{figure(metric, first.mean)} against {figure(metric, second.mean)}"
    spread = _difference(verdict)
    noun, example = ("seeds", objective.example) if objective else ("runs", "")
    lead_in = topic(metric, objective)
    sizes = f"{first.n} and {second.n} {noun}"
    family = f" after Holm's correction for {pairs} pairs" if pairs > 1 else ""
    p_value = 1.0 if verdict.p_value is None else verdict.p_value
    evidence = f"{verdict.test}, {p_text(p_value)}{family}"
    if single_models:
        figures += f" ({spread} over the test {example}s; {evidence}"
        return capitalised(f"{lead_in}{_single_models(verdict, a, b, figures, example)}")
    if verdict.verdict == "equivalent" and narrower is not None:
        spread = _difference(replace(verdict, ci_low=narrower.low, ci_high=narrower.high), 90)
        p_value = verdict.p_equivalent or 0.0
        return (
            f"{lead_in}{a} and {b} are equivalent{within(objective, margin)}: {figures} ({spread}; "
            f"two one-sided t-tests, {p_text(p_value)}{family}, {sizes})."
        )
    if verdict.is_shown:
        cost = capitalised(TITLES.get(metric, ""))
        lead = f"{cost} is lower in {a} than in {b}" if cost else f"{lead_in}{a} is better than {b}"
        return f"{lead}: {figures} ({spread}; {evidence}, {sizes})."
    lead = f"{lead_in}{a} and {b} are not distinguishable"
    if verdict.seeds_needed is not None:
        few = f"{first.n} {noun} each" if first.n == second.n else sizes
        corrected = f" with {pairs} pairs tested" if pairs > 1 else ""
        return (
            f"{lead} with {few}: no result of so few could reach p < {ALPHA:g}{corrected}; "
            f"{verdict.seeds_needed} {noun} each could ({figures}, {spread})."
        )
    if p_value < ALPHA and verdict.difference:
        allowed_for = (
            f"beyond what seeds and the choice of test {example}s explain together"
            if counts_examples
            else "where the spreads of both are allowed for"
        )
        return (
            f"{lead}: {figures} differ in the test ({evidence}, {sizes}), but not {allowed_for} "
            f"({spread}, t-test {p_text(interval_p_value)})."
        )
    return f"{lead}: {figures} ({spread}; {evidence}, {sizes})."


def untested(metric: str, a: Group, b: Group, seeds: int, objective: Objective | None) -> str:
    """Say that one run each, without predictions to compare, shows nothing.

    Args:
        metric: Logged name.
        a: A group with one value of it.
        b: Another.
        seeds: How many of each could show a difference.
        objective: What models are compared by; None where the metric is a cost.
    """
    noun, lacking = "runs", ""
    if objective is not None:
        example = objective.example
        noun, lacking = "seeds", f", without predictions to compare {example} by {example}"
    lead_in = topic(metric, objective)
    return (
        f"{lead_in}{a.name} and {b.name} are not distinguishable: {_against(metric, a, b)}, "
        f"one run each{lacking}; {seeds} {noun} each could show a difference."
    )


def counted_exactly(metric: str, a: Group, b: Group) -> str:
    """Compare two exact counts."""
    less, more = sorted((a, b), key=lambda group: group.metrics[metric].mean)
    low, high = less.metrics[metric].mean, more.metrics[metric].mean
    if low == high:
        text = f"{a.name} and {b.name} the same, {figure(metric, low)}"
    else:
        ratio = f", {times(high, low)} that" if low > 0 and not nearly_equal(high, low) else ""
        text = f"{less.name} {figure(metric, low)}; {more.name} {figure(metric, high)}{ratio}"
    return f"{capitalised(TITLES[metric])}: {text} (exact count)."


def incomparable(metric: str, a: Group, b: Group, reason: str) -> str:
    """Say why a cost of two groups is not compared."""
    return (
        f"{topic(metric)}{a.name} and {b.name} are not compared ({_against(metric, a, b)}): "
        f"{reason}."
    )


def _single_models(verdict: Verdict, a: str, b: str, figures: str, example: str) -> str:
    lead = (
        f"the one run of {a} and that of {b} are not distinguishable"
        if verdict.verdict == "not_distinguishable"
        else f"the one run of {a} is better than that of {b}"
    )
    if verdict.counts is not None:
        only_a, only_b = verdict.counts
        if verdict.verdict == "b_better":
            only_a, only_b = only_b, only_a
        figures += f"; {only_a:,} {example}s only {a} has right, {only_b:,} only {b}"
    return (
        f"{lead}: {figures}); of the architectures that says nothing, {verdict.seeds_needed} seeds "
        "each could."
    )


def _difference(verdict: Verdict, percent: int = 95) -> str:
    """Return the size of the difference and its interval, signed so that the size is positive."""
    metric = verdict.metric
    if (ratio := verdict.ratio) is not None:
        low, high = verdict.ratio_low, verdict.ratio_high
        if ratio < 1:
            ratio, low, high = 1 / ratio, high and 1 / high, low and 1 / low
        if low is None or high is None:
            return times(ratio, 1)
        return f"{times(ratio, 1)}, 95% interval {ratio_interval(low, high)}"
    text = f"difference {figure(metric, abs(verdict.difference))}"
    if verdict.ci_low is None or verdict.ci_high is None:
        return text
    low, high = verdict.ci_low, verdict.ci_high
    if verdict.difference < 0:
        low, high = -high, -low
    return f"{text}, {percent}% interval {figure(metric, low)} to {figure(metric, high)}"


def within(objective: Objective | None, margin: float) -> str:
    """Return within which margin two groups are equivalent."""
    if objective is None or objective.is_accuracy:
        return f" within {100 * margin:g} points"
    return f" within {100 * margin:g}% of {objective.title}"


def _against(metric: str, a: Group, b: Group) -> str:
    first, second = a.metrics[metric].mean, b.metrics[metric].mean
    return f"{figure(metric, first)} against {figure(metric, second)}"


def topic(metric: str, objective: Objective | None = None) -> str:
    """Return how a sentence on a metric begins; empty for accuracy, which is the default."""
    if objective is not None:
        return "" if objective.is_accuracy else f"In {objective.title}, "
    return f"In {TITLES[metric]}, " if metric in TITLES else ""
