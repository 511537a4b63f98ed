"""How models did on each class: accuracy, most frequent mistakes, heat maps."""

from __future__ import annotations

import math

import numpy as np

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import ByClass, Comparison
from fm_mlflow.analysis.prose.words import counted, number, percent
from fm_mlflow.report.layout import Cell, Groups, Table, columns

MOST_CLASSES = 25
"""Classes that a table of them can hold."""

_MOST_MISTAKES = 5


def accuracy_by_class(comparison: Comparison, groups: Groups) -> Table:
    """Say how often each class was classified correctly; of very many classes, the hardest."""
    models, names = comparison.by_class, comparison.class_names
    heads = columns(1, "Class", *(groups.label(each.model) for each in models))
    if not models:
        return Table("Accuracy by class", heads, ())
    noun = comparison.objective.example
    # The lowest accuracy of each class; one without images is nan, which sorts last.
    lowest = np.fmin.reduce([each.accuracy for each in models])
    shown = sorted(np.argsort(lowest, kind="stable")[:MOST_CLASSES])
    rows = tuple(
        (Cell(names[position]), *(_accuracy(each.accuracy[position], noun) for each in models))
        for position in shown
    )
    notes = [f"Share of a class's test {noun}s that were classified correctly, mean over the runs."]
    all_runs = {group.name: len(group.runs) for group in groups.detailed}
    notes += [
        f"Of {each.model}, {each.runs} of {counted(all_runs[each.model], 'run')} have predictions."
        for each in models
        if each.runs < all_runs.get(each.model, 0)
    ]
    if hidden := len(names) - len(shown):
        notes.append(f"The {len(shown)} hardest; {hidden:,} more classes in comparison.json.")
    return Table("Accuracy by class", heads, rows, tuple(notes))


def _accuracy(value: float, noun: str) -> Cell:
    return Cell(f"no {noun}s" if math.isnan(value) else number(keys.TEST_ACCURACY, value))


def worst_mistakes(comparison: Comparison, groups: Groups) -> Table:
    """Say what each group most often took for what."""
    names = comparison.class_names
    rows = tuple(
        (
            groups.cell(group.model),
            Cell(names[true]),
            Cell(names[predicted]),
            Cell(f"{count:,}"),
            Cell(percent(count / sum(group.confusion[true]))),
        )
        for group in comparison.by_class
        for count, true, predicted in _mistakes(group)[:_MOST_MISTAKES]
    )
    heads = columns(3, "Model", "True class", "Taken for", "How often", "Of the class")
    counts = f"one {comparison.objective.example} counts once for each run that got it wrong"
    notes = (f"Over all runs: {counts}.",)
    return Table("Most frequent mistakes", heads, rows, notes if rows else ())


def _mistakes(group: ByClass) -> list[tuple[int, int, int]]:
    mistakes = [
        (count, true, predicted)
        for true, row in enumerate(group.confusion)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    return sorted(mistakes, key=lambda mistake: (-mistake[0], *mistake[1:]))


def heat_map(group: ByClass) -> list[list[tuple[str, int]]]:
    """Return a group's confusion as texts and colours, one list a true class.

    A text is the percent of the true class, empty for none; a colour is its strength, 0 … 100.
    """
    return [
        [
            _heat_cell(count / max(sum(row), 1), true == predicted)
            for predicted, count in enumerate(row)
        ]
        for true, row in enumerate(group.confusion)
    ]


def _heat_cell(share: float, right: bool) -> tuple[str, int]:
    # Mistakes by the square root: those of 1% show beside those of 20%.
    heat = share if right else min(2 * math.sqrt(share), 1)
    return percent(share).removesuffix("%") if share else "", round(100 * heat)
