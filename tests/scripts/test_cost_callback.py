"""`CostCallback` in somebody's own `model.fit`."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import time
from typing import Any

import keras
import mlflow
import pytest
import tensorflow as tf

import fm_mlflow
from fm_mlflow.data.dataset import Dataset
from fm_mlflow.errors import InputError
from fm_mlflow.measure import energy, memory
from fm_mlflow.training.builtin_models import BUILDERS
from tests import forked
from tests.measure.counters import Counting
from tests.processes import PROJECT
from tests.quick_costs import quick_costs as quick_costs  # a fixture
from tests.scripts.measured import measured
from tests.scripts.nets import Batches, Scalars, X, Y, regression, texts, two_by_two
from tests.stores import Store
from tests.trained import Finished

COUNTED: dict[str, Any] = {"measure": "flops"}
NOTHING: dict[str, Any] = {"measure": "none"}


def fit(*data: Any, model: keras.Model | None = None, **options: Any) -> None:
    own = options.pop("own", NOTHING)
    model = model or regression()
    model.fit(*data, verbose=0, callbacks=[fm_mlflow.CostCallback(**own)], **options)


def test_one_line_logs_epochs_parameters_and_costs(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory._process, "trainings", 0)  # as in a process of its own
    monkeypatch.setattr(energy, "RaplPackages", Counting)
    monkeypatch.setattr(energy, "_LEAST_SECONDS", 0.01)
    fit(X, Y, epochs=2, batch_size=32, validation_split=0.2, own={"dataset": "made up", "seed": 3})

    run = store.only_run()
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "reg, seed 3"
    assert run.data.tags["fm_mlflow.kind"] == "training"
    assert run.data.tags["fm_mlflow.model"] == "reg"
    assert run.data.params == {
        "batch_size": "32",
        "dataset": "made up",
        "epochs": "2",
        "learning_rate": "0.01",
        "loss": "mse",
        "optimizer": "sgd",
        "seed": "3",
        "validation_split": "0.2",
    }
    history = store.client.get_metric_history(run.info.run_id, "val_mae")
    assert [point.step for point in history] == [1, 2]
    # Dense(8) and Dense(1) on 12 inputs: 2 x 12 x 8 + 8 and 2 x 8 + 1.
    assert run.data.metrics["flops/inference"] == 2 * 12 * 8 + 8 + 2 * 8 + 1
    # Forward, gradients of weights, of the second layer's inputs: the first layer's nobody needs.
    core = 2 * (2 * 12 * 8) + 3 * (2 * 8)
    assert run.data.metrics["flops/training_core"] == core
    assert run.data.metrics["parameters/trainable"] == 12 * 8 + 8 + 8 + 1
    assert run.data.metrics["memory/peak_rss_mib"] > 100
    assert run.data.metrics["latency/p50_ms"] > 0
    assert run.data.metrics["throughput/training_per_second"] > 0
    assert run.data.metrics["energy/training_joules"] == 1  # two readings
    assert run.data.metrics["energy/inference_joules_per_1000"] > 0
    missing = measured(store, run)["memory/training_rss_mib"]
    assert missing["value"] is None
    assert "fm_mlflow.track" in missing["reason"]


@pytest.mark.parametrize("kind", ["PyDataset", "structures", "texts"])
def test_data_of_any_kind_are_measured(kind: str, store: Store) -> None:
    made = {"PyDataset": lambda: (regression(), Batches()), "structures": two_by_two}
    model, *data = made.get(kind, texts)()

    fit(*data, model=model, own=COUNTED)

    run = store.only_run()
    expected = {
        "PyDataset": 217,
        # 12 x 8, 23 x 1 and 23 x 3 products, biases, a softmax of 3.
        "structures": 2 * (12 * 8 + 23 + 23 * 3) + 8 + 1 + 3 + 5 * 3,
        # A mean of 8 words in 4 dimensions, a dense unit, its bias and its sigmoid.
        "texts": 7 * 4 + 4 + 2 * 4 + 1 + 1,
    }
    assert run.data.metrics["flops/inference"] == expected[kind]
    assert run.data.metrics["flops/training"] > 2 * expected[kind]
    assert run.data.params["batch_size"] == ("32" if kind == "structures" else "20")


def test_an_active_run_is_joined_and_left_open(store: Store) -> None:
    with mlflow.start_run(run_name="mine") as active:
        mlflow.log_param("own", 1)
        fit(X, Y, epochs=2)
        assert mlflow.active_run() is active
        mlflow.log_metric("after", 1)

    run = store.only_run()
    assert (run.info.run_name, run.info.status) == ("mine", "FINISHED")
    assert run.data.params["own"] == "1"
    assert {"after", "loss", "parameters/trainable"} <= run.data.metrics.keys()


def test_what_mlflows_callback_logs_is_not_logged_twice(store: Store) -> None:
    with mlflow.start_run():
        callbacks = [fm_mlflow.CostCallback(**NOTHING), mlflow.keras.MlflowCallback()]
        regression().fit(X, Y, epochs=2, verbose=0, callbacks=callbacks)

    run = store.only_run()
    history = store.client.get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in history] == [0, 1]  # as MLflow counts
    assert "optimizer" not in run.data.params
    assert "learning_rate" not in run.data.params
    assert run.data.params["optimizer_learning_rate"]
    assert {"epoch_seconds", "parameters/trainable"} <= run.data.metrics.keys()


def test_what_other_callbacks_do_is_no_training(store: Store) -> None:
    class Slow(keras.callbacks.Callback):  # type: ignore[misc]  # keras is untyped
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            time.sleep(1)

    callbacks = [Slow(), fm_mlflow.CostCallback(**NOTHING)]
    regression().fit(X, Y, epochs=2, verbose=0, callbacks=callbacks)

    found = measured(store, store.only_run())["throughput/training_per_second"]
    second = store.client.get_metric_history(store.only_run().info.run_id, "epoch_seconds")[1]
    assert found["details"]["epoch_seconds"][1] < second.value - 0.9


def test_an_early_stop_is_logged(store: Store) -> None:
    early = keras.callbacks.EarlyStopping("loss", min_delta=1e9, patience=1)
    callbacks = [early, fm_mlflow.CostCallback(**NOTHING)]
    regression().fit(X, Y, epochs=9, verbose=0, callbacks=callbacks)

    run = store.only_run()
    assert (run.data.params["epochs"], run.data.params["epochs_done"]) == ("9", "2")
    assert "EarlyStopping" in run.data.tags["fm_mlflow.stopped_by"]


class Failing(keras.callbacks.Callback):  # type: ignore[misc]  # keras is untyped
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        raise ValueError("of the script")


def test_a_fit_that_fails_leaves_no_run_that_says_it_did_not(store: Store) -> None:
    callback = fm_mlflow.CostCallback(**NOTHING)
    with pytest.raises(ValueError, match="of the script"):
        regression().fit(X, Y, verbose=0, callbacks=[callback, Failing()])

    regression().fit(X, Y, verbose=0, callbacks=[callback])

    done, failed = store.client.search_runs(["0"])
    assert (done.info.status, failed.info.status) == ("FINISHED", "FAILED")
    assert "did not end" in failed.data.tags["fm_mlflow.error"]


@pytest.mark.parametrize("where", ["step", "begin"])
def test_a_fit_that_failed_is_closed_by_the_next_training(where: str, store: Store) -> None:
    class Stopping(keras.Sequential):  # type: ignore[misc]  # keras is untyped
        def train_step(self, data: Any) -> Any:
            raise KeyboardInterrupt

    class Late(keras.callbacks.Callback):  # type: ignore[misc]  # keras is untyped
        def on_train_begin(self, logs: Any = None) -> None:
            raise KeyboardInterrupt

    model = Stopping([keras.layers.Dense(1)]) if where == "step" else regression()
    model.compile("sgd", "mse")
    late = [Late()] if where == "begin" else []
    with contextlib.suppress(KeyboardInterrupt):
        model.fit(X, Y, verbose=0, callbacks=[fm_mlflow.CostCallback(**NOTHING), *late])

    if where == "step":
        fit(X, Y)
    else:
        with fm_mlflow.track(measure="none"):
            pass

    done, stopped = store.client.search_runs(["0"])
    expected = "KILLED" if where == "step" else "FAILED"  # nobody tells a callback the latter
    assert (done.info.status, stopped.info.status) == ("FINISHED", expected)
    assert mlflow.active_run() is None


def test_what_a_model_was_compiled_with_is_named_as_far_as_it_is_known(store: Store) -> None:
    class Bare(keras.optimizers.SGD):  # type: ignore[misc]  # keras is untyped
        def get_config(self) -> dict[str, Any]:
            return {}

    model = regression()
    model.compile(Bare(0.5), [keras.losses.MeanSquaredError()])
    fit(X, Y, model=model)

    run = store.only_run()
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer"] == "bare"
    assert run.data.params["loss"] == "mean_squared_error"


def test_costs_of_data_that_cannot_be_counted_are_missing(store: Store) -> None:
    model = Scalars()
    model.compile("sgd")
    fit(tf.data.Dataset.from_tensor_slices(X[:3, 0]), model=model)
    run = store.only_run()
    fit(tf.data.Dataset.from_tensor_slices((X[:0], Y[:0])).batch(2))  # no step at all

    assert {each.info.status for each in store.client.search_runs(["0"])} == {"FINISHED"}
    assert run.info.status == "FINISHED"
    assert "batch_size" not in run.data.params
    assert "throughput/training_per_second" not in run.data.metrics
    missing = measured(store, run)["throughput/training_per_second"]
    assert missing["reason"] == "nobody counted them"


def test_nothing_that_fails_here_reaches_the_fit(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("fm_mlflow.scripts.script_run.resident_mib", lambda: 1 / 0)
    callback = fm_mlflow.CostCallback(measure="memory")

    fitted = regression().fit(X, Y, epochs=2, verbose=0, callbacks=[callback])

    assert len(fitted.history["loss"]) == 2
    assert "records no more of this fit: ZeroDivisionError" in caplog.text
    assert store.only_run().info.status == "FAILED"
    caplog.clear()
    monkeypatch.undo()
    with mlflow.start_run():
        for _ in range(2):  # the second has no run of its own
            fit(X, Y)
    assert "open one (nested=True) for each" in caplog.text


@pytest.mark.parametrize(
    ("own", "parameter"),
    [
        ({"measure": "flop"}, "measure"),
        ({"seed": -1}, "seed"),
        ({"params": {"a@b": 1}}, "params"),
    ],
)
def test_a_parameter_that_is_refused_says_what_is_accepted(
    own: dict[str, Any], parameter: str
) -> None:
    with pytest.raises(InputError, match=parameter):
        fm_mlflow.CostCallback(**own)


def test_autologging_without_tensorboard_is_told_before_the_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    autologs = mlflow.utils.autologging_utils.AUTOLOGGING_INTEGRATIONS
    monkeypatch.setitem(autologs, "tensorflow", {"disable": False})
    found: list[object] = [object()]
    monkeypatch.setattr("fm_mlflow.tracking.callers_run.find_spec", lambda _name: found[0])
    fm_mlflow.CostCallback()
    found[0] = None
    with pytest.raises(InputError, match=re.escape("pip install 'fm_mlflow[autolog]'")):
        fm_mlflow.CostCallback()


PROGRAM = """
import os, signal

import keras
import mlflow

import fm_mlflow
from tests.scripts.nets import X, Y, regression

class Interrupting(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        os.kill(os.getpid(), signal.SIGINT)

mlflow.start_run()
callbacks = [fm_mlflow.CostCallback(measure="none"), Interrupting()]
regression().fit(X, Y, verbose=0, callbacks=callbacks)
"""


def test_a_program_that_is_interrupted_leaves_its_run_killed(store: Store) -> None:
    """MLflow's own exit hook would call the run FINISHED."""
    ended = forked.run(
        [sys.executable, "-c", PROGRAM], env=store.environment(PYTHONPATH=str(PROJECT))
    )

    assert ended.returncode == -signal.SIGINT
    run = store.only_run()
    assert run.info.status == "KILLED"
    assert run.data.tags["fm_mlflow.error"] == "KeyboardInterrupt"


def test_the_figures_are_those_of_train(finished: Finished, digits: Dataset, store: Store) -> None:
    """The reference models in a plain `model.fit`: the same counts, to the digit."""
    build = BUILDERS[finished.result.config.model]
    model = build(digits.example_shape, len(digits.class_names))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    images = digits.train.scaled.reshape(-1, *model.input_shape[1:])

    fit(images, digits.train.targets, model=model, own=COUNTED, epochs=2, batch_size=64)

    counted = ("flops/", "parameters/", "estimate/", "size/parameters")
    by_train, own = (
        {name: value for name, value in run.data.metrics.items() if name.startswith(counted)}
        for run in (finished.run, store.only_run())
    )
    assert own == by_train
    assert len(own) > 8
