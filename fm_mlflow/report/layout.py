"""Tables of text, before any form: terminal, Markdown and HTML draw the same ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from fm_mlflow.analysis.comparison import Comparison, Group, Statistic
from fm_mlflow.analysis.prose.words import NOT_MEASURED, listed, number, spread

MOST_GROUPS = 15
"""A table of more groups than this shows the detailed ones alone."""

MOST_NAMES = 8
"""Names that a sentence or a cell can hold."""

_LONGEST_LABEL = 14


@dataclass(frozen=True)
class Cell:
    """One figure or text of a table.

    Attributes:
        text: What stands there.
        more: What belongs to it and may stand below it, smaller: a spread.
        group: Position among the detailed groups of the one that it names, to mark it.
        key: The letter that stands for that group elsewhere, where its name is long.
    """

    text: str
    more: str = ""
    group: int | None = None
    key: str = ""

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


def columns(texts: int, *titles: str) -> tuple[Column, ...]:
    """Return the heads of columns: so many of text, then of figures."""
    return tuple(Column(title, position >= texts) for position, title in enumerate(titles))


class Groups:
    """Which groups a report shows where, and how a table names and measures them.

    Attributes:
        all: Every group, in the comparison's order.
        detailed: Those that are looked at closely; the plots mark them.
        shown: Those that tables show.
        labels: What the plots call the detailed ones.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.all = comparison.groups
        self.detailed = tuple(group for group in comparison.groups if group.detailed)
        self.shown = self.all if len(self.all) <= MOST_GROUPS else self.detailed
        self._positions = {group.name: i for i, group in enumerate(self.detailed)}
        names = [group.name for group in self.shown]
        # Of other alphabets, the plots' font may not have the letters.
        if all(len(n) <= _LONGEST_LABEL and n.isascii() and n.isprintable() for n in names):
            names = []
        self._keys = {name: _letters(position) for position, name in enumerate(names)}
        self.labels = tuple(self.label(group.name) for group in self.detailed)

    def label(self, name: str) -> str:
        """Return what stands for a group where there is little room: its name, or a letter."""
        return self._keys.get(name, name)

    def split(self, names: Collection[str]) -> tuple[list[str], list[str]]:
        """Tell names of detailed groups from names of others."""
        named = [name for name in names if name in self._positions]
        return named, [name for name in names if name not in self._positions]

    def cell(self, name: str, more: str = "") -> Cell:
        """Return the cell that names a group, with its marker in the plots."""
        return Cell(name, more, self._positions.get(name), self._keys.get(name, ""))


def _letters(position: int) -> str:
    more, last = divmod(position, 26)
    return (_letters(more - 1) if more else "") + chr(ord("A") + last)


def measured(metric: str, statistic: Statistic | None, runs: int) -> Cell:
    """Return mean and spread; the number of runs too, where it is not the `runs` expected."""
    if statistic is None:
        return Cell(NOT_MEASURED)
    fewer = f"(n = {statistic.n})" if statistic.n != runs else ""
    more = f"{spread(metric, statistic)} {fewer}".strip()
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
