"""What a model takes and gives: read from it, whatever its layers, types, loss and optimizers."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from mlflow.artifacts import download_artifacts
from mlflow.pyfunc import scoring_server
from pyarrow import parquet

from fm_mlflow import ModelError, predict, train
from fm_mlflow.data.dataset import Dataset
from fm_mlflow.measure import measure_latency
from fm_mlflow.measure.measurement import metrics
from fm_mlflow.registration.findings import from_bytes
from fm_mlflow.registration.fresh_process import measure
from fm_mlflow.settings.config import TrainConfig
from fm_mlflow.training.compilation import loss_takes, params_of
from fm_mlflow.training.models import BuiltModel, build_model
from tests.quick_costs import quick_costs as quick_costs  # a fixture
from tests.stores import Store
from tests.trained import DIGITS

CROSSENTROPY = keras.losses.sparse_categorical_crossentropy
CrossEntropy = keras.losses.SparseCategoricalCrossentropy
ONE_EPOCH = {**DIGITS, "epochs": 1}


def build(function: Callable[[], object], digits: Dataset) -> BuiltModel:
    return build_model(TrainConfig(model="tests:it", dataset="digits"), digits, function)


def net(*last: Any, dtype: Any = None, units: int = 10) -> keras.Model:
    """Return a classifier that ends in these layers."""
    return keras.Sequential(
        [keras.Input((28, 28)), layers.Flatten(), layers.Dense(units, dtype=dtype), *last]
    )


def compiled(model: keras.Model, loss: Any, **more: Any) -> keras.Model:
    model.compile("adam", loss, **more)
    return model


class Subclassed(keras.Model):  # type: ignore[misc]
    """A model whose graph Keras does not know."""

    def __init__(self, give: Callable[[Any], Any], **settings: Any) -> None:
        super().__init__(**settings)
        self.give, self.dense = give, layers.Dense(10)

    def call(self, inputs: Any) -> Any:
        return self.give(self.dense(keras.ops.reshape(inputs, (-1, 784))))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "give": None}


@pytest.fixture(autouse=True)
def _without_saving(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Most of these models only have their outputs read."""
    if "store" not in request.fixturenames:
        monkeypatch.setattr("fm_mlflow.training.models._check_saving", lambda _model: None)


def mixture() -> keras.Model:
    inputs = keras.Input((28, 28))
    flat = layers.Flatten()(inputs)
    parts = [layers.Dense(10, activation="softmax")(flat) for _ in range(3)]
    return keras.Model(inputs, layers.Average()(parts))


def smoothed() -> keras.Model:
    return net(layers.Softmax(), layers.Rescaling(0.9, 0.01))


def by_position() -> keras.Model:
    """A fully convolutional net: the mean of the probabilities of all positions."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(10, 9, strides=9, activation="softmax"),
            layers.GlobalAveragePooling2D(),
        ]
    )


@pytest.mark.parametrize(
    ("function", "gives_logits"),
    [
        (lambda: net(layers.Softmax()), False),
        (lambda: net(layers.Activation("softmax"), layers.Reshape((10,))), False),
        (lambda: net(layers.Softmax(), layers.Activation("linear", dtype="float32")), False),
        (lambda: keras.Sequential([keras.Input((28, 28)), net(layers.Softmax())]), False),
        (lambda: Subclassed(keras.ops.softmax), False),
        (lambda: Subclassed(tf.function(tf.nn.softmax)), False),
        (mixture, False),
        (smoothed, False),
        (by_position, False),
        (net, True),
        (lambda: net(dtype="mixed_bfloat16"), True),
        (lambda: net(layers.Rescaling(0.1)), True),
        (lambda: net(layers.Softmax(), layers.Dense(10)), True),
        (lambda: net(layers.Activation("log_softmax")), True),
        (lambda: net(layers.ReLU()), True),
        (lambda: Subclassed(lambda outputs: 2 * outputs - 1), True),
    ],
)
def test_what_a_model_gives_is_read_from_its_operations(
    digits: Dataset, caplog: pytest.LogCaptureFixture, function: Any, gives_logits: bool
) -> None:
    built = build(function, digits)
    assert built.gives_logits is gives_logits
    assert not caplog.text


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("last", [[], [layers.Softmax]])
def test_probabilities_of_any_type(digits: Dataset, dtype: str, last: list[Any]) -> None:
    built = build(lambda: net(*[layer(dtype=dtype) for layer in last], dtype=dtype), digits)
    assert built.gives_logits is not bool(last)
    probabilities = built.predict_and_evaluate(digits.test.head(9), 9)[0]
    assert probabilities.dtype == ("float64" if dtype == "float64" else "float32")
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=2e-2)


@pytest.mark.parametrize("temperature", [1, 1e-3])
def test_what_cannot_be_read_is_judged_by_outputs_and_told(
    digits: Dataset, caplog: pytest.LogCaptureFixture, temperature: float
) -> None:
    def by_hand(outputs: Any) -> Any:
        powers = keras.ops.exp(outputs)
        return powers / keras.ops.sum(powers, axis=-1, keepdims=True) / temperature

    built = build(lambda: Subclassed(by_hand), digits)
    assert built.gives_logits is (temperature != 1)
    assert "do not tell whether it gives probabilities or logits; its outputs for" in caplog.text
    caplog.clear()
    # The loss knows.
    loss = CrossEntropy(from_logits=temperature != 1)
    assert build(lambda: compiled(Subclassed(by_hand), loss), digits).gives_logits is (
        temperature != 1
    )
    assert not caplog.text


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda: net(layers.Activation("sigmoid")), "each class by itself, by a sigmoid"),
        (
            lambda: compiled(net(layers.Activation("sigmoid")), CROSSENTROPY),
            "exclude each other, by a softmax, or logits; the model gives",
        ),
        (
            lambda: compiled(net(layers.Activation("sigmoid"), units=1), "binary_crossentropy"),
            r"one output of shape \(None, 10\) .*; the model gives \(1,\)",
        ),
    ],
)
def test_sigmoids_are_refused(digits: Dataset, function: Any, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        build(function, digits)


@keras.saving.register_keras_serializable("tests")
class Focal(keras.losses.Loss):  # type: ignore[misc]
    """A loss of a user's own, of probabilities."""

    def call(self, y: Any, p: Any) -> Any:
        right = keras.ops.sum(p * keras.ops.one_hot(keras.ops.cast(y, "int32"), 10), axis=-1)
        return -((1 - right) ** 2) * keras.ops.log(right + 1e-7)


@keras.saving.register_keras_serializable("tests")
class FocalOfLogits(Focal):
    """The same of logits; nothing that Keras knows says so."""

    def call(self, y: Any, p: Any) -> Any:
        return super().call(y, keras.ops.softmax(p))


class WithALossOfItsOwn(Subclassed):
    """It computes its loss itself, from the images."""

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, **_: Any) -> Any:
        return keras.ops.mean(CROSSENTROPY(y, y_pred, from_logits=True)) * keras.ops.mean(x)


OF_PROBABILITIES = [
    *("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy"),
    *(CROSSENTROPY, CrossEntropy(), CrossEntropy, [CROSSENTROPY], [CrossEntropy()]),
    *({"out": CROSSENTROPY}, {"out": CrossEntropy()}),
    functools.partial(CROSSENTROPY, from_logits=False),
    *(lambda y, p: CROSSENTROPY(y, p), Focal(), Focal),
    *(CrossEntropy(ignore_class=3), lambda y, p: 0.01 * CROSSENTROPY(y, p)),
]
OF_LOGITS = [
    *(CrossEntropy(from_logits=True), [CrossEntropy(from_logits=True)]),
    {"out": CrossEntropy(from_logits=True)},
    functools.partial(CROSSENTROPY, from_logits=True),
    *(lambda y, p: CROSSENTROPY(y, p, from_logits=True), FocalOfLogits(), FocalOfLogits),
    lambda y, p: tf.nn.sparse_softmax_cross_entropy_with_logits(
        tf.cast(tf.reshape(y, [-1]), "int32"), p
    ),
]


@pytest.mark.parametrize("takes", ["probabilities", "logits"])
def test_a_loss_takes_what_it_takes_in_any_spelling(takes: str) -> None:
    for loss in OF_LOGITS if takes == "logits" else OF_PROBABILITIES:
        inputs = keras.Input((28, 28))  # Keras takes losses by name of functional models only
        flat = layers.Flatten()(inputs)
        model = compiled(keras.Model(inputs, layers.Dense(10, name="out")(flat)), loss)
        assert loss_takes(model, np.ones((10, 28, 28), np.float32)) == takes, loss
        assert " at 0x" not in params_of(model)["loss"]


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", CROSSENTROPY, Focal()])
def test_a_loss_that_takes_something_else_is_refused(digits: Dataset, loss: Any) -> None:
    with pytest.raises(ModelError, match=r"it gives logits, its loss expects probabilities \("):
        build(lambda: compiled(net(), loss), digits)


def test_logits_are_not_wanted_of_a_softmax(digits: Dataset) -> None:
    loss = functools.partial(CROSSENTROPY, from_logits=True)
    with pytest.raises(ModelError, match=r"it gives probabilities, its loss expects logits \("):
        build(lambda: compiled(net(layers.Softmax()), loss), digits)


def test_losses_that_take_either_or_nothing(digits: Dataset) -> None:
    def of_one_hot(y: Any, p: Any) -> Any:
        return keras.ops.mean((keras.ops.one_hot(y, 10) - p) ** 2, axis=-1)

    for last in ([layers.Softmax()], []):
        build(lambda: compiled(net(*last), of_one_hot), digits)  # noqa: B023
    build(lambda: compiled(WithALossOfItsOwn(lambda outputs: outputs), None), digits)
    for loss in ("mse", "mean_absolute_error", lambda _y, p: keras.ops.mean(p, axis=-1)):
        with pytest.raises(ModelError, match="does not fall as the right class gets likelier"):
            build(lambda: compiled(net(layers.Softmax()), loss), digits)  # noqa: B023


def whole(dtype: str, policy: str | None = None) -> Callable[[], keras.Model]:
    return lambda: keras.Sequential(
        [
            keras.Input((28, 28), dtype=dtype),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(10, activation="softmax", dtype=policy),
        ]
    )


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64", "uint16", "float64"])
def test_a_model_gets_the_type_that_it_declares(digits: Dataset, dtype: str) -> None:
    built = build(whole(dtype), digits)
    inputs = built.inputs(digits.test.head(9))
    is_whole = "int" in dtype
    assert inputs.dtype == (dtype if is_whole else "float32")
    assert inputs.max() == (255 if is_whole else 1)
    (prepared,) = built.examples(digits.test.head(9)).prepare((inputs * (1 if is_whole else 255),))
    np.testing.assert_allclose(prepared, inputs)
    assert "latency/p50_ms" in metrics(measure_latency(built.model, inputs, seconds=0.2))


@pytest.mark.parametrize("dtype", ["int8", "bool", "string"])
def test_types_that_hold_no_grey_levels_are_refused(digits: Dataset, dtype: str) -> None:
    def function() -> keras.Model:
        inputs = keras.Input((28, 28), dtype=dtype)
        return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(inputs)))

    with pytest.raises(ModelError, match=f"an input of grey levels: .*; the model takes {dtype}$"):
        build(function, digits)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float16"])
def test_anybody_can_read_what_such_a_model_leaves(
    store: Store, digits: Dataset, policy: str
) -> None:
    dtype = "uint8" if policy == "mixed_bfloat16" else "float32"
    result = train(whole(dtype, policy) if dtype == "uint8" else floating(policy), **DIGITS)
    # With images of 0 to 1 cut to 0, it was 0.1.
    assert result.metrics["test_accuracy"] > 0.7
    with np.load(store.client.download_artifacts(result.run_id, "predictions/test.npz")) as file:
        probabilities = file["probability"]
    assert probabilities.dtype == "float32"
    loaded = mlflow.pyfunc.load_model(result.model_uri)
    signature = loaded.metadata.signature
    (given,), (gives,) = signature.inputs.inputs, signature.outputs.inputs
    assert given.type == dtype
    assert gives.type == ("float32" if "b" in policy else policy)
    example = loaded.metadata.load_input_example(download_artifacts(result.model_uri))
    assert np.asarray(example).dtype == dtype
    assert np.shape(loaded.predict(np.asarray(example))) == (2, 10)
    # As JSON over HTTP, the type comes from the signature.
    instances = {"instances": np.asarray(example).tolist()}
    served = scoring_server.parse_tf_serving_input(  # type: ignore[attr-defined, no-untyped-call]
        instances, schema=signature.inputs
    )
    assert served.dtype == dtype
    json.dumps(loaded.predict(served).tolist())
    # The process that verifies a model before its promotion, and `predict`, give it the same.
    labels, outputs = verified(result.model_uri, digits, store.folder)
    assert np.mean(outputs.argmax(axis=1) == labels) == result.test_accuracy
    np.testing.assert_allclose(outputs, probabilities, atol=1e-6)
    for images in (digits.test.inputs, digits.test.scaled):
        np.save(store.folder / "images.npy", images)
        file = store.folder / "out.parquet"
        predict(model=result.model_uri, input=str(store.folder / "images.npy"), output=str(file))
        table = parquet.read_table(file)
        predicted = np.stack([table[f"probability_{n}"].to_numpy() for n in range(10)], axis=1)
        np.testing.assert_allclose(predicted, probabilities, atol=2e-2)


def verified(uri: str, digits: Dataset, folder: Path) -> tuple[Any, Any]:
    """Return the test set's labels, and what the verifying process would send of a model."""
    np.save(folder / "test.npy", digits.test.inputs)
    message = measure(Path(download_artifacts(uri)), 64, folder / "test.npy")
    findings, outputs = from_bytes(message, len(digits.test), 10)
    assert findings.example == "predicted"
    return digits.test.targets, outputs


def floating(policy: str) -> Callable[[], keras.Model]:
    def function() -> keras.Model:
        model = net(layers.Softmax(dtype=policy), dtype=policy)
        # In float16, Adam's epsilon is 0.
        model.compile(keras.optimizers.SGD(0.1), CROSSENTROPY, metrics=["accuracy"])
        return model

    return function
