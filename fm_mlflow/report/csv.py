"""A comparison as one CSV table for spreadsheets and data frames: a row for each group."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from fm_mlflow.analysis.comparison import Comparison, Group
from fm_mlflow.report.contents import NOTEBOOK_COLUMNS
from fm_mlflow.report.text import printable

_STATISTICS = ("n", "mean", "sd", "ci_low", "ci_high")


def to_csv(comparison: Comparison) -> str:
    """Return every group, the notebook's columns first, figures with all their digits.

    The notebook's columns hold means. After them: number of runs, whether the group is ranked, the
    parameters (`params.epochs`, …), then each metric's n, mean, sd, ci_low and ci_high. What was
    not measured is empty.
    """
    groups = comparison.groups
    parameters = sorted({name for group in groups for name in group.config})
    metrics = sorted({name for group in groups for name in group.metrics})
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(
        [
            "Model",
            *NOTEBOOK_COLUMNS,
            "Runs",
            "Ranked",
            *(_text(f"params.{name}") for name in parameters),
            *(_text(f"{metric} {what}") for metric in metrics for what in _STATISTICS),
        ]
    )
    for group in groups:
        writer.writerow(_row(group, parameters, metrics))
    return written.getvalue()


def _row(group: Group, parameters: Iterable[str], metrics: Iterable[str]) -> Iterable[object]:
    yield _text(group.name)
    for key in NOTEBOOK_COLUMNS.values():
        measured = group.metrics.get(key)
        yield "" if measured is None else _number(measured.mean)
    yield len(group.runs)
    yield "yes" if group.ranked else "no"
    for name in parameters:
        yield _text(group.config.get(name, ""))
    for metric in metrics:
        statistic = group.metrics.get(metric)
        for what in _STATISTICS:
            value = None if statistic is None else getattr(statistic, what)
            yield "" if value is None else _number(value)


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _text(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    text = printable(text)
    if not text.startswith(("=", "+", "-", "@")):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
