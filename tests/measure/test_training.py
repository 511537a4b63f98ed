"""The costs of one training: what the fit really did, and that no fault in measuring spreads."""

from __future__ import annotations

import time
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from fm_mlflow import keys
from fm_mlflow.measure import energy
from fm_mlflow.measure.energy import EnergyMonitor
from fm_mlflow.measure.measurement import Measurement
from fm_mlflow.measure.memory import EVALUATION, TRAINING, MemoryMonitor
from fm_mlflow.measure.training import Trained, training_costs
from fm_mlflow.settings.config import MEASURED_PARTS
from tests.measure.counters import Counting

FLOPS = frozenset({"flops"})
DENSE = 2 * 3 * 5
"""Multiplications and additions of the one layer, for one image."""


def one_layer(loss: Any = "sparse_categorical_crossentropy") -> keras.Model:
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(5, activation="softmax", use_bias=False)]
    )
    model.compile("adam", loss)
    return model


def costs(model: keras.Model, parts: frozenset[str] = FLOPS, **more: Any) -> dict[str, Measurement]:
    settings: dict[str, Any] = {
        "images": 100,
        "batch_size": 8,
        "training_seconds": [2.0, 1.0],
        "memory": None,
    }
    examples = {"inputs": np.ones((4, 3), np.float32), "labels": np.arange(4, dtype=np.int32)}
    trained = Trained(model=model, **{**settings, **examples, **more})
    measurements, _ = training_costs(trained, parts)
    return {each.name: each for each in measurements}


def of_class_numbers(labels: Any, outputs: Any) -> Any:
    """A loss whose name does not say what labels it takes."""
    chosen = ops.take_along_axis(outputs, ops.expand_dims(labels, -1), axis=-1)
    return -ops.log(ops.squeeze(chosen, -1))


def test_the_step_gets_the_labels_that_the_fit_gets() -> None:
    assert costs(one_layer(of_class_numbers))[keys.FLOPS_TRAINING_CORE].value == 2 * DENSE


def test_only_epochs_that_took_place_are_counted() -> None:
    # A callback may stop a fit early.
    one, three = (
        costs(one_layer(), training_seconds=[1.0] * n)[keys.FLOPS_TRAINING_TOTAL] for n in (1, 3)
    )
    assert one.value is not None
    assert three.value == 3 * one.value


def test_a_step_has_no_more_images_than_there_are() -> None:
    whole, larger = (
        costs(one_layer(), batch_size=size)[keys.FLOPS_TRAINING] for size in (100, 900)
    )
    assert larger.details["batch_size"] == 100
    assert larger.value == whole.value


def test_energy_of_training_and_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "_LEAST_SECONDS", 0.05)
    model = one_layer()
    with EnergyMonitor(Counting()) as monitor:
        for phase in (TRAINING, EVALUATION):
            monitor.phase(phase)
            time.sleep(0.01)
        found = costs(model, frozenset({"energy"}), energy=monitor)
    assert found[keys.ENERGY_TRAINING].value == 1
    each = found[keys.ENERGY_INFERENCE]
    assert each.value == pytest.approx(1000 / (each.details["calls"] * 256))
    assert found[keys.FLOPS_TRAINING].reason == "left out by --measure"
    left_out = costs(model)
    assert left_out[keys.ENERGY_INFERENCE].reason == "left out by --measure"


def test_a_model_that_cannot_predict_keeps_the_energy_of_its_training() -> None:
    with EnergyMonitor(Counting()) as monitor:
        for phase in (TRAINING, EVALUATION):
            monitor.phase(phase)
            time.sleep(0.01)
        found = costs(Broken(), frozenset({"energy"}), energy=monitor)
    assert found[keys.ENERGY_TRAINING].value == 1
    assert "no output today" in (found[keys.ENERGY_INFERENCE].reason or "")


def test_text_and_what_a_step_got() -> None:
    text = layers.TextVectorization(10, output_sequence_length=4)
    text.adapt(["a b c"])
    inputs = keras.Input((1,), dtype="string")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(10, 3)(text(inputs)))
    model = keras.Model(inputs, layers.Dense(5, use_bias=False)(x))
    model.compile("sgd", "mse")
    texts = np.array([["a b"], ["c"]], object)
    weighted = (texts, np.zeros((2, 5)), np.ones(2, np.float32))
    given: dict[str, Any] = {"inputs": texts, "labels": None, "data": weighted}
    found = costs(model, FLOPS | {"latency"}, **given)
    # The product and both its gradients: the embedding is trained.
    assert found[keys.FLOPS_TRAINING_CORE].value == 3 * DENSE
    assert "given what was passed as `data`" in found[keys.FLOPS_TRAINING].method
    # Keras' predict refuses arrays of text.
    latency = found[keys.LATENCY_P50]
    assert latency.value is not None
    assert "dtype" in latency.details["model_predict_failed"]


class Broken(keras.Model):  # type: ignore[misc]  # keras is untyped
    """Fails wherever it is looked at."""

    @property
    def weights(self) -> Any:
        raise ArithmeticError("no weights today")

    trainable_weights = weights

    def call(self, inputs: Any) -> Any:
        raise ArithmeticError("no output today")


def test_what_cannot_be_measured_is_missing_and_fails_nothing() -> None:
    with MemoryMonitor() as memory:
        found = costs(Broken(), frozenset(MEASURED_PARTS), memory=memory)
    assert found.pop(keys.THROUGHPUT_TRAINING).value == 100
    assert len(found) >= 20
    for each in found.values():
        assert each.value is None
        assert each.reason
    for key in (keys.SIZE_H5, keys.ESTIMATE_TRAINING_MEMORY):
        assert found[key].reason == "measuring it failed: ArithmeticError: no weights today"
    assert found[keys.LATENCY_P50].reason == "the call failed: ArithmeticError: no output today"
