"""Optimizers and schedules of users' own: described, or refused with what to add."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from fm_mlflow import ModelError, resume, train
from fm_mlflow.data.dataset import Dataset
from fm_mlflow.settings.config import TrainConfig
from fm_mlflow.training.models import build_model
from tests.stores import Store
from tests.trained import DIGITS


class Bare(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """As in a well-known tutorial: without get_config."""

    def __call__(self, step: Any) -> Any:
        return 1e-3 / (1 + tf.cast(step, tf.float32) / 1000)


class Unregistered(Bare):
    """It can be described, and nobody finds it again."""

    def __init__(self, start: float = 0.1) -> None:
        self.start = start

    def get_config(self) -> dict[str, Any]:
        return {"start": self.start}


@keras.saving.register_keras_serializable("tests")
class Registered(Unregistered):
    """All is well."""


@keras.saving.register_keras_serializable("tests")
class Forgetful(Unregistered):
    """What it returns is not what its __init__ takes."""

    def get_config(self) -> dict[str, Any]:
        return {"begin": self.start}


@keras.saving.register_keras_serializable("tests")
class Mine(keras.optimizers.SGD):  # type: ignore[misc]
    """An optimizer with an argument that Keras does not know."""

    def __init__(self, factor: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.factor = factor


class Unfinished(keras.optimizers.SGD):  # type: ignore[misc]
    def get_config(self) -> dict[str, Any]:
        raise NotImplementedError


def net(optimizer: Any) -> keras.Model:
    model = keras.Sequential(
        [keras.Input((28, 28)), layers.Flatten(), layers.Dense(10, activation="softmax")]
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.mark.parametrize(
    ("optimizer", "says"),
    [
        (lambda: keras.optimizers.Adam(Bare()), r"describe; Bare needs `def get_config\(self\)`"),
        (
            lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(Bare())),
            "Bare needs `def get_config",
        ),
        (lambda: keras.optimizers.Adam(Unregistered()), "Could not locate class 'Unregistered'"),
        (lambda: keras.optimizers.Adam(Forgetful()), "unexpected keyword argument 'begin'$"),
        (lambda: keras.optimizers.Adam(lambda: 0.01), "a learning rate is a number or a Learning"),
        (lambda: Mine(2.0), "unlike this Mine: .* missing 1 required .* 'factor'$"),
        (Unfinished, r"Unfinished: its class .* get_config\(\) .*; it raised NotImplementedError$"),
    ],
)
def test_what_cannot_be_described_is_named_with_what_to_add(
    digits: Dataset, optimizer: Any, says: str
) -> None:
    with pytest.raises(ModelError, match=says) as refusal:
        build_model(TrainConfig(model="t:it", dataset="digits"), digits, lambda: net(optimizer()))
    assert refusal.value.exit_code == 2
    assert "\n" not in str(refusal.value)


def test_what_can_be_described_is_taken(digits: Dataset) -> None:
    built = build_model(
        TrainConfig(model="t:it", dataset="digits"),
        digits,
        lambda: net(keras.optimizers.Adam(Registered())),
    )
    assert built.params["optimizer"] == "adam (Registered)"


@keras.saving.register_keras_serializable("tests")
class TwoOptimizers(keras.Model):  # type: ignore[misc]
    """A body and a head, each with an optimizer; the model itself has none."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.flatten, self.body = layers.Flatten(), layers.Dense(16, "relu")
        self.head = layers.Dense(10, "softmax")

    def call(self, inputs: Any) -> Any:
        return self.head(self.body(self.flatten(inputs)))

    def compile(self, *, ready: bool = False) -> None:
        super().compile(None, "sparse_categorical_crossentropy", metrics=["accuracy"])
        self.slow, self.fast = keras.optimizers.SGD(0.1), keras.optimizers.Adam(0.01)
        if ready:
            self(np.zeros((1, 28, 28, 1)))
            self.slow.build(self.body.trainable_variables)
            self.fast.build(self.head.trainable_variables)

    def train_step(self, data: Any) -> Any:
        images, labels = data
        with tf.GradientTape(persistent=True) as tape:
            outputs = self(images, training=True)
            loss = self.compute_loss(images, labels, outputs)
        for part, optimizer in ((self.body, self.slow), (self.head, self.fast)):
            weights = part.trainable_variables
            optimizer.apply(tape.gradient(loss, weights), weights)
        self._loss_tracker.update_state(loss)
        return self.compute_metrics(images, labels, outputs)


def two(ready: bool = False) -> keras.Model:
    model = TwoOptimizers()
    model.compile(ready=ready)
    return model


def ready() -> keras.Model:
    return two(ready=True)


def test_two_optimizers_train_and_are_resumed(store: Store) -> None:
    whole = train(ready, **DIGITS)
    params = store.client.get_run(whole.run_id).data.params
    assert params["optimizer"] == "slow: sgd (0.1), fast: adam (0.01)"
    assert "learning_rate" not in params
    assert whole.metrics["test_accuracy"] > 0.8
    run = train(ready, **{**DIGITS, "epochs": 1})
    # Without their variables, nobody can say what they had come to.
    with pytest.raises(ModelError, match="its optimizers have no variables before a step"):
        resume(run.run_id, model=two, epochs=2)
    again = resume(run.run_id, model=ready, epochs=2)
    assert again.history["loss"] == whole.history["loss"]
