"""A user's own model, loaded by real processes that have nothing but what is logged with it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import psutil
import pytest

from fm_mlflow import TrainingError, train
from fm_mlflow.data.dataset import Dataset
from fm_mlflow.process.confined import ConfinedError
from fm_mlflow.settings.config import TrainConfig
from fm_mlflow.training import read_back, stranger
from fm_mlflow.training.models import BuiltModel, build_model
from fm_mlflow.training.read_back import ReadBack
from tests import forked
from tests.processes import PROJECT, START_SECONDS, wait_for
from tests.stores import Store
from tests.trained import DIGITS, SMALL

MODELS = """
import importlib
import keras
from keras import layers
from helper_of_strangers import UNITS

@keras.saving.register_keras_serializable("strangers")
class Halve(layers.Layer):
    def call(self, inputs):
        return inputs / 2

@keras.saving.register_keras_serializable("strangers")
class Charged(layers.Layer):
    def __init__(self, **settings):
        super().__init__(**settings)
        # What no reader of the source finds among its imports.
        importlib.import_module("moto")

    def call(self, inputs):
        return inputs

@keras.saving.register_keras_serializable("strangers")
class Forgetful(layers.Layer):
    def __init__(self, factor=1.0, **settings):
        super().__init__(**settings)
        self.factor = factor

    def get_config(self):
        return super().get_config()  # without the factor

    def call(self, inputs):
        return inputs * self.factor

@keras.saving.register_keras_serializable("strangers")
class Noise(layers.Layer):
    def call(self, inputs):
        return inputs + keras.random.normal(keras.ops.shape(inputs))

def net(*more):
    return keras.Sequential([
        keras.Input((28, 28)), layers.Flatten(), *more, layers.Dense(UNITS, activation="softmax"),
    ])

def fine():
    return net(Halve(), Noise())

def charged():
    return net(Charged())

def forgetful():
    return net(Forgetful(50.0))

def unsafe():
    keras.config.enable_unsafe_deserialization()
    return net(layers.Lambda(lambda inputs: inputs * 2))
"""


@pytest.fixture(scope="module")
def _own_models_are_not_read_back() -> None:
    """Here they are."""


def _strangers() -> list[psutil.Process]:
    """The processes that read back; a worker of pytest may have others."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie is one that has ended
            if "fm_mlflow.process.supervisor" in each.cmdline():
                found.append(each)
    return found


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "helper_of_strangers.py").write_text("UNITS = 10\n")
    file = folder / "strangers.py"
    file.write_text(MODELS)
    return file


@pytest.fixture
def _safe_again() -> Iterator[None]:
    """Undo what a model's function did to all of Keras."""
    yield
    from keras.src.backend.common import global_state

    global_state.set_global_attribute("safe_mode_saving", None)


@pytest.mark.usefixtures("_safe_again")
def test_a_failure_ends_the_run_and_keras_own_state_does_not_hide_it(
    store: Store, models: Path
) -> None:
    def wait(epoch: int, _logs: object) -> None:
        if epoch == 1:
            wait_for(lambda: not _strangers(), "the end of the other process")

    slow = keras.callbacks.LambdaCallback(on_epoch_begin=wait)
    with pytest.raises(TrainingError, match="in a process that has nothing but what is logged"):
        train(f"{models}:unsafe", callbacks=[slow], **{**DIGITS, "epochs": 9})
    run = store.only_run()
    assert run.info.status == "FAILED"
    assert (
        "ValueError: Requested the deserialization of a `Lambda` layer"
        in (run.data.tags["fm_mlflow.error"])
    )
    # At the first batches of the second epoch, or at its end, it is known.
    assert len(store.client.get_metric_history(run.info.run_id, "loss")) <= 2
    assert not _strangers()


AS_COMMAND = """
import sys
from fm_mlflow.cli import main
from fm_mlflow.training import read_back
read_back.is_new_command = lambda: True
main(sys.argv[1:])
"""
"""That it is copied as it is: `test_json_is_all_of_stdout`, in commands/test_train_processes.py."""


def test_a_copy_of_a_command_is_a_stranger_too(store: Store, models: Path) -> None:
    settings = ["--dataset", "digits", "--epochs", "200", "--measure", "none"]
    command = [sys.executable, "-c", AS_COMMAND, "train", "--model", f"{models}:charged"]
    done = forked.run([*command, *settings], env=store.environment(), timeout=START_SECONDS)
    assert done.returncode == 1, done.stderr
    cause = "'moto': neither logged with the model nor required by it"
    assert cause in done.stderr.splitlines()[-1]
    run = store.only_run()
    assert cause in run.data.tags["fm_mlflow.error"]
    assert len(store.client.get_metric_history(run.info.run_id, "loss")) < 200
    running = psutil.process_iter(["cmdline"])
    assert not any(f"{models}:charged" in (each.info["cmdline"] or ()) for each in running)


STRANGER = """
import json, os, sys
from pathlib import Path
from fm_mlflow.registration.fresh_process import forget_where_we_came_from
from fm_mlflow.training import stranger
channel = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
forget_where_we_came_from()
stranger.prepare()
for line in sys.stdin:
    print(json.dumps(stranger.read_back(Path(line.strip()))), file=channel, flush=True)
    for name in ("strangers", "helper_of_strangers"):
        del sys.modules[name]
"""


@pytest.fixture
def _one_stranger_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have one process load the models of a test, because each would import TensorFlow."""
    with forked.Popen(
        [sys.executable, "-c", STRANGER],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:

        def ask(_program: str, arguments: list[str], *_: object) -> bytes:
            wait_for(Path(arguments[0]).exists, "the model")
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{arguments[0]}\n".encode())
            process.stdin.flush()
            answer: bytes = process.stdout.readline()
            return answer

        monkeypatch.setattr(read_back, "run_confined", ask)
        yield
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.usefixtures("_one_stranger_for_all")
def test_strangers_have_what_is_logged_and_nothing_else(digits: Dataset, models: Path) -> None:
    assert verdict(models, "fine", digits) == ""
    assert "'moto': neither logged with the model" in verdict(models, "charged", digits)
    assert "it gives other outputs than here: weights or set" in verdict(
        models, "forgetful", digits
    )


def verdict(models: Path, name: str, digits: Dataset) -> str:
    told: list[str] = []
    with ReadBack(told.append, is_needed=True) as reading:
        reading.give(build(models, name, digits), digits)
        try:
            reading.finish(told.append)
        except TrainingError as error:
            return str(error)
    assert told == ["waiting until the model is read back"]
    return ""


def build(models: Path, name: str, digits: Dataset) -> BuiltModel:
    return build_model(TrainConfig(model=f"{models}:{name}", dataset="digits"), digits)


def test_what_takes_too_long_is_stopped_and_told(
    digits: Dataset, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_back, "_LONGEST_WAIT_SECONDS", 0.5)
    told: list[str] = []
    with ReadBack(told.append, is_needed=True) as reading:
        reading.give(build(models, "fine", digits), digits)
        reading.finish(told.append)
    assert told[1:] == [
        "it is not known whether others can load the model: the process that tried it was stopped "
        "(it did not end in time); `fm-mlflow register` tries it again"
    ]
    assert not _strangers()


def test_leaving_it_stops_it_before_it_has_a_model() -> None:
    told: list[str] = []
    others = set(psutil.Process().children(recursive=True))  # servers of other tests

    def started() -> bool:
        return len({*psutil.Process().children(recursive=True)} - others) == 2

    with ReadBack(told.append, is_needed=True) as reading:
        wait_for(started, "the process")
        reading.check()
    assert not _strangers()
    assert told == []


def test_a_stranger_without_a_model_ends_with_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(["true"]) as ended:
        parent = psutil.Process(ended.pid)
    monkeypatch.setattr(psutil.Process, "parent", lambda _self: parent)
    with pytest.raises(RuntimeError, match="is gone"):
        stranger._wait_for(tmp_path / "model")


def test_epochs_beside_it_are_counted(
    digits: Dataset, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def run(*_: object) -> bytes:
        over.wait()
        raise ConfinedError("it was killed")

    monkeypatch.setattr(read_back, "run_confined", run)
    told: list[str] = []
    with ReadBack(told.append, is_needed=True) as reading:
        try:
            reading.give(build(models, "fine", digits), digits)
            for _ in range(2):
                reading.end_epoch()
        finally:
            over.set()
        reading.finish(told.append)
        for _ in range(2):
            reading.end_epoch()
    assert reading.epochs_beside == 3  # it ended within the third
    assert told[-1].endswith("(it was killed); `fm-mlflow register` tries it again")


@pytest.mark.usefixtures("store")
def test_built_in_models_are_not_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr(ReadBack, "_start", lambda self, *_: started.append(self))
    built = keras.callbacks.LambdaCallback(on_train_begin=interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(SMALL, callbacks=[built], **DIGITS)
    assert started == []
    with pytest.raises(KeyboardInterrupt):
        train(one_layer, callbacks=[built], **DIGITS)
    assert len(started) == 1


def interrupt(_logs: object) -> None:
    raise KeyboardInterrupt


def one_layer() -> keras.Model:
    return keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10)])


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"error": "KeyError: 'x'"}, "loading or calling it raised KeyError: 'x'"),
        ({"outputs": [[1.0]], "again": [[1.0]]}, r"it gives outputs of shape (1, 1), here (1, 2)"),
        ({"outputs": [[0.1, 0.9]], "again": [[0.1, 0.9]]}, "it gives other outputs than here"),
        ({"outputs": [[0.1, 0.9]], "again": [[0.9, 0.1]]}, ""),
        ({"outputs": [[float("nan")] * 2], "again": [[0.1, 0.9]]}, "it gives other outputs"),
        ({"outputs": [[0.601, 0.399]], "again": [[0.601, 0.399]]}, ""),
    ],
)
def test_the_verdict(answer: dict[str, object], says: str) -> None:
    found = read_back._judge(answer, np.array([[0.6, 0.4]], np.float32))
    assert found.startswith(says)
    assert bool(found) == bool(says)
