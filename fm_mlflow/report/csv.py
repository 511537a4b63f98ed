"""A comparison as one CSV table for spreadsheets and data frames: a row for each group."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from fm_mlflow.analysis.comparison import Comparison, Group
from fm_mlflow.escaping import csv_field
from fm_mlflow.report.contents import notebook_columns

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
    heads = notebook_columns(comparison.objective)
    columns = {
        "Model": [csv_field(group.name) for group in groups],
        **{csv_field(title): _column(groups, key, "mean") for title, key in heads.items()},
        "Runs": [str(len(group.runs)) for group in groups],
        "Ranked": ["yes" if group.ranked else "no" for group in groups],
        **{
            csv_field(f"params.{name}"): [csv_field(group.config.get(name, "")) for group in groups]
            for name in parameters
        },
        **{
            csv_field(f"{metric} {what}"): _column(groups, metric, what)
            for metric in metrics
            for what in _STATISTICS
        },
    }
    written = io.StringIO()
    # Not by pandas, which takes longer to import than the whole report to write.
    csv.writer(written, lineterminator="\n").writerows(
        [columns, *zip(*columns.values(), strict=True)]
    )
    return written.getvalue()


def _column(groups: Sequence[Group], metric: str, what: str) -> list[str]:
    values = [getattr(group.metrics.get(metric), what, None) for group in groups]
    return ["" if value is None or math.isnan(value) else _number(value) for value in values]


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
