"""Latency and throughput of real models; times are checked by order of magnitude only."""

from __future__ import annotations

import json
import math
import statistics
import time
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray

from fm_mlflow import InputError, keys
from fm_mlflow.measure import latency, measurement
from fm_mlflow.measure.latency import measure_latency, training_throughput
from fm_mlflow.measure.measurement import Measurement
from fm_mlflow.measure.quantiles import sample_quantile
from fm_mlflow.training.builtin_models import mlp

IMAGES: NDArray[np.float32] = np.zeros((3, 28, 28), np.float32)


def by_name(measurements: list[Measurement]) -> dict[str, Measurement]:
    return {each.name: each for each in measurements}


def value_of(each: Measurement) -> float:
    assert each.value is not None, each.reason
    return each.value


class Sleeps(layers.Layer):  # type: ignore[misc]  # keras is untyped
    """Passes its input on after so many seconds, each time that it is executed."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        def wait(tensor: tf.Tensor) -> tf.Tensor:
            time.sleep(self.seconds)
            return tensor

        outputs = tf.py_function(wait, [inputs], inputs.dtype)
        outputs.set_shape(inputs.shape)
        return outputs


def sleeping(seconds: float) -> keras.Model:
    return keras.Sequential([keras.Input((4,)), Sleeps(seconds), layers.Dense(2)])


@pytest.fixture(scope="module")
def of_mlp() -> dict[str, Measurement]:
    return by_name(measure_latency(mlp((28, 28), 10), IMAGES, batch_size=32, seconds=0.4))


def test_measurements_are_complete(of_mlp: dict[str, Measurement]) -> None:
    assert list(of_mlp) == [
        keys.LATENCY_P50,
        keys.LATENCY_P95,
        keys.LATENCY_P99,
        keys.THROUGHPUT_INFERENCE,
    ]
    assert [each.unit for each in of_mlp.values()] == ["ms", "ms", "ms", "images/s"]
    for key in (keys.LATENCY_P50, keys.LATENCY_P95, keys.THROUGHPUT_INFERENCE):
        each = of_mlp[key]
        assert each.interval is not None
        assert each.interval[0] <= value_of(each) <= each.interval[1]
        assert each.samples >= 6
        assert each.spread is not None
        assert "tf.function" in each.method
        assert "order statistics" in each.method
    assert value_of(of_mlp[keys.LATENCY_P50]) <= value_of(of_mlp[keys.LATENCY_P95])
    details = of_mlp[keys.LATENCY_P50].details
    assert details["first_call_ms"] > value_of(of_mlp[keys.LATENCY_P50])
    assert details["model_predict_p50_ms"] > value_of(of_mlp[keys.LATENCY_P50])
    assert of_mlp[keys.THROUGHPUT_INFERENCE].details["batch_size"] == 32
    json.loads(measurement.to_json(of_mlp.values(), {}))


def test_plain_loop_finds_the_same_order_of_magnitude(of_mlp: dict[str, Measurement]) -> None:
    model = mlp((28, 28), 10)
    predict = tf.function(lambda images: model(images, training=False))
    image = tf.constant(IMAGES[:1])
    seconds = []
    for _ in range(300):
        began = time.perf_counter()
        predict(image).numpy()
        seconds.append(time.perf_counter() - began)
    plain = 1000 * statistics.median(seconds)
    assert plain / 4 < value_of(of_mlp[keys.LATENCY_P50]) < plain * 4


def test_known_delay_is_found() -> None:
    found = by_name(
        measure_latency(sleeping(0.005), np.zeros((1, 4), np.float32), batch_size=8, seconds=0.2)
    )
    assert 5 <= value_of(found[keys.LATENCY_P50]) < 50
    # A batch sleeps once: at most 8 images in 5 ms.
    assert 8 / 0.05 < value_of(found[keys.THROUGHPUT_INFERENCE]) <= 8 / 0.005


@pytest.mark.parametrize(
    ("spread", "fewest", "most"),
    # A median within 1%: at the first look, at a later one, not in the time that there is.
    [(0.01, 50, 50), (0.05, 51, 300), (0.9, 900, 1100)],
)
def test_calls_end_once_the_interval_is_narrow(
    spread: float, fewest: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, random = 0.0, np.random.default_rng(0)

    def call() -> None:
        nonlocal now
        now += random.uniform(1 - spread, 1 + spread) / 1000

    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: now))
    taken = latency._repeat(call, 1.0, 1, 10_000, latency._OF_THROUGHPUT)
    assert fewest <= len(taken) <= most
    median, interval = sample_quantile(taken, 0.5)
    assert interval is not None
    assert (interval[1] - interval[0] < 0.02 * median) == (now < 1)


def test_percentile_that_the_sample_does_not_support_is_missing() -> None:
    found = by_name(measure_latency(sleeping(0.01), np.zeros((1, 4), np.float32), seconds=0.4))
    slow = found[keys.LATENCY_P99]
    assert slow.value is None
    assert "368 or more" in (slow.reason or "")
    # The time was stretched for the 95th percentile, which takes 72 calls.
    assert value_of(found[keys.LATENCY_P95]) >= 10
    assert 72 <= found[keys.LATENCY_P95].samples <= 100


def test_slow_model_ends_in_time() -> None:
    began = time.perf_counter()
    found = by_name(measure_latency(sleeping(0.05), np.zeros((1, 4), np.float32), seconds=0.1))
    assert time.perf_counter() - began < 5  # 72 calls alone would take 3.6 s
    assert value_of(found[keys.LATENCY_P50]) >= 50
    assert found[keys.LATENCY_P95].value is None


def test_several_inputs_and_outputs() -> None:
    inputs = {"left": keras.Input((4,), name="left"), "right": keras.Input((3,), name="right")}
    joined = layers.Concatenate()([inputs["left"], inputs["right"]])
    model = keras.Model(inputs, [layers.Dense(2)(joined), layers.Dense(1)(joined)])
    example = {"left": np.zeros((5, 4), np.float32), "right": np.zeros((5, 3), np.float32)}
    found = measure_latency(model, example, batch_size=16, seconds=0.1)
    assert value_of(by_name(found)[keys.LATENCY_P50]) > 0
    assert value_of(by_name(found)[keys.THROUGHPUT_INFERENCE]) > 0


class Fails(layers.Layer):  # type: ignore[misc]  # keras is untyped
    def call(self, inputs: Any) -> Any:
        raise ArithmeticError("no\nsuch thing")

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


def test_model_that_fails_is_missing_and_says_why() -> None:
    found = measure_latency(keras.Sequential([Fails()]), IMAGES)
    assert len(found) == 4
    # Neither Keras' nor TensorFlow's words around it.
    for each in found:
        assert each.value is None
        assert each.reason == "the call failed: ArithmeticError: no such thing"


@pytest.mark.parametrize(
    ("example", "batch_size", "says"),
    [
        (IMAGES[:0], 8, r"example: received \[\(0, 28, 28\)\], accepted: .* n from 1"),
        ({"left": IMAGES, "right": 1.0}, 8, "example: received"),
        (IMAGES, 0, "batch_size: received 0"),
    ],
)
def test_without_an_image_nothing_is_timed(example: Any, batch_size: int, says: str) -> None:
    with pytest.raises(InputError, match=says):
        measure_latency(mlp((28, 28), 10), example, batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [2.5, math.nan, True, None])
def test_batch_size_that_is_no_whole_number(batch_size: Any) -> None:
    with pytest.raises(InputError, match=r"batch_size: received .*, accepted: a whole number"):
        measure_latency(mlp((28, 28), 10), IMAGES, batch_size=batch_size)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, 0, -1, "1", None, True])
def test_time_that_never_ends_is_refused(seconds: Any) -> None:
    with pytest.raises(InputError, match=r"seconds: received .*, accepted: a positive number"):
        measure_latency(mlp((28, 28), 10), IMAGES, seconds=seconds)


class Remembers(layers.Layer):  # type: ignore[misc]  # keras is untyped
    """Adds up what it is given, and draws numbers whatever the mode."""

    def build(self, _: Any) -> None:
        self.sum = self.add_weight(shape=(), trainable=False, name="sum")
        self.random = keras.random.SeedGenerator(1)

    def call(self, x: Any) -> Any:
        self.sum.assign(self.sum + keras.ops.sum(x))
        return x + keras.random.normal(keras.ops.shape(x), seed=self.random)


@pytest.mark.parametrize("layer", [layers.SimpleRNN(2, stateful=True), Remembers()])
def test_states_are_as_before(layer: keras.layers.Layer) -> None:
    model = keras.Sequential([keras.Input(batch_shape=(1, 3, 4)), layer])
    image = np.ones((1, 3, 4), np.float32)
    model(image)
    before = [variable.numpy().copy() for variable in model.variables]
    found = measure_latency(model, image, batch_size=1, seconds=0.02)
    assert value_of(by_name(found)[keys.LATENCY_P50]) > 0
    assert before
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_measuring_changes_nothing() -> None:
    model = keras.Sequential(
        [keras.Input((4,)), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(2)]
    )
    before = [weight.numpy().copy() for weight in model.weights]
    measure_latency(model, np.ones((1, 4), np.float32), seconds=0.05)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_training_throughput_leaves_the_first_epoch_out() -> None:
    found = training_throughput(6000, [10.0, 2.0, 3.0, 4.0])
    assert found.value == 2000
    assert found.samples == 3
    assert found.spread == pytest.approx(statistics.stdev([3000, 2000, 1500]))
    assert found.unit == "images/s"
    beside = training_throughput(6000, [10.0, 9.0, 3.0, 3.0], 2)
    assert beside.value == 2000
    assert "epochs but the first 2, beside which the model was read back" in beside.method
    whole = training_throughput(6000, [10.0, 3.0], 2)
    assert whole.value == 2000
    assert whole.method.endswith("epochs but the first, beside which the model was read back")
    only = training_throughput(6000, [10.0])
    assert (only.value, only.samples, only.spread) == (600, 1, None)
    assert "tracing included" in only.method
    assert training_throughput(6000, []).reason == "no epoch has ended"
