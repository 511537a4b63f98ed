"""What a person sees at the end of a script that is tracked."""

from __future__ import annotations

import shlex
from collections.abc import Collection

from fm_mlflow import keys
from fm_mlflow.analysis.metric_choice import comparable
from fm_mlflow.terminal.lines import SafeConsole, print_line, shell_uri


def print_script_run(
    run_id: str, name: str, tracking_uri: str, experiment_id: str, metrics: Collection[str]
) -> None:
    """Say on stderr where a run is and what to do with it next.

    Args:
        run_id: Its id.
        name: Its name.
        tracking_uri: The store, any password hidden.
        experiment_id: Of its experiment; empty where the store has not answered.
        metrics: What it logged, in order.
    """
    console = SafeConsole(stderr=True)
    uri = shell_uri(tracking_uri)
    print_line(console, f"fm_mlflow: run {run_id} ({name}) is in {uri}", wrapped=False)
    metric = next(iter(comparable(metrics)), "")
    if metric and experiment_id:
        command = f"MLFLOW_TRACKING_URI={uri} fm-mlflow compare --experiment {experiment_id}"
        if metric != keys.TEST_ACCURACY:
            command += f" --metric {shlex.quote(metric)}"
        print_line(console, f"fm_mlflow: compare it: {command}", wrapped=False)
    elif not metric and keys.LOSS in metrics:
        why = "all its metrics are of the training data; give the fit validation_data"
        print_line(console, f"fm_mlflow: nothing to compare it by: {why}", wrapped=False)
