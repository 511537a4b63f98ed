"""Every verdict of a comparison: in a sentence, and its figures in a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Comparison, Verdict
from fm_mlflow.analysis.costs import cost_title
from fm_mlflow.analysis.prose.words import (
    capitalised,
    difference,
    difference_interval,
    p_value,
    percent,
)
from fm_mlflow.report.layout import Cell, Column, Groups, Table

_NONE = "none"


@dataclass(frozen=True)
class Evidence:
    """Verdicts that belong together: one sentence each, and the table of their figures."""

    sentences: tuple[str, ...]
    table: Table


def evidence(comparison: Comparison, groups: Groups) -> tuple[Evidence, ...]:
    """Return the verdicts on test accuracy, then those on costs."""
    accuracy = [v for v in comparison.verdicts if v.metric == keys.TEST_ACCURACY]
    costs = [v for v in comparison.verdicts if v.metric != keys.TEST_ACCURACY]
    return tuple(
        Evidence(tuple(v.words for v in verdicts), _table(heading, verdicts, groups))
        for heading, verdicts in (("Test accuracy", accuracy), ("Costs", costs))
        if verdicts
    )


def _table(heading: str, verdicts: Sequence[Verdict], groups: Groups) -> Table:
    # A column only where it says something; what is the same in every row stands below the table.
    tests = list(dict.fromkeys(v.test or "no test" for v in verdicts))
    columns: list[tuple[Column, Callable[[Verdict], str]]] = []
    if any(v.metric != keys.TEST_ACCURACY for v in verdicts):
        columns.append((Column("Cost", numeric=False), lambda v: cost_title(v.metric)))
    columns += [
        (Column("A", numeric=False), lambda v: groups.label(v.a)),
        (Column("B", numeric=False), lambda v: groups.label(v.b)),
        (Column("A minus B"), lambda v: difference(v.metric, v.difference)),
        (Column("95% interval"), _interval),
    ]
    if len(tests) > 1:
        columns.append((Column("Test", numeric=False), lambda v: v.test or "no test"))
    columns.append((Column("p"), lambda v: _p(v.p_value)))
    if any(v.p_value != v.p_unadjusted for v in verdicts):
        columns.append((Column("p before Holm"), lambda v: _p(v.p_unadjusted)))
    if any(v.counts for v in verdicts):
        columns += [
            (Column("Only A right"), lambda v: f"{v.counts[0]:,}" if v.counts else ""),
            (Column("Only B right"), lambda v: f"{v.counts[1]:,}" if v.counts else ""),
        ]
    columns += [
        (Column("A better in"), _probability),
        (Column("Better", numeric=False), lambda v: _better(v, groups)),
    ]
    rows = tuple(tuple(Cell(text(v)) for _, text in columns) for v in verdicts)
    return Table(heading, tuple(column for column, _ in columns), rows, _notes(verdicts, tests))


def _notes(verdicts: Sequence[Verdict], tests: Sequence[str]) -> tuple[str, ...]:
    intervals = dict.fromkeys(v.interval for v in verdicts if v.interval)
    return (
        *(f"{capitalised(test)} throughout." for test in tests if len(tests) == 1),
        *(f"Interval: {words}." for words in intervals),
        '"A better in" is the probability of improvement: the share of pairs of a run of A and '
        "one of B in which A has the better value, ties half.",
    )


def _interval(verdict: Verdict) -> str:
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
    return "not distinguishable" if better is None else groups.label(better)
