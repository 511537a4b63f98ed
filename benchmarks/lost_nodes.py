"""Benchmarks on a Ray cluster whose second node is killed at a random moment, on this machine.

    python -m benchmarks.lost_nodes --folder /tmp/lost --rounds 10

Each round starts a tracking server and two nodes, the second in namespaces of its own, benchmarks 2
models with 4 seeds on `digits`, kills the second node (SIGKILL) at a random moment and starts
another one. It passes if the benchmark ends complete, the weights of each training are those of an
undisturbed benchmark on this machine, no point is there twice and no run is RUNNING. Results are
appended to `rounds.jsonl` in the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fm_mlflow import keys

OPTIONS = (
    *("--models", "mlp,cnn", "--dataset", "digits", "--epochs", "25", "--measure", "none"),
    *("--checkpoint-seconds", "0.5", "--json"),
)
_MODELS = 2


def main() -> None:
    """Run the rounds; exit with 1 if one did not pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=None, help="of the moments")
    asked = parser.parse_args()
    asked.folder.mkdir(exist_ok=True, parents=True)
    reference = asked.folder / "reference.json"
    if not reference.exists():
        digests = undisturbed(asked.seeds)
        reference.write_text(json.dumps(digests))
    expected = json.loads(reference.read_text())
    moments = random.Random(asked.seed)
    passed = True
    for _ in range(asked.rounds):
        result = one_round(asked.seeds, expected, moments.uniform(15, 40 + 15 * asked.seeds))
        with (asked.folder / "rounds.jsonl").open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(json.dumps(result), flush=True)
        passed = passed and not result["problems"]
    sys.exit(not passed)


def undisturbed(seeds: int) -> dict[str, str]:
    """Benchmark here, undisturbed; return the weights' digest of each training."""
    from tests.stores import make_store, make_template

    with tempfile.TemporaryDirectory() as folder:
        store = make_store(make_template(Path(folder)), Path(folder))
        environment = {**os.environ, "FM_MLFLOW_JOURNAL_DIR": f"{folder}/journals"}
        run_benchmark(seeds, {**environment, "MLFLOW_TRACKING_URI": store.uri}, Path(folder)).wait()
        return {name: run.data.tags[keys.WEIGHTS_DIGEST] for name, run in trained(store).items()}


def run_benchmark(
    seeds: int, environment: dict[str, str], folder: Path, *more: str
) -> subprocess.Popen[bytes]:
    """Start a benchmark; what it writes goes to `benchmark.log` in the folder."""
    with (folder / "benchmark.log").open("wb") as log:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "fm_mlflow",
                "benchmark",
                *OPTIONS,
                "--seeds",
                str(seeds),
                *more,
            ],
            env={**environment, "MLFLOW_EXPERIMENT_ID": "0"},  # which `trained` searches
            cwd=folder,
            stdout=log,
            stderr=log,
        )


def trained(store: Any) -> dict[str, Any]:
    """Return the trainings of a store by name."""
    runs = store.client.search_runs(["0"])
    return {
        f"{run.data.tags[keys.MODEL]} {run.data.params.get('seed')}": run
        for run in runs
        if run.data.tags.get(keys.KIND) == keys.KIND_TRAINING
    }


def one_round(seeds: int, expected: dict[str, str], moment: float) -> dict[str, Any]:
    """Benchmark on two nodes, of which the second is killed after so many seconds."""
    from tests import ray_cluster
    from tests.stores import make_template, tracking_server

    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fmlost-") as name:
        folder = Path(name)
        os.mkfifo(folder / "alive")
        alive = os.open(folder / "alive", os.O_RDWR)
        try:
            store = tracking_server(make_template(folder), folder)
            with ray_cluster.cluster() as nodes:
                environment = nodes.environment_of_driver()
                environment["MLFLOW_TRACKING_URI"] = store.uri
                process = run_benchmark(
                    seeds, environment, folder, "--executor", "ray", "--cpus", "1"
                )
                time.sleep(moment)
                ended_before = process.poll() is not None
                nodes.kill_second()
                time.sleep(3)
                nodes.add_second()
                code = process.wait(600)
            log = (folder / "benchmark.log").read_text()
            problems = check(store, expected, code)
            parts = [run.data.tags.get(keys.PARTS, "1") for run in trained(store).values()]
        finally:
            os.close(alive)
    return {
        "moment_s": round(moment, 1),
        "seconds": round(time.monotonic() - began, 1),
        "ended_before": ended_before,
        "lost": log.count("it is resumed:"),
        "resumed_from_a_checkpoint": sum(part != "1" for part in parts),
        "problems": problems,
        **({"log": log[-3000:]} if problems else {}),
    }


def check(store: Any, expected: dict[str, str], code: int) -> list[str]:
    """Say what is not as in an undisturbed benchmark."""
    problems = [] if code == 0 else [f"exit code {code}"]
    runs = store.client.search_runs(["0"])
    problems += [f"{run.info.run_id} is RUNNING" for run in runs if run.info.status == "RUNNING"]
    found = trained(store)
    if found.keys() != expected.keys() or len(runs) != len(expected) + _MODELS:
        problems.append(f"trainings: {sorted(found)} in {len(runs)} runs")
    for name, run in found.items():
        if run.data.tags.get(keys.WEIGHTS_DIGEST) != expected.get(name):
            problems.append(f"{name}: other weights")
        if run.info.status != "FINISHED":
            problems.append(f"{name}: {run.info.status}")
        for key in run.data.metrics:
            history = store.client.get_metric_history(run.info.run_id, key)
            steps = Counter(point.step for point in history)
            if max(steps.values()) > 1:
                problems.append(f"{name}: {key} is there twice")
    return problems


if __name__ == "__main__":
    main()
