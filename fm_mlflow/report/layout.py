"""Tables of text, before any form: terminal, Markdown and HTML draw the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from fm_mlflow.analysis.comparison import Comparison, Group, Statistic
from fm_mlflow.report import figures
from fm_mlflow.report.figures import NOT_MEASURED
from fm_mlflow.words import listed, number

MOST_GROUPS = 15
"""A table of more groups than this shows the detailed ones alone."""

MOST_NAMES = 8
"""Names that a sentence or a cell can hold."""


@dataclass(frozen=True)
class Cell:
    """One figure or text of a table.

    Attributes:
        text: What stands there.
        more: What belongs to it and may stand below it, smaller: a spread.
        group: Position among the detailed groups of the one that it names, to mark it.
    """

    text: str
    more: str = ""
    group: int | None = None

    @property
    def is_missing(self) -> bool:
        """Whether it says that there is nothing to say."""
        return self.text == NOT_MEASURED


@dataclass(frozen=True)
class Column:
    """The head of a column; `numeric` ones are aligned right."""

    title: str
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """A table: its first column names the rows.

    Attributes:
        title: Its caption.
        columns: One head a column.
        rows: One cell a column each.
        notes: Sentences below it.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    @property
    def blocks(self) -> list[list[tuple[Cell, ...]]]:
        """Rows that follow one another under the same name."""
        return [list(rows) for _, rows in groupby(self.rows, key=lambda row: row[0])]


def text_columns(*titles: str) -> tuple[Column, ...]:
    """Return heads of columns of text."""
    return tuple(Column(title, numeric=False) for title in titles)


def numeric_columns(*titles: str) -> tuple[Column, ...]:
    """Return heads of columns of figures."""
    return tuple(Column(title) for title in titles)


class Groups:
    """Which groups a report shows where, and how a table names and measures them.

    Args:
        comparison: What is reported.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.all = comparison.groups
        self.detailed = tuple(group for group in comparison.groups if group.detailed)
        self.shown = self.all if len(self.all) <= MOST_GROUPS else self.detailed
        self._positions = {group.name: i for i, group in enumerate(self.detailed)}

    def cell(self, name: str, more: str = "") -> Cell:
        """Return the cell that names a group, marked as it is in the plots."""
        return Cell(name, more, self._positions.get(name))


def measured(metric: str, statistic: Statistic | None, runs: int) -> Cell:
    """Return mean and spread; the number of runs too, where it is not the `runs` expected."""
    if statistic is None:
        return Cell(NOT_MEASURED)
    fewer = f"(n = {statistic.n})" if statistic.n != runs else ""
    more = f"{figures.spread(metric, statistic)} {fewer}".strip()
    return Cell(number(metric, statistic.mean), more)


def why_missing(groups: Iterable[Group], titles: Mapping[str, str]) -> Iterable[str]:
    """Say once for each cost and reason in which groups it was not measured."""
    names: dict[tuple[str, str], list[str]] = {}
    for group in groups:
        for metric, title in titles.items():
            if metric not in group.metrics and metric in group.missing:
                names.setdefault((title, group.missing[metric]), []).append(group.name)
    for (title, reason), which in names.items():
        yield f"{title} of {listed(which)} was not measured: {reason.rstrip('.')}."
