"""The command as its users meet it: real processes, real signals, real `mlflow run`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from fm_mlflow.process.identity import usable_cores
from tests import forked
from tests.notes import noting
from tests.own_data import parts
from tests.processes import PROJECT, command_in_this_process, wait_for
from tests.stores import Store

LONG = ["train", "--dataset", "digits", "--epochs", "100000"]


PRINTS = """
import os, sys
import keras
import numpy.f2py
import tensorflow as tf
names = "sklearn", "matplotlib.pyplot", "tensorflow.lite.python.lite", "numpy.f2py.f2py2e"
def there():
    return sum(each in sys.modules for each in names)
found = [there()]
from keras.wrappers import SKLearnClassifier
found.append(there())
keras.visualization.plot_image_gallery
found.append(there())
assert tf.lite.TFLiteConverter is tf.compat.v2.lite.TFLiteConverter
assert tf.compat.v1.compat.v1.Session is not None
found.append(there())
assert callable(numpy.f2py.run_main)
found.append(there())
print("hello from python", found)
os.system("echo hello from a child process")
def build():
    return keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10)])
"""


def test_json_is_all_of_stdout(store: Store, tmp_path: Path) -> None:
    noted, changes = noting(tmp_path)
    (store.folder / "prints.py").write_text(PRINTS)
    images = np.arange(40 * 28 * 28, dtype=np.uint8).reshape(40, 28, 28)
    np.savez(store.folder / "own.npz", **parts(images, np.arange(40) % 10))
    options = ["--dataset", "own.npz", "--epochs", "1", "--json", "--model", "prints.py:build"]
    done = subprocess.run(
        # keras-flops prints
        [sys.executable, "-m", "fm_mlflow", "train", *options, "--measure", "flops"],
        cwd=store.folder,
        env=store.environment(**changes),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if sys.platform.startswith("linux") and (usable_cores() or 1) > 1:
        assert {"popen_fork.py", "forked.py"} <= set(noted())  # plots, and the reading back
    result = json.loads(done.stdout)
    run = store.only_run()
    assert run.info.status == "FINISHED"
    assert result["run_id"] == run.info.run_id
    assert result["test_accuracy"] == run.data.metrics["test_accuracy"]
    assert result["config"]["epochs"] == 1
    # Piped progress: plain lines, one an epoch, and nothing of other libraries.
    lines = [line for line in done.stderr.splitlines() if not line.startswith("hello")]
    assert len(lines) == len(done.stderr.splitlines()) - 2
    # Scikit-learn is not imported until something that Keras offers with it is.
    # What Keras offers with other libraries is imported when somebody takes it.
    there = [0, 1, 2, 3, 4]
    assert f"hello from python {there}" in done.stderr.splitlines()
    assert [line for line in lines if line.startswith("epoch ")] == [lines[3]]
    assert lines[:3] == ["loading the data", "importing TensorFlow", "building the model"]
    after = [line for line in lines[4:] if line != "waiting until the model is read back"]
    assert after == ["evaluating and logging the model", "measuring what it costs"]
    assert "\x1b" not in done.stderr


def test_a_reader_who_has_gone_changes_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "FM_MLFLOW_JOURNAL_DIR": str(tmp_path), "COLUMNS": "80"}
    process = subprocess.Popen(
        [sys.executable, "-m", "fm_mlflow", "sync"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait() == 0


@contextmanager
def training(store: Store, *command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A training process that has finished its first epoch."""
    log = store.folder / "log"
    with log.open("w") as output:
        process = forked.Popen(
            command or [sys.executable, "-m", "fm_mlflow", *LONG],
            cwd=store.folder,
            env=store.environment(**environment),
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
        )
    try:

        def first_epoch() -> bool:
            assert process.poll() is None, log.read_text()
            return "epoch " in log.read_text()

        wait_for(first_epoch, "the first epoch")
        yield process
    finally:
        for child in (
            [*psutil.Process(process.pid).children(recursive=True)]
            if (process.poll() is None)
            else []
        ):
            child.kill()
        process.kill()
        process.wait()


@contextmanager
def signalled(store: Store, signum: int) -> Iterator[None]:
    """Send this process a signal when a training in it has finished its first epoch."""

    ended = threading.Event()

    def first_epoch() -> bool:
        runs = store.client.search_runs(["0"])
        return ended.is_set() or any("loss" in run.data.metrics for run in runs)

    def send() -> None:
        try:
            wait_for(first_epoch, "the first epoch")
        finally:
            if not ended.is_set():
                os.kill(os.getpid(), signum)

    thread = threading.Thread(target=send)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.mark.parametrize(("signum", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_is_killed(store: Store, signum: signal.Signals, exit_code: int) -> None:
    # In a process of its own: tests/commands/test_benchmark_processes.py.
    file = store.folder / f"interrupted_by_{signum.name}.py"  # imported once in this process
    file.write_text(PRINTS)
    with signalled(store, signum):
        code, out, err = command_in_this_process(*LONG, "--model", f"{file}:build")
    assert (code, out) == (exit_code, "")
    run = store.only_run()
    assert run.info.status == "KILLED"
    assert run.data.tags["fm_mlflow.error"] == f"interrupted by {signum.name}"
    assert run.data.metrics["loss"] > 0
    assert store.client.download_artifacts(run.info.run_id, "model_summary.txt")
    again = f"`fm-mlflow resume {run.info.run_id}` continues it"
    assert err.splitlines()[-1] == f"fm-mlflow: interrupted by {signum.name}; {again}"
    assert "Traceback" not in err


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The command line that makes `mlflow run .` use this Python, whatever PATH says."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python").symlink_to(sys.executable)
    return folder


def mlflow_run(project: Path, *parameters: str, entry_point: str = "main") -> tuple[list[str], str]:
    """Return the command and the PATH of `mlflow run`."""
    command = [sys.executable, "-m", "mlflow", "run", str(PROJECT), "-e", entry_point]
    for parameter in parameters:
        command += ["-P", parameter]
    # Not a virtual environment's python by link alone: its packages come along.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return [*command, "--env-manager", "local"], path


def run_by_mlflow(
    store: Store, project: Path, *parameters: str, entry_point: str = "main"
) -> subprocess.CompletedProcess[str]:
    """Run an entry point by `mlflow run` to its end."""
    command, path = mlflow_run(project, *parameters, entry_point=entry_point)
    return forked.run(command, cwd=store.folder, env=store.environment(PATH=path))


def test_mlflow_run_is_joined(store: Store, project: Path) -> None:
    done = run_by_mlflow(
        store,
        project,
        *("model=cnn", "dataset=digits", "epochs=1", "learning_rate=1e-3", "seed=3"),
        "measure=flops,memory",
    )
    assert done.returncode == 0, done.stderr
    run = store.only_run()
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "cnn, 1 epoch, seed 3"
    assert run.data.tags["mlflow.project.entryPoint"] == "main"
    assert run.data.tags["fm_mlflow.kind"] == "training"
    assert run.data.params["learning_rate"] == "1e-3"  # as MLflow logged it
    assert run.data.params["loss"] == "sparse_categorical_crossentropy"
    assert run.data.metrics["parameters/trainable"] == 56_714
    assert run.data.metrics["flops/training_core"] == 4_045_824
    assert run.data.metrics["memory/training_rss_mib"] > 0
    assert "latency/p50_ms" not in run.data.metrics
    assert f"mlflow ui --backend-store-uri {store.uri}" in done.stdout


def test_bad_input_fails_the_run_that_mlflow_made(store: Store, project: Path) -> None:
    settings = ("dataset=digits", "momentum=0.9")
    done = run_by_mlflow(store, project, *settings, entry_point="benchmark")
    assert done.returncode != 0
    says = "--momentum: received '--momentum', accepted: one of the options --seeds"
    assert f"fm-mlflow: {says}" in done.stderr
    run = store.only_run()
    assert run.info.status == "FAILED"
    assert run.data.tags["mlflow.project.entryPoint"] == "benchmark"
    assert run.data.tags["fm_mlflow.error"].startswith(says)


def test_a_bad_value_fails_the_run_that_mlflow_made(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", store.client.create_run("0").info.run_id)
    code, _, err = command_in_this_process("train", "--dataset", "digits", "--epochs", "0")
    says = "epochs: received '0', accepted: a whole number from 1 to 1000000"
    assert (code, err) == (2, f"fm-mlflow: {says}\n")
    run = store.only_run()
    assert run.info.status == "FAILED"
    assert run.data.tags["fm_mlflow.error"] == says


def test_the_death_of_mlflow_run_kills_the_run(store: Store, project: Path) -> None:
    command, path = mlflow_run(project, "dataset=digits", "epochs=100000")
    with training(store, *command, PATH=path) as parent:
        children = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()
        parent.wait()
        _, alive = psutil.wait_procs(children, timeout=20)
        assert alive == []
    run = store.only_run()
    assert run.info.status == "KILLED"
    assert run.data.tags["fm_mlflow.error"] == (
        f"the process that started this run ended (pid {parent.pid})"
    )
