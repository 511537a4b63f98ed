"""What a person sees at the end of a command."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fm_mlflow.naming import dataset_title
from fm_mlflow.report.figures import measured_and_estimated, training_figures
from fm_mlflow.results.train import TrainResult
from fm_mlflow.terminal.lines import (
    browse_commands,
    pairs,
    print_commands,
    print_line,
    shell_uri,
)


def print_training_result(console: Console, result: TrainResult) -> None:
    """Show the figures of a run, where it is, and what to do with it next."""
    console.print()
    print_line(console, f"{result.run_name} on {dataset_title(result.config.dataset)}", "bold")
    console.print(pairs(training_figures(result.metrics)), highlight=False)
    console.print(_measured_beside_estimated(result.metrics), highlight=False)
    where = [("run", result.run_id), ("store", result.tracking_uri), ("model", result.model_uri)]
    console.print(pairs(where), highlight=False)
    if result.pending:
        print_line(console, result.pending)
    print_commands(console, next_commands(result))


def _measured_beside_estimated(metrics: Mapping[str, float]) -> Padding:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_row("", Text("measured", "dim"), Text("rule of thumb", "dim"))
    for label, measured, estimate in measured_and_estimated(metrics):
        table.add_row(label, Text(measured), Text(estimate))
    return Padding(table, (0, 0, 1, 2), expand=False)


def next_commands(result: TrainResult) -> list[tuple[str, str]]:
    """Return what to do next with a run: a label and the exact command, store included."""
    if result.pending:
        return [("Deliver it to its store, when that answers", "fm-mlflow sync")]
    store = shell_uri(result.tracking_uri)
    return [
        *browse_commands(result.tracking_uri, result.experiment_id, result.run_id),
        (
            "Compare it with the other runs",
            f"MLFLOW_TRACKING_URI={store} fm-mlflow compare --experiment {result.experiment_id}",
        ),
        (
            "Register its model, verified",
            f"MLFLOW_TRACKING_URI={store} fm-mlflow register --run-id {result.run_id}",
        ),
    ]
