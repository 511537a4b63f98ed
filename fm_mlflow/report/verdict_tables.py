"""Verdicts of a comparison in sentences and tables, and who is on the Pareto fronts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from fm_mlflow.analysis.comparison import Comparison, Front, Verdict
from fm_mlflow.analysis.costs import cost_title
from fm_mlflow.analysis.prose.words import (
    capitalised,
    counted,
    difference,
    difference_interval,
    listed,
    p_value,
    percent,
    ratio_interval,
    times,
)
from fm_mlflow.analysis.statistics.significance import ALPHA
from fm_mlflow.report.layout import Cell, Column, Groups, Table, columns

_NONE = "none"


def evidence(comparison: Comparison, groups: Groups) -> list[tuple[list[str], Table]]:
    """Return the verdicts by the metric, then those on costs: their figures in a table.

    A sentence explains what no figure does: why there is none, or why a small p is not enough.
    """
    objective = comparison.objective
    by_metric = [v for v in comparison.verdicts if v.metric == objective.metric]
    costs = [v for v in comparison.verdicts if v.metric != objective.metric]
    return [
        (
            [v.words for v in verdicts if _needs_words(v)],
            _table(heading, verdicts, groups, on_costs=verdicts is costs),
        )
        for heading, verdicts in ((objective.heading, by_metric), ("Costs", costs))
        if verdicts
    ]


def _needs_words(verdict: Verdict) -> bool:
    undecided = verdict.verdict == "not_distinguishable" and verdict.difference != 0
    if verdict.looked_at_seeds is not None:
        return True
    return not verdict.test or (undecided and (verdict.p_value or 1) < ALPHA)


def _table(heading: str, verdicts: Sequence[Verdict], groups: Groups, *, on_costs: bool) -> Table:
    # A column only where it says something; what is the same in every row stands below the table.
    tests = list(dict.fromkeys(v.test or "no test" for v in verdicts))
    adjusted = any(v.p_value != v.p_unadjusted for v in verdicts)
    paired = any(v.counts for v in verdicts)
    possible: list[tuple[bool, Column, Callable[[Verdict], str]]] = [
        (on_costs, Column("Cost", numeric=False), lambda v: cost_title(v.metric)),
        (True, Column("A", numeric=False), lambda v: groups.label(v.a)),
        (True, Column("B", numeric=False), lambda v: groups.label(v.b)),
        (True, Column("A against B" if on_costs else "A minus B"), _difference),
        (True, Column("95% interval"), _interval),
        (len(tests) > 1, Column("Test", numeric=False), lambda v: v.test or "no test"),
        (True, Column("p"), lambda v: _p(v.p_value)),
        (adjusted, Column("p before Holm"), lambda v: _p(v.p_unadjusted)),
        (paired, Column("Only A right"), lambda v: f"{v.counts[0]:,}" if v.counts else ""),
        (paired, Column("Only B right"), lambda v: f"{v.counts[1]:,}" if v.counts else ""),
        (True, Column("A better in"), _probability),
        (True, Column("Better", numeric=False), lambda v: _better(v, groups)),
    ]
    shown = [(column, text) for is_shown, column, text in possible if is_shown]
    rows = tuple(tuple(Cell(text(v)) for _, text in shown) for v in verdicts)
    return Table(heading, tuple(column for column, _ in shown), rows, _notes(verdicts, tests))


def _notes(verdicts: Sequence[Verdict], tests: Sequence[str]) -> tuple[str, ...]:
    intervals = dict.fromkeys(v.interval for v in verdicts if v.interval)
    return (
        *(f"{capitalised(test)} throughout." for test in tests if len(tests) == 1),
        *(f"Interval: {words}." for words in intervals),
        *_too_few(verdicts),
        '"A better in" is the probability of improvement: the share of pairs of a run of A and '
        "one of B in which A has the better value, ties half.",
    )


def _too_few(verdicts: Sequence[Verdict]) -> Iterator[str]:
    needed = sorted({v.seeds_needed for v in verdicts if v.test and v.seeds_needed is not None})
    if needed:
        each = listed([str(seeds) for seeds in needed], len(needed))
        yield (
            f"Of some no result of so few runs could reach p < {ALPHA:g}; {each} of each model "
            "could."
        )


def _difference(verdict: Verdict) -> str:
    if verdict.ratio is not None:
        return times(verdict.ratio, 1)
    return difference(verdict.metric, verdict.difference)


def _interval(verdict: Verdict) -> str:
    if verdict.ratio_low is not None and verdict.ratio_high is not None:
        return ratio_interval(verdict.ratio_low, verdict.ratio_high)
    low, high = verdict.ci_low, verdict.ci_high
    if low is None or high is None:
        return _NONE
    # A count has no uncertainty.
    return "exact" if low == high else difference_interval(verdict.metric, low, high)


def _p(value: float | None) -> str:
    return _NONE if value is None else p_value(value)


def _probability(verdict: Verdict) -> str:
    share = verdict.probability_of_improvement
    return _NONE if share is None else percent(share, 0)


def _better(verdict: Verdict, groups: Groups) -> str:
    better = {"a_better": verdict.a, "b_better": verdict.b}.get(verdict.verdict)
    if better is not None:
        return groups.label(better)
    return "equivalent" if verdict.verdict == "equivalent" else "not distinguishable"


def front_table(comparison: Comparison, groups: Groups) -> Table:
    """Say who is on the Pareto front against each cost, and why the others are not."""
    rows = [
        (
            Cell(cost_title(front.metric)),
            Cell(_named(front.on_front, groups)),
            Cell(_dominated(front, groups)),
            Cell(f"nobody, because {front.reason}" if front.reason else _left_out(front, groups)),
        )
        for front in comparison.fronts
        if front.on_front or front.left_out or front.reason
    ]
    heads = columns(4, "Cost", "On the front", "Dominated", "Not placed")
    # Most often everybody is placed.
    width = 4 if any(row[-1].text for row in rows) else 3
    title = f"Who is on the Pareto front of {comparison.objective.short} against a cost"
    return Table(title, heads[:width], tuple(row[:width] for row in rows))


def _named(names: Collection[str], groups: Groups) -> str:
    """Name the groups that are looked at closely, and count the others."""
    named, others = groups.split(names)
    labels = [groups.label(name) for name in named]
    if others and named:
        return f"{', '.join(labels)} and {counted(len(others), 'other')}"
    return listed(labels, len(labels)) if labels else listed(others)


def _dominated(front: Front, groups: Groups) -> str:
    named, others = groups.split(front.dominated)
    parts = []
    for name in named:
        by, more = groups.split(front.dominated[name])
        labels = [*map(groups.label, by), *([counted(len(more), "other")] if more else [])]
        parts.append(f"{groups.label(name)} (by {listed(labels, len(labels))})")
    if others:
        parts.append(counted(len(others), "other" if named else "model"))
    return "; ".join(parts)


def _left_out(front: Front, groups: Groups) -> str:
    by_reason: dict[str, list[str]] = {}
    for name, reason in front.left_out.items():
        by_reason.setdefault(reason, []).append(name)
    return "; ".join(f"{_named(names, groups)}: {why}" for why, names in by_reason.items())
