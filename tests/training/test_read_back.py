"""A user's own model, loaded in a real process that has nothing but what is logged with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import keras
import numpy as np
import psutil
import pytest

from fm_mlflow import TrainingError, train
from fm_mlflow.config import TrainConfig
from fm_mlflow.data.dataset import Dataset
from fm_mlflow.training import read_back
from fm_mlflow.training.models import BuiltModel, build_model
from fm_mlflow.training.read_back import ReadBack
from tests.processes import wait_for
from tests.stores import Store
from tests.trained import DIGITS

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
        importlib.import_module("pytest")

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


@pytest.fixture
def _own_models_are_not_read_back() -> None:
    """Here they are."""


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
            wait_for(lambda: not psutil.Process().children(), "the end of the other process")

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
    assert not psutil.Process().children()


def test_strangers_have_what_is_logged_and_nothing_else(digits: Dataset, models: Path) -> None:
    told: list[str] = []
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(ReadBack(build(models, name, digits), digits, told.append))
            for name in ("fine", "charged", "forgetful")
        }
        started["fine"].finish(told.append)
        with pytest.raises(TrainingError, match=r"'pytest': neither logged with the model"):
            started["charged"].finish(told.append)
        with pytest.raises(TrainingError, match="it gives other outputs than here: weights or set"):
            started["forgetful"].finish(told.append)
    assert set(told) == {"waiting until the model is read back"}


def build(models: Path, name: str, digits: Dataset) -> BuiltModel:
    return build_model(TrainConfig(model=f"{models}:{name}", dataset="digits"), digits)


def test_what_takes_too_long_is_stopped_and_told(
    digits: Dataset, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_back, "_PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(read_back, "_LONGEST_WAIT_SECONDS", 0.5)
    told: list[str] = []
    with ReadBack(build(models, "fine", digits), digits, told.append) as reading:
        reading.finish(told.append)
    assert told[1:] == [
        "it is not known whether others can load the model: the process that tried it was stopped "
        "(it did not end within 0.5 s); `fm-mlflow register` tries it again"
    ]
    assert not psutil.Process().children()


def test_leaving_it_stops_it(digits: Dataset, models: Path) -> None:
    told: list[str] = []
    with ReadBack(build(models, "fine", digits), digits, told.append) as reading:
        wait_for(lambda: len(psutil.Process().children(recursive=True)) == 2, "the process")
        reading.check()
    assert not psutil.Process().children()
    assert told == []


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
