"""What a person sees at the end of a command."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fm_mlflow.redaction import HIDDEN
from fm_mlflow.report.describe import dataset_title
from fm_mlflow.report.figures import measured_and_estimated, training_figures
from fm_mlflow.results import TrainResult

# MLflow's UI opens on its view of language models unless told otherwise.
_TRAINING_VIEW = "workflowType=machine_learning"


def print_training_result(console: Console, result: TrainResult) -> None:
    """Show the figures of a run, where it is, and what to do with it next."""
    console.print()
    console.print(
        f"{result.run_name} on {dataset_title(result.config)}", style="bold", markup=False
    )
    console.print(pairs(training_figures(result.metrics)), highlight=False)
    console.print(_measured_beside_estimated(result.metrics), highlight=False)
    console.print(
        pairs(
            [
                ("run", result.run_id),
                ("store", result.tracking_uri),
                ("model", result.model_uri),
            ]
        ),
        highlight=False,
    )
    if result.pending:
        console.print(result.pending, markup=False, highlight=False)
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


def browse_commands(tracking_uri: str, experiment_id: str, run_id: str) -> list[tuple[str, str]]:
    """Return how to open a run in MLflow's UI: a label and the command or address."""
    return page_commands(tracking_uri, f"/#/experiments/{experiment_id}/runs/{run_id}")


def page_commands(tracking_uri: str, path: str) -> list[tuple[str, str]]:
    """Return how to open a page of MLflow's UI: a label and the command or address."""
    page = f"{path}?{_TRAINING_VIEW}"
    if tracking_uri.startswith(("http://", "https://")):
        server = urlsplit(tracking_uri)
        address = server._replace(netloc=server.netloc.rpartition("@")[2]).geturl()
        return [("Browse it", address.rstrip("/") + page)]
    return [
        ("Browse it", f"mlflow ui --backend-store-uri {shell_uri(tracking_uri)}"),
        ("and open", f"http://127.0.0.1:5000{page}"),
    ]


def print_commands(console: Console, commands: Iterable[tuple[str, str]]) -> None:
    """Show commands, each under its label, never wrapped: they are there to be copied."""
    for label, command in commands:
        console.print(f"{label}:", style="bold", markup=False)
        console.print(f"  {command}", markup=False, highlight=False, soft_wrap=True)


def shell_uri(uri: str) -> str:
    """Return a store for a shell; one with a password is left to the variable that holds it."""
    return '"$MLFLOW_TRACKING_URI"' if HIDDEN in uri else shlex.quote(uri)


def pairs(rows: Iterable[tuple[str, str]]) -> Padding:
    """Return labels and texts as two columns."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in rows:
        table.add_row(label, Text(text))
    return Padding(table, (0, 0, 1, 2), expand=False)
