"""A comparison as one CSV table for spreadsheets and data frames: a row for each group."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fm_mlflow.analysis.comparison import Comparison
from fm_mlflow.escaping import csv_field
from fm_mlflow.report.contents import notebook_columns
from fm_mlflow.results.frames import statistics


def to_csv(comparison: Comparison) -> str:
    """Return every group, the notebook's columns first, figures with all their digits.

    The notebook's columns hold means. After them: number of runs, whether the group is ranked, the
    parameters (`params.epochs`, …), then each metric's n, mean, sd, ci_low and ci_high. What was
    not measured is empty.
    """
    groups = comparison.groups
    parameters = sorted({name for group in groups for name in group.config})
    measured = statistics(groups)
    heads = notebook_columns(comparison.objective)
    columns = {
        "Model": [csv_field(group.name) for group in groups],
        **{csv_field(title): measured.get((key, "mean"), "") for title, key in heads.items()},
        "Runs": [len(group.runs) for group in groups],
        "Ranked": ["yes" if group.ranked else "no" for group in groups],
        **{
            csv_field(f"params.{name}"): [csv_field(group.config.get(name, "")) for group in groups]
            for name in parameters
        },
        **{csv_field(f"{metric} {what}"): column for (metric, what), column in measured.items()},
    }
    table = pd.DataFrame(columns, [group.name for group in groups])
    return table.to_csv(index=False, lineterminator="\n", float_format=_number)


def _number(value: Any) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
