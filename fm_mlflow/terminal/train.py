"""What a person sees at the end of a command."""

from __future__ import annotations

import shlex

from rich.table import Column

from fm_mlflow import keys
from fm_mlflow.analysis.metric_choice import comparable
from fm_mlflow.analysis.prose.words import listed
from fm_mlflow.naming import dataset_described
from fm_mlflow.report.figures import measured_and_estimated, training_figures
from fm_mlflow.results.train import TrainResult
from fm_mlflow.settings.dataset import BUILTIN, NPZ, is_own
from fm_mlflow.terminal.lines import (
    SafeConsole,
    browse_commands,
    grid,
    pairs,
    print_commands,
    print_line,
    shell_uri,
    shown,
)

_MOST_FILES = 8


def print_training_result(console: SafeConsole, result: TrainResult) -> None:
    """Show the figures of a run, where it is, and what to do with it next."""
    console.print()
    data = dataset_described(result.config.dataset)
    print_line(console, f"{result.run_name} on {data}", "bold")
    noun = "images" if result.config.dataset in BUILTIN else "examples"
    console.print(pairs(training_figures(result.metrics, noun)))
    columns = (Column(style="dim", no_wrap=True), Column(justify="right"), Column(justify="right"))
    heads = ("", shown("measured", "dim"), shown("rule of thumb", "dim"))
    beside = grid(columns, [heads, *measured_and_estimated(result.metrics)])
    console.print(beside)
    where = [("run", result.run_id), ("store", result.tracking_uri), ("model", result.model_uri)]
    if files := result.source_files:
        where.append(("its source", listed(files, _MOST_FILES)))
    console.print(pairs(where))
    if result.pending:
        print_line(console, result.pending)
    print_commands(console, next_commands(result))


def next_commands(result: TrainResult) -> list[tuple[str, str]]:
    """Return what to do next with a run: a label and the exact command, store included."""
    if result.pending:
        return [("Deliver it to its store, when that answers", "fm-mlflow sync")]
    command = f"MLFLOW_TRACKING_URI={shell_uri(result.tracking_uri)} fm-mlflow"
    register = f"{command} register --run-id {result.run_id}"
    compare = f"{command} compare --experiment {result.experiment_id}"
    metric = next(iter(comparable(result.metrics)), keys.TEST_ACCURACY)
    if metric != keys.TEST_ACCURACY:
        compare += f" --metric {shlex.quote(metric)}"
    dataset = result.config.dataset
    takes_pictures = dataset in BUILTIN or (is_own(dataset) and not dataset.endswith(NPZ))
    predict = f"{command} predict --model {result.run_id} --input PICTURE.png"
    return [
        *browse_commands(result.tracking_uri, result.experiment_id, result.run_id),
        ("Compare it with the other runs", compare),
        *([("Predict a picture, or a folder of them", predict)] if takes_pictures else []),
        *([("Register its model, verified", register)] if result.test_accuracy is not None else []),
    ]
