"""What a run of a script says of its fits: validation, the epoch that was kept, several fits."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
import tensorflow as tf

import fm_mlflow
from fm_mlflow import keys
from fm_mlflow.errors import InputError
from fm_mlflow.scripts.fit_observer import Spec
from fm_mlflow.scripts.fit_surroundings import Given, examples_of_fit
from fm_mlflow.settings.selection import Choice
from fm_mlflow.tracking.find_runs import find_runs
from tests.scripts.nets import LABELS, Batches, X, Y, classifier, regression
from tests.stores import Store

HELD_OUT, TEST = (X[60:80], Y[60:80]), (X[80:], Y[80:])


def fit(**options: Any) -> None:
    callbacks = [fm_mlflow.CostCallback(measure="none")]
    regression().fit(X[:60], Y[:60], verbose=0, callbacks=callbacks, **options)


def is_held_out() -> bool:
    (run,) = find_runs(Choice()).unfinished  # it has no accuracy
    return run.held_out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"validation_split": 0.25}, True),
        ({"validation_data": HELD_OUT}, True),
        ({"validation_data": tf.data.Dataset.from_tensor_slices(TEST).batch(5)}, True),
        ({}, False),
    ],
    ids=["split", "arrays", "tf.data", "none"],
)
def test_held_out_data_are_noted(store: Store, options: Any, expected: bool) -> None:
    fit(**options)
    run = store.only_run()
    assert is_held_out() is expected
    assert run.data.params.get("validation_split") == (
        "0.25" if "validation_split" in options else None
    )


@pytest.mark.parametrize("how", ["evaluated", "a copy", "by digest", "tf.data", "another"])
def test_a_test_set_that_the_fit_validates_on_is_not_held_out(store: Store, how: str) -> None:
    batched = tf.data.Dataset.from_tensor_slices(TEST).batch(5)
    validation = {"tf.data": batched, "another": HELD_OUT}.get(how, TEST)
    data = {"test": TEST} if how == "by digest" else None
    with fm_mlflow.track(measure="none", data=data, quiet=True) as run:
        model = regression()
        model.fit(X[:60], Y[:60], validation_data=validation, verbose=0, callbacks=[run.costs])
        if how == "tf.data":
            run.evaluate(model, batched)
        elif how != "by digest":
            run.evaluate(model, TEST[0].copy() if how == "a copy" else TEST[0], TEST[1])

    assert is_held_out() is (how == "another")


def test_the_figures_of_the_weights_that_are_kept_are_the_models(store: Store) -> None:
    losses: list[float] = []

    class Worse(keras.callbacks.Callback):  # type: ignore[misc]  # keras is untyped
        """Spoils the weights after the second epoch."""

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.model.optimizer.learning_rate = 0.0 if epoch >= 2 else 0.01
            if epoch >= 2:
                self.model.set_weights([each + 0.5 for each in self.model.get_weights()])

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            losses.append(logs["val_loss"])

    with fm_mlflow.track("kept", measure="none") as run:
        model = regression()
        early = keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True)
        callbacks = [Worse(), early, run.costs]
        model.fit(X, Y, epochs=9, validation_data=HELD_OUT, verbose=0, callbacks=callbacks)

    logged = store.only_run()
    best = int(np.argmin(losses)) + 1
    assert (best, len(losses)) == (2, 4)
    assert logged.data.tags[keys.KEPT_EPOCH] == logged.data.tags[keys.BEST_EPOCH] == str(best)
    (record,) = find_runs(Choice(), "val_loss").runs
    assert record.metrics["val_loss"] == pytest.approx(losses[best - 1])
    assert record.metrics["val_loss"] == pytest.approx(model.evaluate(*HELD_OUT, verbose=0)[0])
    assert logged.data.metrics["val_loss"] == pytest.approx(losses[-1])  # the curve's last point
    assert f"weights of epoch {best}" in logged.data.tags[keys.MLFLOW_RUN_NOTE]


def test_several_fits_say_what_the_later_ones_did_otherwise(store: Store) -> None:
    with fm_mlflow.track("tuned", measure="none") as run:
        model = regression()
        early = keras.callbacks.EarlyStopping("loss", min_delta=1e9, patience=1)
        model.fit(X, Y, epochs=2, batch_size=32, verbose=0, callbacks=[run.costs])
        model.compile("adam", "mse")
        model.fit(X, Y, epochs=9, batch_size=50, verbose=0, callbacks=[early, run.costs])

    params = store.only_run().data.params
    assert (params["epochs"], params["batch_size"], params["optimizer"]) == ("2", "32", "sgd")
    assert {name: value for name, value in params.items() if name.startswith("fit")} == {
        "fits": "2",
        "fit_2/epochs": "9",
        "fit_2/batch_size": "50",
        "fit_2/optimizer": "adam",
        "fit_2/learning_rate": "0.001",
    }
    assert (params["epochs_done"], params["best_epoch"]) == ("4", "3")  # of all that it did


def test_optimizers_of_ones_own_are_named_instead_of_the_default(store: Store) -> None:
    class Pair(keras.Model):  # type: ignore[misc]  # keras is untyped
        def __init__(self) -> None:
            super().__init__()
            self.net = keras.layers.Dense(1)

        def compile(self, first: Any, second: Any) -> None:
            super().compile(loss="mse")
            self.first, self.second = first, second

        def call(self, x: Any) -> Any:
            return self.net(x)

    model = Pair()
    model.compile(keras.optimizers.Adam(0.5), keras.optimizers.SGD(0.25))
    model.fit(X, Y, verbose=0, callbacks=[fm_mlflow.CostCallback(measure="none")])

    assert store.only_run().data.params["optimizer"] == "first: adam (0.5), second: sgd (0.25)"


def test_class_weights_are_among_what_the_step_receives() -> None:
    spec = Spec((None,), "float32")
    inputs, targets, weights = examples_of_fit(Given(X, LABELS), (None, None, spec))[0]
    assert (inputs.shape, targets.shape, weights.shape) == ((100, 12), (100,), (100,))
    assert weights.dtype == "float32"


def test_drawing_examples_is_not_silent_and_leaves_pythons_random_state(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    class Random(Batches):
        def __getitem__(self, index: int) -> Any:
            np.random.random()
            return super().__getitem__(index)

    data = Random()
    np.random.seed(1)
    before = str(np.random.get_state())
    examples_of_fit(Given(data), None)
    assert str(np.random.get_state()) == before
    shuffled = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(100, seed=1).batch(20)
    for number in range(2):
        callbacks = [fm_mlflow.CostCallback(measure="none", quiet=True)]
        regression().fit(shuffled, verbose=0, callbacks=callbacks)
        assert ("moved on by a pass" in caplog.text) is (number == 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"params": {"batch_size": 5}}, "params: received 'batch_size'.*the fit says it"),
        ({"params": {"seed": 5}}, "params: received 'seed'.*there is an argument seed"),
        ({"params": [("a", 1)]}, "params: received 'list', accepted: a mapping"),
        ({"measure": ["flops"]}, "measure: received"),
        ({"measure": None}, "measure: received"),
        ({"name": 5}, "name: received 5"),
        ({"seed": "a"}, "seed: received 'a'"),
        ({"quiet": "perhaps"}, "quiet: received"),
        ({"flush_timeout": -1}, "flush_timeout: received -1"),
    ],
)
@pytest.mark.parametrize("entry", [fm_mlflow.CostCallback, fm_mlflow.track])
def test_what_is_refused_says_what_is_accepted(
    store: Store, entry: Any, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        entry(**given)
    assert not store.client.search_runs(["0"])


def test_a_script_is_told_where_its_run_is_unless_it_wants_quiet(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    for quiet in (False, True):
        with fm_mlflow.track("told", measure="none", quiet=quiet) as run:
            model = regression()
            model.fit(X, Y, verbose=0, callbacks=[run.costs])
            run.evaluate(model, *TEST)
            run_id = run.run_id
        out, told = capfd.readouterr()
        assert run_id not in out
        if quiet:
            assert run_id not in told  # TensorFlow may have said something
        else:
            assert f"run {run_id} (told) is in {store.uri}" in told
            assert f"{store.uri} fm-mlflow compare --experiment 0 --metric test_mae" in told


def test_warnings_that_are_errors_stop_neither_the_callback_nor_the_block(store: Store) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fm_mlflow.track("strict", data={"training": (X, LABELS)}, measure="flops") as run:
            model = classifier()
            model.fit(X, LABELS, verbose=0, callbacks=[run.costs])
            run.evaluate(model, X, LABELS)
            run.log_model(model, X[:8])

    logged = store.only_run()
    assert logged.info.status == "FINISHED"
    assert logged.data.metrics["flops/training"] > 0
    assert logged.outputs is not None
    assert mlflow.active_run() is None
