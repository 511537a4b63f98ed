"""Who is on the Pareto front of accuracy against each cost, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterable

from fm_mlflow.analysis.comparison import Comparison, Front
from fm_mlflow.analysis.costs import cost_title
from fm_mlflow.analysis.prose.words import counted, listed
from fm_mlflow.report.layout import Cell, Groups, Table, text_columns


def front_table(comparison: Comparison, groups: Groups) -> Table:
    """Return a row for each cost that anybody has."""
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
    columns = text_columns("Cost", "On the front", "Dominated", "Not placed")
    # Most often everybody is placed.
    width = len(columns) if any(row[-1].text for row in rows) else len(columns) - 1
    return Table(
        "Who is on the Pareto front of accuracy against a cost",
        columns[:width],
        tuple(row[:width] for row in rows),
    )


def _named(names: Iterable[str], groups: Groups) -> str:
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
