"""The test examples that models got wrong, as text: a table of each kind."""

from __future__ import annotations

from fm_mlflow.analysis.comparison import Comparison, WrongKind
from fm_mlflow.analysis.prose.words import capitalised, counted
from fm_mlflow.report.layout import Cell, Groups, Table, columns


def wrong_tables(comparison: Comparison, groups: Groups) -> tuple[Table, ...]:
    """Return a table of each kind: place in the test set, true class, what each model says."""
    return tuple(_table(comparison, groups, kind) for kind in comparison.wrong.kinds)


def _table(comparison: Comparison, groups: Groups, kind: WrongKind) -> Table:
    names, models = comparison.class_names, comparison.wrong.models
    noun = comparison.objective.example
    rows = tuple(
        (
            Cell(f"{each.position:,}"),
            Cell(names[each.label]),
            *(
                Cell(names[said], votes(runs, of_these))
                for (_, runs), (said, of_these) in zip(models, each.said, strict=True)
            ),
        )
        for each in kind.examples
    )
    heads = columns(
        2 + len(models),
        *(f"Test {noun}", "True class"),
        *(f"{groups.label(model)} says" for model, _ in models),
    )
    notes = (f"{capitalised(noun)}s are counted from 0.",) if rows else ()
    return Table(heading(comparison, kind), heads, rows, notes)


def votes(runs: int, of_these: int) -> str:
    """Say how many of a model's runs say so, where not all do."""
    return "" if runs == of_these else f"{of_these} of {runs} runs"


def heading(comparison: Comparison, kind: WrongKind) -> str:
    """Say in which way models are wrong, and about how many examples of the test set."""
    number = counted(kind.count, comparison.objective.example)
    first = "" if kind.count <= len(kind.examples) else f", the first {len(kind.examples)} here"
    return f"{kind.title}: {number} of {comparison.wrong.test_set:,}{first}"
