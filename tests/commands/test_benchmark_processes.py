"""Benchmarks as their users meet them: real trainings, real signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import psutil
import pytest

from tests import forked
from tests.processes import command_in_this_process, wait_for
from tests.stores import Store, fm_mlflow
from tests.trained import SMALL

MODELS = """
import os, pathlib, signal, keras
def build():
    return keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10)])
def fragile():
    if pathlib.Path(__file__).with_name("no-memory").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return build()
"""


def by_name(store: Store) -> dict[str, list[mlflow.entities.Run]]:
    runs: dict[str, list[mlflow.entities.Run]] = {}
    for run in store.client.search_runs(["0"], order_by=["attributes.start_time ASC"]):
        runs.setdefault(run.info.run_name, []).append(run)
    return runs


@pytest.mark.usefixtures("copied_processes")
def test_a_killed_training_is_done_again(store: Store) -> None:
    (store.folder / "tiny.py").write_text(MODELS)
    (store.folder / "no-memory").touch()
    output = store.folder / "out"
    # In the run that `mlflow run` has opened: tests/commands/test_train_processes.py.
    inherited = store.client.create_run("0").info.run_id
    done = fm_mlflow(
        *("benchmark", "--models", f"mlp,{store.folder}/tiny.py:fragile", "--seeds", "1"),
        *("--jobs", "2", "--dataset", "digits", "--epochs", "1", "--measure", "none"),
        *("--output", str(output)),
        store=store,
        MLFLOW_RUN_ID=inherited,
    )
    assert done.returncode == 1
    runs = by_name(store)
    (parent,) = runs["benchmark of mlp, tiny.py:fragile, 1 seed"]
    assert (parent.info.run_id, parent.info.status) == (inherited, "FAILED")
    (built,) = runs["mlp, 1 epoch, seed 0"]
    assert built.info.status == "FINISHED"
    assert built.data.tags["fm_mlflow.jobs"] == "2"
    (killed,) = runs["tiny.py:fragile, 1 epoch, seed 0"]
    assert killed.info.status == "FAILED"
    cause = "killed by SIGKILL (by hand, or because memory ran out); its last line: "
    assert killed.data.tags["fm_mlflow.error"].startswith(cause)
    assert f"fm-mlflow: 1 of 2 trainings failed: tiny.py:fragile, seed 0 ({cause}" in done.stderr
    report = json.loads((output / "comparison.json").read_text())
    assert [each["run_id"] for each in report["skipped"]] == [killed.info.run_id]
    assert any("at a time" in warning for warning in report["warnings"])

    (store.folder / "no-memory").unlink()
    arguments = ["benchmark", "--resume", parent.info.run_id, "--output", str(output), "--json"]
    code, out, err = command_in_this_process(*arguments)
    assert code == 0, err
    result = json.loads(out)
    assert result["run_id"] == parent.info.run_id
    assert [each["status"] for each in result["trainings"]] == ["FINISHED"] * 2
    lines = [line.partition(":")[0] for line in err.splitlines()]
    assert lines[0] == "checking the data"
    planned = lines.index("1 training in random order; 1 done before")
    assert lines[planned + 1] == "1/1 tiny.py"
    runs = by_name(store)
    assert store.client.get_run(parent.info.run_id).info.status == "FINISHED"
    assert [run.info.status for run in runs["tiny.py:fragile, 1 epoch, seed 0"]] == [
        "FAILED",
        "FINISHED",
    ]
    assert len(runs["mlp, 1 epoch, seed 0"]) == 1


@contextmanager
def endless(store: Store) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A benchmark whose only training is past its first epoch, and the processes it started."""
    arguments = ["benchmark", "--models", SMALL, "--seeds", "1", "--dataset", "digits"]
    log = store.folder / "log"
    with log.open("w") as output:
        process = forked.Popen(
            [sys.executable, "-m", "fm_mlflow", *arguments, "--epochs", "100000"],
            cwd=store.folder,
            env=store.environment(),
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
        )
    children: list[psutil.Process] = []
    try:

        def first_epoch() -> bool:
            assert process.poll() is None, log.read_text()
            return any("loss" in run.data.metrics for run in store.client.search_runs(["0"]))

        wait_for(first_epoch, "the first epoch")
        children = psutil.Process(process.pid).children(recursive=True)
        yield process, children
    finally:
        for child in children:
            if child.is_running():
                child.kill()
        process.kill()
        process.wait()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_no_training_outlives_its_benchmark(store: Store, signum: signal.Signals) -> None:
    with endless(store) as (process, children):
        assert children
        process.send_signal(signum)
        code = process.wait(timeout=40)
        _, alive = psutil.wait_procs(children, timeout=20)
        assert alive == []
    runs = {run.data.tags["fm_mlflow.kind"]: run for run in store.client.search_runs(["0"])}
    parent, child = runs["benchmark"], runs["training"]
    assert child.info.status == "KILLED"
    log = (store.folder / "log").read_text()
    if signum == signal.SIGKILL:
        cause = f"the process that started this run ended (pid {process.pid})"
        assert child.data.tags["fm_mlflow.error"] == cause
        return
    assert code == 130
    assert child.data.tags["fm_mlflow.error"] == "interrupted by SIGINT"
    assert parent.info.status == "KILLED"
    again = f"fm-mlflow benchmark --resume {parent.info.run_id}"
    assert log.splitlines()[-1] == f"fm-mlflow: interrupted by SIGINT; continue it with: {again}"
    assert "Traceback" not in log
    # The training has heard the signal too.
    assert child.data.metrics["loss"] > 0
    assert store.client.download_artifacts(child.info.run_id, "model_summary.txt")
    said = Path(store.client.download_artifacts(child.info.run_id, "output.log")).read_text()
    assert "epoch      1/100000" in said
    assert said.splitlines()[-1].startswith("fm-mlflow: interrupted by SIGINT; `fm-mlflow resume ")
    assert "Traceback" not in said
