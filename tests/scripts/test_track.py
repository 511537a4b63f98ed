"""`track` around a script of somebody's own."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import fm_mlflow
from fm_mlflow import measure_model
from fm_mlflow.errors import InputError
from fm_mlflow.fitting.metric_names import MetricNames
from fm_mlflow.measure import memory
from fm_mlflow.scripts.evaluation import evaluate, gives_logits
from tests.quick_costs import quick_costs as quick_costs  # a fixture
from tests.scripts.measured import measured
from tests.scripts.nets import LABELS, X, Y, classifier, regression, two_by_two
from tests.stores import Store

DATA = {"training": (X[:80], Y[:80]), "test": (X[80:], Y[80:])}


def predictions(store: Store, run: mlflow.entities.Run) -> dict[str, Any]:
    path = store.client.download_artifacts(run.info.run_id, "predictions/test.npz")
    with np.load(path) as file:
        return dict(file)


def test_a_script_of_a_regression_is_tracked_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory._process, "trainings", 0)  # as in a process of its own
    with fm_mlflow.track("wide", seed=1, dataset="made up", data=DATA, params={"own": 2}) as run:
        model = regression()
        model.fit(X[:80], Y[:80], epochs=2, verbose=0, callbacks=[run.costs])
        scores = run.evaluate(model, X[80:], Y[80:]).metrics
        run.log_model(model, pd.DataFrame(X[80:88]))  # as an array would be

    logged = store.only_run()
    metrics, params = logged.data.metrics, logged.data.params
    assert (logged.info.run_name, logged.info.status) == ("wide, seed 1", "FINISHED")
    assert (params["seed"], params["dataset"], params["own"]) == ("1", "made up", "2")
    assert len(logged.data.tags["fm_mlflow.dataset_digest"]) == 64
    assert logged.inputs is not None
    assert [each.tags[0].value for each in logged.inputs.dataset_inputs] == ["training", "test"]
    found = predictions(store, logged)
    np.testing.assert_array_equal(found["target"].ravel(), Y[80:])
    errors = np.abs(found["prediction"].ravel() - Y[80:])
    assert metrics["test_mae"] == scores["test_mae"] == pytest.approx(errors.mean(), rel=1e-5)
    # Other tests' models may be freed meanwhile, by more than this small fit takes.
    taken = measured(store, logged)["memory/training_rss_mib"]
    assert taken["value"] >= 0 if taken["value"] is not None else "freed more" in taken["reason"]
    assert metrics["memory/baseline_rss_mib"] < metrics["memory/peak_rss_mib"]
    assert metrics["flops/training_total"] > 2 * 80 * metrics["flops/training_core"]
    # Loaded as anybody would.
    assert logged.outputs is not None
    (output,) = logged.outputs.model_outputs
    loaded = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    np.testing.assert_allclose(loaded.predict(X[80:]), found["prediction"], rtol=1e-5)
    linked = mlflow.get_logged_model(output.model_id).metrics
    assert "test_mae" in {each.key for each in linked or ()}


def test_classes_are_evaluated_by_label_and_probability(store: Store) -> None:
    with fm_mlflow.track(measure="none", seed=1) as run:
        model = classifier()
        model.fit(X, LABELS, verbose=0, callbacks=[run.costs])
        data = tf.data.Dataset.from_tensor_slices((X, LABELS))
        shuffled = run.evaluate(model, data.shuffle(100).batch(30)).metrics
        run.evaluate(model, data.batch(30))

    logged = store.only_run()
    assert logged.info.run_name == "sequential, seed 1"
    found = predictions(store, logged)
    assert found["probability"].shape == (100, 3)
    np.testing.assert_array_equal(found["label"], LABELS)
    right = found["probability"].argmax(axis=1) == LABELS
    assert logged.data.metrics["test_accuracy"] == right.mean()
    assert shuffled["test_accuracy"] == right.mean()


def test_binary_and_one_hot_classes_are_classes_too(store: Store) -> None:
    binary = keras.Sequential([keras.Input((12,)), keras.layers.Dense(1)])
    binary.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    one_hot = keras.Sequential([keras.Input((12,)), keras.layers.Dense(3, activation="softmax")])
    one_hot.compile("sgd", "categorical_crossentropy")

    with fm_mlflow.track(measure="none") as run:
        two = run.evaluate(binary, X, LABELS > 0).predictions
        three = run.evaluate(one_hot, X, np.eye(3)[LABELS]).predictions

    np.testing.assert_array_equal(two["label"], LABELS > 0)
    logits = binary.predict(X, verbose=0)[:, 0]
    np.testing.assert_allclose(two["probability"][:, 1], 1 / (1 + np.exp(-logits)), rtol=1e-5)
    np.testing.assert_array_equal(three["label"], LABELS)


def test_several_outputs_have_scores_but_no_file_of_predictions(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    model, inputs, targets = two_by_two()
    with fm_mlflow.track("two", measure="none") as run:
        model.fit(inputs, targets, verbose=0, callbacks=[run.costs])
        scores = run.evaluate(model, inputs, targets).metrics

    assert {"test_loss", "test_price_loss", "test_kind_loss"} <= scores.keys()
    assert "no predictions/test.npz: the model has several outputs" in caplog.text


def test_a_loop_of_ones_own_is_timed_and_measured(store: Store) -> None:
    with fm_mlflow.track("loop", measure="flops") as run:
        model = regression()
        for _ in range(2):
            with run.epoch(examples=100) as metrics:
                for first in range(0, 100, 20):
                    rows = slice(first, first + 20)
                    metrics["loss"] = model.train_on_batch(X[rows], Y[rows])[0]
        run.measure(model, X, Y, batch_size=20)

    logged = store.only_run()
    steps = store.client.get_metric_history(logged.info.run_id, "loss")
    assert [point.step for point in steps] == [1, 2]
    assert (logged.data.params["epochs"], logged.data.params["batch_size"]) == ("2", "20")
    assert logged.data.metrics["flops/training_core"] == 2 * (2 * 12 * 8) + 3 * (2 * 8)
    assert logged.data.metrics["throughput/training_per_second"] > 0


def test_memory_of_a_later_training_is_left_out(store: Store) -> None:
    for _ in range(2):
        with fm_mlflow.track(measure="memory") as run:
            model = regression()
            model.fit(X, Y, verbose=0, callbacks=[run.costs])

    last = store.client.search_runs(["0"])[0]
    assert "memory/peak_rss_mib" in last.data.metrics
    assert "memory/training_rss_mib" not in last.data.metrics


def test_two_fits_are_one_run_with_epochs_that_follow_each_other(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with fm_mlflow.track("tuned", measure="none") as run:
        model = regression()
        model.fit(X, Y, epochs=2, verbose=0, callbacks=[run.costs])
        model.fit(X, Y, epochs=1, batch_size=50, verbose=0, callbacks=[run.costs])
        model.fit(X, Y, initial_epoch=3, epochs=4, verbose=0, callbacks=[run.costs])

    steps = store.client.get_metric_history(store.only_run().info.run_id, "loss")
    assert [point.step for point in steps] == [1, 2, 3, 4]
    assert "refused" not in caplog.text


def test_data_of_any_kind_are_logged_by_digest(store: Store) -> None:
    columns = [f"c{index}" for index in range(12)]
    kinds = [
        (pd.DataFrame(X, columns=columns), pd.Series(Y)),
        ([X, X[:, :2]], tf.constant(Y)),
        ({"a": X, "b": LABELS}, {"c": Y, "d": Y}),
        [[1.0, 2.0], [3.0, 4.0]],
        ["a film", "another"],
    ]
    for data in kinds:
        with fm_mlflow.track(measure="none", data={"training": data}):
            pass

    runs = store.client.search_runs(["0"])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len({run.data.tags["fm_mlflow.dataset_digest"] for run in runs}) == len(kinds)
    assert all(run.inputs is not None and run.inputs.dataset_inputs for run in runs)


def test_a_run_that_cannot_hold_what_is_said_of_it_is_closed(store: Store) -> None:
    with mlflow.start_run():
        mlflow.log_param("seed", 1)
        before = set(threading.enumerate())
        with pytest.raises(InputError, match="seed"), fm_mlflow.track(seed=2, measure="none"):
            pass
        assert set(threading.enumerate()) <= before


def test_ctrl_c_ends_the_run_as_killed_and_the_program_as_python_does(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt) as ended, fm_mlflow.track(measure="none"):
        os.kill(os.getpid(), signal.SIGINT)

    assert ended.type is KeyboardInterrupt  # of a subclass, Python makes the exit code 1
    assert store.only_run().info.status == "KILLED"


def test_an_error_of_the_script_ends_the_run_as_failed(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), fm_mlflow.track("broken", measure="none"):
        raise ZeroDivisionError("of the script")

    run = store.only_run()
    assert run.info.status == "FAILED"
    assert run.data.tags["fm_mlflow.error"] == "ZeroDivisionError: of the script"


@pytest.mark.parametrize(
    ("given", "parameter"),
    [
        ({"data": {"train": X}}, "data"),
        ({"data": X}, "data"),
        ({"data": {"training": tf.data.Dataset.range(3)}}, "data"),
        ({"data": {"training": [[1], [1, 2]]}}, "data"),
        ({"params": {"a\nb": 1}}, "params"),
        ({"measure": "speed"}, "measure"),
        ({"seed": 2**40}, "seed"),
        ({"name": "\0"}, "name"),
    ],
)
def test_what_is_refused_starts_nothing(
    given: dict[str, Any], parameter: str, store: Store
) -> None:
    with pytest.raises(InputError, match=f"^{parameter}: "):
        fm_mlflow.track(**given)
    assert not store.client.search_runs(["0"])


def test_a_model_is_measured_without_a_store(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    costs = measure_model(regression(), X, Y, batch_size=20, measure="flops")

    assert costs["flops/inference"].value == 217
    assert costs["flops/training_core"].value == 2 * (2 * 12 * 8) + 3 * (2 * 8)
    assert costs["latency/p50_ms"].value is None
    assert "parameters/trainable" in str(costs)
    assert costs.to_frame().loc["flops/inference", "value"] == 217
    assert not list(tmp_path.iterdir())
    for part in ("memory", "energy"):
        with pytest.raises(InputError, match="the rest is measured of a training"):
            measure_model(regression(), X, measure=part)


def own_crossentropy(labels: Any, outputs: Any) -> Any:
    return keras.losses.sparse_categorical_crossentropy(labels, outputs, from_logits=True)


class OwnSparseCrossentropy(keras.losses.Loss):  # type: ignore[misc]  # keras is untyped
    def call(self, labels: Any, outputs: Any) -> Any:
        return own_crossentropy(labels, outputs)


@pytest.mark.parametrize(
    ("loss", "logits"),
    [
        ("sparse_categorical_crossentropy", False),
        (keras.losses.categorical_crossentropy, False),
        (keras.losses.BinaryCrossentropy(from_logits=True), True),
        (keras.losses.CategoricalFocalCrossentropy(), False),
        (own_crossentropy, None),
        (OwnSparseCrossentropy(), None),
        ("mse", None),
    ],
)
def test_a_loss_of_ones_own_does_not_say_whether_it_takes_logits(
    loss: Any, logits: bool | None
) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", loss)
    assert gives_logits(model) is logits


@pytest.mark.parametrize("activation", ["softmax", "linear"])
def test_of_a_loss_of_ones_own_the_outputs_say_what_they_are(activation: str) -> None:
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(3, activation=activation)])
    model.compile("sgd", OwnSparseCrossentropy())
    outputs = model.predict(X, verbose=0)
    found = evaluate(model, X, LABELS, None, MetricNames()).predictions["probability"]
    expected = outputs if activation == "softmax" else tf.nn.softmax(outputs).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
