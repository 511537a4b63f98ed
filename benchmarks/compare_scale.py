"""How comparing grows with the store: `compare` beside one paged `search_runs` over the same runs.

    python -m benchmarks.compare_scale

Makes SQLite stores of simulated trainings (5 seeds a configuration), then runs both, in turn, each
in a fresh process: seconds without imports, and the process' peak resident memory. The second
store has ten times the metric points of the first, which a comparison does not need.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

SEEDS = 5
IMAGES = 10_000
CLASSES = 10
WITH_ARTIFACTS = 40
"""Configurations, the most accurate ones; a comparison reads the files of ten."""

TABLES = ("runs", "metrics", "latest_metrics", "params", "tags")

SEARCH = """
import sys, time, json
from mlflow.tracking import MlflowClient
client = MlflowClient("{uri}")
client.get_experiment("0")
start = time.perf_counter()
token, runs = None, 0
while True:
    page = client.search_runs(["0"], order_by=["attributes.start_time ASC"], page_token=token)
    runs += len(page)
    token = page.token
    if not token:
        break
seconds = time.perf_counter() - start
"""

COMPARE = """
import sys, time, json
import mlflow
mlflow.set_tracking_uri("{uri}")
import fm_mlflow
from fm_mlflow import comparing
import fm_mlflow.analysis.compare, fm_mlflow.report.html, fm_mlflow.tracking.run
mlflow.MlflowClient().get_experiment("0")
start = time.perf_counter()
result = fm_mlflow.compare(output="{folder}/report")
seconds = time.perf_counter() - start
runs = sum(len(group.runs) for group in result.comparison.groups)
assert "tensorflow" not in sys.modules
"""

REPORT = """
status = open("/proc/self/status").read()
peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
print(json.dumps({"seconds": seconds, "runs": runs, "peak_mib": peak}))
"""


def main() -> None:
    """Make the stores, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print("| runs | points a run | | seconds: median (least-most) | peak MiB |")
    print("|---|---|---|---|---|")
    for points in (60, 600):
        with tempfile.TemporaryDirectory() as folder:
            _measure(Path(folder), arguments.runs, points, arguments.rounds)


def _measure(folder: Path, runs: int, points: int, rounds: int) -> None:
    uri = make_store(folder, runs, points)
    found: dict[str, list[dict[str, float]]] = {"search_runs": [], "compare": []}
    for _ in range(rounds):
        for name, code in (("search_runs", SEARCH), ("compare", COMPARE)):
            found[name].append(_run(code, uri, folder))
    medians = {}
    for name, results in found.items():
        seconds = sorted(result["seconds"] for result in results)
        medians[name] = statistics.median(seconds)
        peak = statistics.median(result["peak_mib"] for result in results)
        spread = f"{medians[name]:.2f} ({seconds[0]:.2f}-{seconds[-1]:.2f})"
        print(f"| {results[0]['runs']:,} | {points} | {name} | {spread} | {peak:.0f} |")
    limit = 1.3 * medians["search_runs"] + 2
    print(f"compare / (1.3 x search_runs + 2 s) = {medians['compare'] / limit:.2f}", flush=True)


def _run(code: str, uri: str, folder: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", code.format(uri=uri, folder=folder) + REPORT],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def make_store(folder: Path, runs: int, points: int) -> str:
    """Log two trainings through MLflow, then copy their rows; the most accurate have files too."""
    from mlflow.tracking import MlflowClient

    from tests.simulated import Simulated, log_run

    database = folder / "mlflow.db"
    client = MlflowClient(f"sqlite:///{database}")
    experiment = client.create_experiment("Default-like", artifact_location=str(folder / "runs"))
    templates = [
        log_run(client, Simulated("cnn", accuracy=0.9), experiment),
        log_run(client, Simulated("mlp", accuracy=0.88), experiment),
    ]
    with sqlite3.connect(database) as connection:
        rows = {table: _rows(connection, table, templates) for table in TABLES}
        for table in TABLES:
            connection.execute(f"DELETE FROM {table}")
        random = np.random.default_rng(0)
        configurations = runs // SEEDS
        for configuration in range(configurations):
            template = templates[configuration % 2]
            accuracy = 0.9 - 0.2 * configuration / configurations
            for seed in range(SEEDS):
                number = configuration * SEEDS + seed
                run_id = f"{number:032x}"
                score = round(accuracy + random.normal(0, 0.001), 4)
                _copy(connection, rows, template, run_id, configuration, seed, score, points)
                if configuration < WITH_ARTIFACTS:
                    artifacts = folder / "runs" / run_id / "artifacts"
                    shutil.copytree(folder / "runs" / template / "artifacts", artifacts)
                    _write_predictions(artifacts / "predictions" / "test.npz", score, random)
    return f"sqlite:///{database}"


def _write_predictions(path: Path, accuracy: float, random: np.random.Generator) -> None:
    label = np.arange(IMAGES) % CLASSES
    is_wrong = random.permutation(IMAGES) >= round(accuracy * IMAGES)
    probability = np.eye(CLASSES, dtype=np.float32)[(label + is_wrong) % CLASSES]
    np.savez_compressed(path, label=label, probability=probability)


def _rows(
    connection: sqlite3.Connection, table: str, run_ids: list[str]
) -> dict[str, list[dict[str, object]]]:
    connection.row_factory = sqlite3.Row
    return {
        run_id: [
            dict(row)
            for row in connection.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", [run_id])
        ]
        for run_id in run_ids
    }


def _copy(
    connection: sqlite3.Connection,
    rows: dict[str, dict[str, list[dict[str, object]]]],
    template: str,
    run_id: str,
    configuration: int,
    seed: int,
    score: float,
    points: int,
) -> None:
    values: dict[str, object] = {
        "seed": str(seed),
        "batch_size": str(1 + configuration // 2),
        "test_accuracy": score,
        "val_accuracy": score,
    }
    for table in TABLES:
        copies = []
        for row in rows[table][template]:
            copy = {**row, "run_uuid": run_id}
            if table == "runs":
                copy |= {
                    "start_time": int(run_id, 16),
                    "experiment_id": 0,
                    "artifact_uri": str(row["artifact_uri"]).replace(template, run_id),
                }
            elif "key" in copy and copy["key"] in values:
                copy["value"] = values[str(copy["key"])]
            copies.append(copy)
        if table == "metrics":
            extra = {**copies[0], "key": "batch_loss"}
            copies += [{**extra, "step": step} for step in range(points - len(copies))]
        names = list(copies[0])
        marks = ", ".join("?" * len(names))
        columns = ", ".join(f'"{name}"' for name in names)
        connection.executemany(
            f"INSERT INTO {table} ({columns}) VALUES ({marks})",
            [[copy[name] for name in names] for copy in copies],
        )


if __name__ == "__main__":
    main()
