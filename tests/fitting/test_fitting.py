"""The training loop against `model.fit` on the same batches; models and callbacks of all kinds."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tensorflow.python.framework.func_graph import FuncGraph

from fm_mlflow.errors import TrainingError
from fm_mlflow.fitting import Examples, FitResult, compile_ahead, epoch_order
from fm_mlflow.fitting.cpu import onednn
from fm_mlflow.fitting.cpu.parts import parts_of
from fm_mlflow.fitting.examples import source_of
from fm_mlflow.fitting.hooks import TEST_HOOKS, TRAIN_HOOKS, hears, is_mean_over_examples
from tests.fitting.nets import (
    BATCH,
    CLASSES,
    EPOCHS,
    IMAGES,
    LABELS,
    ROUNDING,
    SEED,
    TRAINING,
    VALIDATION,
    as_keras,
    assert_same,
    convolutional,
    dense,
    example_wise,
    run,
)


def with_dropout() -> keras.Model:
    keras.utils.set_random_seed(1)
    hidden = [layers.Flatten(), layers.Dense(16, activation="relu"), layers.Dropout(0.3)]
    model = keras.Sequential(
        [keras.Input((8, 8)), *hidden, layers.Dense(CLASSES, activation="softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


class OwnStep(keras.Model):  # type: ignore[misc]  # keras is untyped
    """A step of the user's own, with logs of its own."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self.compute_loss(x=x, y=y, y_pred=self(x, training=True)))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        norm = tf.linalg.global_norm(gradients)
        return {"loss": loss, "gradient_norm": norm}


class OwnFit(keras.Model):  # type: ignore[misc]
    """A model that builds its own training function: only `model.fit` can serve it."""

    def make_train_function(self, force: bool = False) -> Any:
        return super().make_train_function(force)


@cache
def by_keras(build: Callable[[], keras.Model]) -> tuple[dict[str, list[float]], list[Any]]:
    """The losses and the weights after `model.fit`, without XLA, which rounds differently."""
    model = build()
    model.jit_compile = False
    return as_keras(model, TRAINING, VALIDATION), model.get_weights()


@cache
def of_dense() -> FitResult:
    """A fit that several tests compare theirs with."""
    return run(dense())


def own_step() -> keras.Model:
    return dense(OwnStep, metrics=None)


@pytest.mark.parametrize(
    ("build", "like", "compiler"),
    [
        (dense, dense, "xla"),
        (convolutional, convolutional, "tensorflow"),
        (with_dropout, with_dropout, "tensorflow, fused Adam"),
        (lambda: dense(jit_compile=True), dense, "xla, each step"),
        (own_step, own_step, "xla"),
        (lambda: dense(OwnFit), dense, "keras"),
        (lambda: dense(run_eagerly=True), dense, "keras"),
    ],
    ids=["dense", "convolutional", "dropout", "jit_compile", "own step", "own fit", "eager"],
)
def test_the_losses_are_those_of_keras(
    build: Callable[[], keras.Model], like: Callable[[], keras.Model], compiler: str
) -> None:
    result = run(model := build())
    assert result.compiler == compiler
    history, weights = by_keras(like)
    assert_same(result, history)
    for ours, theirs in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert int(model.optimizer.iterations) == EPOCHS * 5
    if compiler == "keras" or isinstance(model, OwnStep):
        assert result.evaluate is None
    else:
        assert result.evaluate is not None
        assert result.evaluate(VALIDATION)["loss"] == result.history["val_loss"][-1]


@pytest.mark.usefixtures("two_cores")
def test_a_batch_in_parts_is_the_same_batch() -> None:
    result = run(model := example_wise())
    assert result.compiler == "tensorflow, batches in 2 parts, fused Adam"
    history, weights = by_keras(example_wise)
    assert_same(result, history)
    for ours, theirs in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert int(model.optimizer.iterations) == EPOCHS * 5


@pytest.mark.usefixtures("two_cores")
def test_a_batch_in_parts_of_several_inputs_and_weights() -> None:
    def build() -> keras.Model:
        keras.utils.set_random_seed(1)
        image, size = keras.Input((8, 8, 1), name="image"), keras.Input((1,), name="size")
        hidden = layers.Flatten()(layers.Conv2D(3, 3, activation="relu")(image))
        label = layers.Dense(CLASSES, name="label")(layers.Concatenate()([hidden, size]))
        model = keras.Model(
            {"image": image, "size": size}, [label, layers.Dense(1, name="mean")(hidden)]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", [loss, "mse"])
        return model

    def examples(rows: slice) -> Examples:
        images = IMAGES[rows, ..., None].astype(np.float32) / 255
        inputs = {"image": images, "size": images.mean(axis=(1, 2))}
        weights = np.linspace(0.5, 2, len(images), dtype=np.float32)
        labels = LABELS[rows]
        return Examples(inputs, (labels, labels.astype(np.float32)), (weights, weights[::-1]))

    training, validation = examples(slice(150)), examples(slice(150, 200))
    result = run(build(), training=training, validation=validation)
    assert result.compiler == "tensorflow, batches in 2 parts, fused Adam"
    assert_same(result, as_keras(build(), training, validation))


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize(
    "layer",
    [
        layers.BatchNormalization(),
        layers.Dense(4, activity_regularizer="l2"),
        layers.Activation(lambda tensor: tensor - keras.ops.mean(tensor, axis=0)),
        layers.Softmax(axis=0),
        layers.Lambda(lambda tensor: tensor / keras.ops.max(tensor)),
    ],
    ids=["batch norm", "activity", "own activation", "axis of examples", "own layer"],
)
def test_what_looks_at_the_batch_gets_it_whole(layer: keras.Layer) -> None:
    assert parts_of(example_wise(layer), BATCH) == 1
    assert parts_of(example_wise(), BATCH) == 2  # which trains: see above


@pytest.mark.usefixtures("two_cores")
def test_a_batch_that_stays_whole_is_trained_so() -> None:
    ahead = compile_ahead(example_wise(layers.BatchNormalization()), TRAINING, BATCH, SEED)
    assert ahead is not None
    with closing(ahead):
        assert ahead.steps.description == "tensorflow, fused Adam"


@pytest.mark.usefixtures("two_cores")
def test_a_whole_batch_gets_onednn_in_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "is_left_off", onednn.is_built_in)
    replaced: list[int] = []
    use_onednn = onednn.use_onednn

    def counted(definition: Any) -> int:
        replaced.append(use_onednn(definition))
        return replaced[-1]

    monkeypatch.setattr(onednn, "use_onednn", counted)
    result = run(model := convolutional())
    if onednn.is_built_in():
        # The convolution and its two gradients, the pooling and its gradient.
        assert replaced == [5]
        assert result.compiler == "tensorflow, session, oneDNN"
    history, weights = by_keras(convolutional)
    assert_same(result, history)
    for ours, theirs in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


class LooksAtItsWeights(keras.Model):  # type: ignore[misc]
    """A step that calls Python, which sees the weights as they are."""

    def train_step(self, data: Any) -> Any:
        logs = super().train_step(data)
        bias = self.layers[-1].bias
        logs["bias"] = tf.py_function(lambda: tf.reduce_sum(tf.abs(bias.value)), [], tf.float32)
        return logs


@pytest.mark.usefixtures("two_cores")
def test_a_step_that_calls_python_stays_out_of_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "is_left_off", lambda: True)
    inputs = keras.Input((8, 8, 1))
    hidden = layers.Flatten()(layers.Conv2D(2, 3)(inputs))
    model = LooksAtItsWeights(inputs, layers.Dense(CLASSES)(hidden))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    training = Examples(IMAGES[:128, ..., None], LABELS[:128], divisor=255)
    validation = Examples(IMAGES[150:, ..., None], LABELS[150:], divisor=255)
    result = run(model, training=training, validation=validation, epochs=1)
    # As it was before or after the last of four steps, and not as it was before the first: zero.
    bias = np.abs(model.layers[-1].bias.numpy()).sum()
    assert result.history["bias"] == [pytest.approx(bias, rel=0.5)]


def test_several_inputs_outputs_and_weights() -> None:
    def build() -> keras.Model:
        keras.utils.set_random_seed(1)
        image, size = keras.Input((8, 8), name="image"), keras.Input((1,), name="size")
        joined = layers.Concatenate()([layers.Flatten()(image), size])
        outputs = {
            "kind": layers.Dense(CLASSES, name="kind")(joined),
            "bright": layers.Dense(1, name="bright")(joined),
        }
        model = keras.Model({"image": image, "size": size}, outputs)
        model.compile(
            "rmsprop",
            {"kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "bright": "mse"},
            loss_weights={"kind": 1.0, "bright": 0.5},
            metrics={"kind": ["accuracy"]},
            weighted_metrics={"bright": ["mae"]},
        )
        return model

    def examples(rows: slice) -> Examples:
        images = IMAGES[rows] / 255  # float64, as users have it
        bright = images.mean(axis=(1, 2))[:, np.newaxis].astype(np.float32)
        weights = 1 + images[:, 0, 0]
        return Examples(
            {"image": images, "size": bright},
            {"kind": LABELS[rows], "bright": bright},
            {"kind": weights, "bright": weights},
        )

    training, validation = examples(slice(150)), examples(slice(150, None))
    result = run(build(), training=training, validation=validation)
    assert_same(result, as_keras(build(), training, validation))
    assert {"bright_mae", "val_kind_accuracy"} <= set(result.history)


def test_class_weights() -> None:
    weights = {0: 3.0, 2: 0.5}
    result = run(dense(weighted_metrics=["accuracy"]), class_weight=weights)
    expected = np.array([weights.get(int(label), 1.0) for label in LABELS[:150]])
    weighted = Examples(TRAINING.inputs, TRAINING.labels, expected, 255)
    other = dense(weighted_metrics=["accuracy"])
    assert_same(result, as_keras(other, weighted, VALIDATION))
    with pytest.raises(ValueError, match="no other weights"):
        weighted.weighted(weights)


def test_larger_than_memory_is_the_same_training() -> None:
    resident = of_dense()
    # A window of two batches; the last one of an epoch is filled up.
    streamed = run(dense(), resident_bytes=2 * BATCH * (64 + 4))
    of_time: dict[str, list[float]] = {"epoch_seconds": []}
    assert {**streamed.history, **of_time} == {**resident.history, **of_time}
    windows = source_of(TRAINING, BATCH, 2 * BATCH * (64 + 4))(epoch_order(0, 0, 150))
    assert [(window.steps, window.rest) for window in windows] == [(2, 0), (2, 0), (0, 22)]


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("build", [convolutional, example_wise])
def test_bit_for_bit_and_exactly_resumed(build: Callable[[], keras.Model]) -> None:
    def weights(*ends: int) -> list[Any]:
        model = build()
        model = keras.Sequential([layers.Dropout(0.3), model])
        model.build((None, 8, 8))
        model.compile("adam", "sparse_categorical_crossentropy")
        for begin, end in zip((0, *ends), ends, strict=False):
            run(model, initial_epoch=begin, epochs=end)
        return [variable.numpy() for variable in model.variables]

    for one, two in zip(weights(2), weights(1, 2), strict=True):
        assert one.tobytes() == two.tobytes()


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    order = epoch_order(1, 2, 1000)
    assert order.dtype == np.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    np.testing.assert_array_equal(order, epoch_order(1, 2, 1000))
    assert not np.array_equal(order, epoch_order(1, 3, 1000))
    assert not np.array_equal(order, epoch_order(2, 2, 1000))
    # Another NumPy must not change what an interrupted run goes on with.
    assert epoch_order(0, 0, 10).tolist() == [4, 6, 2, 7, 3, 5, 9, 0, 8, 1]


class Hears(keras.callbacks.Callback):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, int]] = []
        self.losses: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.heard.append(("begin", batch))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.heard.append(("end", batch))
        self.losses.append(logs["loss"])

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self.heard.append(("test", batch))


def test_hooks_for_batches_are_called_as_by_keras() -> None:
    ours, theirs = Hears(), Hears()
    one: list[int] = []
    hook = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: one.append(batch))  # noqa: ARG005
    result = run(dense(), [ours, hook])
    assert result.compiler == "tensorflow, fused Adam"
    as_keras(dense(), TRAINING, VALIDATION, callbacks=[theirs])
    assert ours.heard == theirs.heard
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=ROUNDING)
    assert one == [*range(5)] * EPOCHS
    assert hears([hook], TRAIN_HOOKS)  # alone, too
    assert not hears([hook], TEST_HOOKS)


def test_callbacks_steer_the_fit(tmp_path: Path) -> None:
    saved = tmp_path / "best.keras"
    rates = {0: 0.01, 1: 0.001}
    callbacks = [
        keras.callbacks.LearningRateScheduler(lambda epoch: rates.get(epoch, 0.0)),
        keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=1, factor=0.5),
        keras.callbacks.EarlyStopping(monitor="val_loss", min_delta=1e9, patience=2),
        keras.callbacks.ModelCheckpoint(saved),
    ]
    model = dense()
    result = run(model, callbacks, epochs=50)
    assert result.compiler == "xla"  # none of them looks at single batches
    assert len(result.history["loss"]) == 3
    assert result.history["learning_rate"][:2] == [0.01, 0.001]
    assert model.history.epoch == [0, 1, 2]
    for ours, theirs in zip(
        model.get_weights(), keras.models.load_model(saved).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_other_examples_are_evaluated_as_by_keras() -> None:
    result = run(model := dense(), epochs=1)
    assert result.evaluate is not None
    # Another number of them, of whole batches and a smaller one.
    inputs, labels = np.tile(IMAGES, (2, 1, 1)), np.tile(LABELS, 2)
    scaled = inputs / np.float32(255)
    expected = model.evaluate(scaled, labels, return_dict=True, verbose=0)
    for other in (
        Examples(inputs, labels, divisor=255),
        Examples(scaled, labels.astype(np.int32)),  # of other types than those of the fit
        Examples(inputs.astype(np.int64), labels, divisor=255),
    ):
        assert result.evaluate(other) == pytest.approx(expected, rel=ROUNDING)


def test_after_a_callback_that_may_have_changed_the_model_keras_evaluates() -> None:
    assert run(dense(), [keras.callbacks.Callback()], epochs=1).evaluate is None


class Penalised(keras.layers.Layer):  # type: ignore[misc]
    def call(self, inputs: Any) -> Any:
        self.add_loss(keras.ops.sum(keras.ops.square(inputs)))
        return inputs


@pytest.mark.parametrize(
    ("loss", "within", "is_mean"),
    [
        ("categorical_crossentropy", layers.Flatten(), True),
        (keras.losses.CategoricalCrossentropy(label_smoothing=0.1), layers.Flatten(), True),
        (keras.losses.CategoricalCrossentropy(reduction="sum"), layers.Flatten(), False),
        ("dice", layers.Flatten(), False),
        (keras.losses.Tversky(), layers.Flatten(), False),
        (lambda true, predicted: predicted - true, layers.Flatten(), False),
        ("categorical_crossentropy", Penalised(), False),
        ("categorical_crossentropy", keras.Sequential([Penalised()]), False),
        ("categorical_crossentropy", layers.TimeDistributed(Penalised()), False),
    ],
)
def test_which_figures_do_not_depend_on_the_batches(
    loss: Any, within: keras.Layer, is_mean: bool
) -> None:
    model = keras.Sequential([keras.Input((2, 3)), within, layers.Flatten(), layers.Dense(2)])
    model.compile("sgd", loss, metrics=["accuracy", "auc"])
    assert is_mean_over_examples(model) == is_mean


def test_a_callback_stops_within_an_epoch() -> None:
    class Stops(Hears):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            super().on_train_batch_end(batch, logs)
            self.model.stop_training = batch == 1

    stops = Stops()
    result = run(dense(), [stops])
    assert [batch for what, batch in stops.heard if what == "end"] == [0, 1]
    assert len(result.history["val_loss"]) == 1


def test_a_backup_is_taken_up(tmp_path: Path) -> None:
    class Fails(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 2:
                raise RuntimeError("power failure")

    def backup() -> keras.callbacks.Callback:
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    with pytest.raises(RuntimeError, match="power"):
        run(dense(), [backup(), Fails()])
    resumed = run(dense(), [backup()])
    assert resumed.history["loss"] == of_dense().history["loss"][2:]


def test_progress_is_heard_from_the_first_step_on() -> None:
    heard: list[tuple[int, int]] = []
    run(dense(), epochs=1, batch_size=2, on_batch=lambda done, total: heard.append((done, total)))
    assert heard[0] == (1, 75)
    assert heard[-1] == (75, 75)
    assert len(heard) < 20
    assert sorted(heard) == heard


@pytest.mark.parametrize("build", [dense, example_wise])
def test_fits_keep_no_graphs(build: Callable[[], keras.Model]) -> None:
    """TensorFlow keeps graphs with a gradient of one's own; Keras' optimizers have one."""

    def graphs() -> int:
        gc.collect()
        return sum(isinstance(each, FuncGraph) for each in gc.get_objects())

    def fit_once() -> None:
        model = build()
        # Metrics have their variables then: a step that makes variables is traced twice.
        model.test_on_batch(IMAGES[:2] / 255, LABELS[:2])
        run(model, epochs=1)

    before = graphs()
    fit_once()
    assert graphs() == before


@pytest.mark.parametrize("build", [dense, lambda: dense(run_eagerly=True)])
def test_a_loss_that_is_no_number_ends_the_fit(build: Callable[[], keras.Model]) -> None:
    reported = []
    model = build()
    model.optimizer.learning_rate = 1e30
    with pytest.raises(TrainingError, match=r"loss became (nan|inf) at epoch 1"):
        run(model, on_epoch=lambda epoch, _metrics: reported.append(epoch))
    assert reported == [1]
