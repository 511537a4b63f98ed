"""A sweep for programs: its trials as CSV, all of it as JSON."""

from __future__ import annotations

import csv
import io
import json

from fm_mlflow.escaping import csv_field
from fm_mlflow.results.sweep import SweepResult


def to_csv(result: SweepResult) -> str:
    """Return one row a trial: settings, epochs, metric, costs, what became of it."""
    names = list(dict.fromkeys(name for each in result.trials for name in each.settings))
    costs = sorted({name for each in result.trials for name in each.costs})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = ["trial", "run", "status", "epochs", result.config.metric, "training FLOPs"]
    writer.writerow(map(csv_field, [*heads, "on front", "note", *names, *costs]))
    for each in result.trials:
        fixed = [each.number, each.run_id, each.status, each.epochs, each.value]
        row = [*fixed, each.training_flops, "yes" if each.on_front else "no", each.note]
        row += [*(each.settings.get(name) for name in names), *(map(each.costs.get, costs))]
        writer.writerow("" if value is None else csv_field(str(value)) for value in row)
    return text.getvalue()


def to_json(result: SweepResult) -> str:
    """Return all of a sweep's result but where its report lies; the same bytes for the same."""
    values = result.to_dict()
    del values["files"]
    comparison = values.pop("comparison")
    values["comparison_run_id"] = comparison["run_id"] if comparison else None
    return json.dumps(values, indent=2, allow_nan=False) + "\n"
