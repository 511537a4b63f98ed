"""How comparing grows with the store: `compare` beside one paged `search_runs` over the same runs.

    python -m benchmarks.compare_scale

Makes SQLite stores of simulated trainings, then runs both, in turn, each in a fresh process:
elapsed and CPU seconds without imports, and the process' peak resident memory. Two trainings are
logged through MLflow; SQL copies their rows, and the runs that a comparison may look at closely
have files, links to a few.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from mlflow.tracking import MlflowClient

from fm_mlflow import keys

STORES = ((3_000, 2), (10_000, 2), (10_000, 2_000))
"""Runs, and the groups that they are in."""

IMAGES = 10_000
CLASSES = 10
WITH_FILES = 40
"""Groups, the most accurate ones; a comparison reads the files of ten."""

PREDICTED = 20
"""Seeds of a group whose predictions differ; further ones repeat theirs."""

NOISY = (keys.MEMORY_PEAK, keys.MEMORY_TRAINING, keys.LATENCY_P50, keys.FIT_SECONDS)

SEARCH = """
from mlflow.tracking import MlflowClient
client = MlflowClient("{uri}")
client.get_experiment("0")
before = begin()
token, runs = None, 0
while True:
    page = client.search_runs(["0"], order_by=["attributes.start_time ASC"], page_token=token)
    runs += len(page)
    token = page.token
    if not token:
        break
result = end(before)
"""

COMPARE = """
import mlflow
mlflow.set_tracking_uri("{uri}")
import fm_mlflow
import fm_mlflow.analysis.compare, fm_mlflow.report.html, fm_mlflow.tracking.run
import fm_mlflow.commands.compare
mlflow.MlflowClient().get_experiment("0")
before = begin()
compared = fm_mlflow.compare(output="{folder}/report")
result = end(before)
runs = sum(len(group.runs) for group in compared.comparison.groups)
assert "tensorflow" not in sys.modules
"""

CLOCK = """
import json, sys, time
def begin():
    return time.perf_counter(), time.process_time()
def end(before):
    return [now - then for now, then in zip(begin(), before)]
"""

REPORT = """
status = open("/proc/self/status").read()
peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
print(json.dumps({"elapsed": result[0], "cpu": result[1], "runs": runs, "peak_mib": peak}))
"""


def main() -> None:
    """Make the stores, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=int, action="append", choices=range(len(STORES)))
    parser.add_argument("--points", type=int, default=600, help="of a run's metrics together")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    print("| runs | groups | | elapsed s: median (least-most) | CPU s | peak MiB | report MiB |")
    print("|---|---|---|---|---|---|---|")
    for number in asked.store or range(len(STORES)):
        with tempfile.TemporaryDirectory() as folder:
            _measure(Path(folder), *STORES[number], asked.points, asked.rounds)


def _measure(folder: Path, runs: int, groups: int, points: int, rounds: int) -> None:
    began = time.monotonic()
    uri = make_store(folder, runs, groups, points)
    print(f"(the store took {time.monotonic() - began:.0f} s to make)", file=sys.stderr)
    found: dict[str, list[dict[str, float]]] = {"search_runs": [], "compare": []}
    for _ in range(rounds):
        for name, code in (("search_runs", SEARCH), ("compare", COMPARE)):
            found[name].append(timed(code, uri, folder))
    size = max(file.stat().st_size for file in (folder / "report").glob("*.html")) / 2**20
    for name, results in found.items():
        elapsed = sorted(result["elapsed"] for result in results)
        spread = f"{statistics.median(elapsed):.2f} ({elapsed[0]:.2f}-{elapsed[-1]:.2f})"
        cpu, peak = _median(results, "cpu"), _median(results, "peak_mib")
        page = f"{size:.1f}" if name == "compare" else ""
        print(
            f"| {results[0]['runs']:,} | {groups:,} | {name} | {spread} | {cpu:.2f} | {peak:.0f} "
            f"| {page} |"
        )
    for clock in ("elapsed", "cpu"):
        search, compare = (_median(results, clock) for results in found.values())
        limit = 1.3 * search + 2
        print(f"{clock}: compare / (1.3 x search_runs + 2 s) = {compare / limit:.2f}", flush=True)


def _median(results: list[dict[str, float]], name: str) -> float:
    return statistics.median(result[name] for result in results)


def timed(code: str, uri: str, folder: Path) -> dict[str, float]:
    """Return what `COMPARE` or `SEARCH` takes in a process of its own: seconds, MiB, runs."""
    done = subprocess.run(
        [sys.executable, "-c", CLOCK + code.format(uri=uri, folder=folder) + REPORT],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def make_store(folder: Path, runs: int, groups: int, points: int) -> str:
    """Make a store of copies of two trainings and return its URI.

    Args:
        folder: Where it goes: database, artifacts and models.
        runs: Of all groups together.
        groups: They differ in the model and in the batch size.
        points: Of each run's metrics together, at least as many as a training logs.
    """
    database = folder / "mlflow.db"
    client = MlflowClient(f"sqlite:///{database}")
    experiment = client.create_experiment("Templates", artifact_location=str(folder / "runs"))
    templates = [_template(client, model, experiment) for model in ("cnn", "mlp")]
    random = np.random.default_rng(0)
    copies: list[tuple[object, ...]] = []
    files: dict[object, Path] = {}
    for group in range(groups):
        seeds, accuracy = runs // groups, 0.9 - 0.2 * group / max(20, groups)
        scores = (accuracy + random.normal(0, 0.001, seeds)).round(4).tolist()
        kept: list[Path] = []
        if group < WITH_FILES:
            kept = [
                _write_predictions(folder / f"{group}-{seed}.npz", group, seed, scores[seed])
                for seed in range(min(seeds, PREDICTED))
            ]
        for seed in range(seeds):
            run_id = f"{len(copies):032x}"
            score = scores[seed % PREDICTED] if kept else scores[seed]
            noise = float(random.normal(0, 0.02))
            copies.append((run_id, templates[group % 2], len(copies), seed, group, score, noise))
            if kept:
                files[run_id] = kept[seed % PREDICTED]
    with sqlite3.connect(database) as connection:
        _copy(connection, copies, points)
    for copy_id, template, *_ in copies:
        if copy_id in files:
            _link_files(folder / f"runs/{template}", folder / f"runs/{copy_id}", files[copy_id])
    return f"sqlite:///{database}"


def _template(client: MlflowClient, model: str, experiment: str) -> str:
    """Log a training with as many tags and figures as a real one, a data set and a model."""
    from mlflow.entities import Dataset, DatasetInput, LoggedModelOutput, LoggedModelStatus

    from tests.simulated import Simulated, log_run

    more = {f"fm_mlflow.more_{number}": f"a value of some length, {number}" for number in range(10)}
    run_id = log_run(client, Simulated(model, accuracy=0.9, tags=more), experiment)
    for name in map(str, keys.all_keys()):
        if name in (keys.MEMORY_BASELINE, keys.LATENCY_P95, keys.TOTAL_SECONDS, keys.MFU):
            client.log_metric(run_id, name, 100.0)
    data = Dataset(f"fashion_mnist-{model}", "d" * 16, "local", "{}")
    client.log_inputs(run_id, [DatasetInput(data)])
    logged = client.create_logged_model(experiment, model, source_run_id=run_id)
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
    place = Path(logged.artifact_location)
    place.mkdir(parents=True)
    names = "".join(f"  - class {number}\n" for number in range(CLASSES))
    (place / "MLmodel").write_text(f"metadata:\n  class_names:\n{names}")
    return run_id


def _write_predictions(path: Path, group: int, seed: int, accuracy: float) -> Path:
    """Write predictions of so many right images: most seeds and models fail on the same ones."""
    label = np.arange(IMAGES) % CLASSES
    hardness = sum(
        share * np.random.default_rng(of).normal(size=IMAGES)
        for share, of in ((1.0, [0]), (0.6, [1, group]), (0.8, [2, group, seed]))
    )
    is_wrong = np.zeros(IMAGES, dtype=bool)
    is_wrong[np.argsort(hardness)[round(accuracy * IMAGES) :]] = True
    probability = np.eye(CLASSES, dtype=np.float32)[(label + is_wrong) % CLASSES]
    np.savez_compressed(path, label=label, probability=probability)
    return path


def _link_files(template: Path, run: Path, predictions: Path) -> None:
    for file in (template / "artifacts").rglob("*"):
        if file.is_file():
            link = run / file.relative_to(template)
            link.parent.mkdir(parents=True, exist_ok=True)
            of_all = file.name != predictions.name and file.name != Path(keys.PREDICTIONS_FILE).name
            os.link(file if of_all else predictions, link)


def _copy(connection: sqlite3.Connection, copies: list[tuple[object, ...]], points: int) -> None:
    """Put copies of the templates' rows in the place of these."""
    connection.executescript("PRAGMA synchronous=OFF; PRAGMA cache_size=-1000000;")
    connection.execute(
        "CREATE TEMP TABLE new (run_uuid, template, number, seed, grp, score, noise)"
    )
    connection.executemany(f"INSERT INTO new VALUES ({', '.join('?' * 7)})", copies)
    noisy = ", ".join(f"'{name}'" for name in NOISY)
    of_metric = (
        f"CASE WHEN key IN ('{keys.TEST_ACCURACY}', '{keys.VAL_ACCURACY}') THEN new.score "
        f"WHEN key IN ({noisy}) THEN value * (1 + new.noise) ELSE value END"
    )
    of_param = (
        "CASE key WHEN 'seed' THEN new.seed WHEN 'batch_size' THEN 1 + new.grp / 2 ELSE value END"
    )
    tables: dict[str, dict[str, str]] = {
        "runs": {
            "start_time": "new.number",
            "experiment_id": "0",
            "artifact_uri": "replace(artifact_uri, new.template, new.run_uuid)",
        },
        "metrics": {"value": of_metric},
        "latest_metrics": {"value": of_metric},
        "params": {"value": of_param},
        "tags": {},
        "logged_models": {"model_id": "'m-' || new.run_uuid", "experiment_id": "0"},
        "inputs": {
            "input_uuid": "lower(hex(randomblob(16)))",
            "source_id": "replace(source_id, new.template, new.run_uuid)",
            "destination_id": "CASE destination_type WHEN 'MODEL_OUTPUT' THEN 'm-' || new.run_uuid "
            "ELSE replace(destination_id, new.template, new.run_uuid) END",
        },
    }
    for table in tables:
        connection.execute(f"CREATE TEMP TABLE old_{table} AS SELECT * FROM {table}")
    for table in reversed(tables):
        connection.execute(f"DELETE FROM {table}")
    for table, changed in tables.items():
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        key = {"logged_models": "source_run_id"}.get(table, "run_uuid")
        values = ", ".join(
            {key: "new.run_uuid", **changed}.get(name, f"old.{name}") for name in names
        )
        where = f"old.{key} = new.template"
        if table == "inputs":
            where = "new.template IN (old.source_id, old.destination_id)"
        quoted = ", ".join(f'"{name}"' for name in names)
        connection.execute(
            f"INSERT INTO {table} ({quoted}) SELECT {values} FROM temp.old_{table} old "
            f"JOIN new ON {where}"
        )
    (logged,) = connection.execute("SELECT count(*) FROM metrics").fetchone()
    more = points - logged // len(copies)
    connection.execute(
        "INSERT INTO metrics (key, value, timestamp, step, is_nan, run_uuid) "
        "WITH RECURSIVE steps(step) AS "
        "(SELECT 0 UNION ALL SELECT step + 1 FROM steps WHERE step < ?) "
        "SELECT 'batch_loss', 0.5, step, step, 0, run_uuid FROM steps, new",
        [more - 1],
    )


if __name__ == "__main__":
    main()
