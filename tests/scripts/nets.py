"""Small nets and data that scripts of somebody's own might train."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

RANDOM = np.random.default_rng(0)
X = RANDOM.random((100, 12)).astype("float32")
Y = (X @ RANDOM.random(12)).astype("float32")
LABELS = (Y * 10).astype("int64") % 3


def regression(**compiled: Any) -> keras.Model:
    model = keras.Sequential([keras.Input((12,)), layers.Dense(8), layers.Dense(1)], name="reg")
    model.compile("sgd", "mse", metrics=["mae"], **compiled)
    return model


def classifier() -> keras.Model:
    model = keras.Sequential([keras.Input((12,)), layers.Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # keras is untyped
    """Five batches of 20."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        rows = slice(20 * index, 20 * index + 20)
        return X[rows], Y[rows]


class OwnStep(keras.Model):  # type: ignore[misc]  # keras is untyped
    """A model whose step takes inputs alone."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.dense(x)

    def train_step(self, data: Any) -> dict[str, Any]:
        x = data  # given inputs alone, Keras passes them without a tuple
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self(x, training=True)))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


def two_by_two() -> tuple[keras.Model, dict[str, Any], dict[str, Any]]:
    """A model with two inputs and two outputs, by name, and data for it."""
    table, tokens = keras.Input((12,), name="table"), keras.Input((5,), dtype="int32", name="text")
    words = layers.Flatten()(layers.Embedding(50, 3)(tokens))
    joined = layers.Concatenate()([layers.Dense(8)(table), words])
    outputs = {
        "price": layers.Dense(1, name="price")(joined),
        "kind": layers.Dense(3, activation="softmax", name="kind")(joined),
    }
    model = keras.Model({"table": table, "text": tokens}, outputs)
    model.compile("sgd", {"price": "mse", "kind": "sparse_categorical_crossentropy"})
    return (
        model,
        {"table": X, "text": RANDOM.integers(0, 50, (100, 5))},
        {"price": Y, "kind": LABELS},
    )


def texts() -> tuple[keras.Model, tf.data.Dataset]:
    """A classifier of texts, which it splits into words itself, and data for it."""
    lines = np.array(["good film", "bad film", "very good film indeed", "not good"] * 25)
    vectorize = layers.TextVectorization(100, output_sequence_length=8)
    vectorize.adapt(lines)
    model = keras.Sequential(
        [
            keras.Input((), dtype="string"),
            vectorize,
            layers.Embedding(100, 4),
            layers.GlobalAveragePooling1D(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    return model, tf.data.Dataset.from_tensor_slices((lines, np.array([1, 0, 1, 0] * 25))).batch(20)


class Scalars(keras.Model):  # type: ignore[misc]  # keras is untyped
    """A model whose step takes anything, so also a number instead of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = self.add_weight(shape=(), name="scale")

    def call(self, x: Any) -> Any:
        return x * self.scale

    def train_step(self, data: Any) -> dict[str, Any]:
        return {"loss": tf.reduce_sum(data * self.scale)}


class Noisy(OwnStep):
    """A model whose step draws numbers by TensorFlow's operations."""

    def train_step(self, data: Any) -> dict[str, Any]:
        return dict(super().train_step(data + tf.random.normal(tf.shape(data))))
