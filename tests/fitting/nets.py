"""Nets to train, by the loop and by `model.fit` on the same batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from fm_mlflow.fitting import Examples, FitResult, epoch_order, fit

SEED, EPOCHS, BATCH, CLASSES = 5, 3, 32, 4
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (200, 8, 8), dtype=np.uint8)
LABELS = (IMAGES.mean(axis=(1, 2)) * 7).astype(np.int32) % CLASSES
TRAINING = Examples(IMAGES[:150], LABELS[:150], divisor=255)
VALIDATION = Examples(IMAGES[150:], LABELS[150:], divisor=255)
# XLA and TensorFlow round differently, and the difference grows with each step.
ROUNDING = 2e-5

Callbacks = Sequence[keras.callbacks.Callback]


def dense(kind: type[keras.Model] = keras.Model, **settings: Any) -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8))
    hidden = layers.Dense(16, activation="relu")(layers.Flatten()(inputs))
    model = kind(inputs, layers.Dense(CLASSES, activation="softmax")(hidden))
    settings = {"optimizer": "adam", "metrics": ["accuracy"], **settings}
    model.compile(loss="sparse_categorical_crossentropy", **settings)
    return model


def convolutional() -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8, 8)),
            layers.Reshape((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(CLASSES),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss, metrics=["accuracy"])
    return model


def example_wise(*more: keras.Layer) -> keras.Model:
    """A net of convolutions whose batches may be split, unless a further layer says otherwise."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8, 8)),
            layers.Reshape((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            *more,
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def run(model: keras.Model, callbacks: Callbacks = (), **settings: Any) -> FitResult:
    arguments: dict[str, Any] = {
        "training": TRAINING,
        "validation": VALIDATION,
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "seed": SEED,
        "on_epoch": lambda _epoch, _metrics: None,
        **settings,
    }
    return fit(model, callbacks=callbacks, **arguments)


def as_keras(
    model: keras.Model, training: Examples, validation: Examples, **settings: Any
) -> dict[str, list[float]]:
    """What `model.fit` makes of the batches that `fit` trains on."""
    keras.utils.set_random_seed(SEED)
    count = len(training)

    def batches() -> Any:
        for epoch in range(EPOCHS):
            order = epoch_order(SEED, epoch, count)
            for start in range(0, count, BATCH):
                rows = order[start : start + BATCH]
                batch = keras.tree.map_structure(lambda part, rows=rows: part[rows], prepared)
                yield batch

    def floats(examples: Examples) -> Any:
        return keras.tree.map_structure(
            np.asarray, examples.prepare(keras.tree.map_structure(tf.constant, examples.arrays))
        )

    prepared = floats(training)
    spec = keras.tree.map_structure(
        lambda part: tf.TensorSpec((None, *part.shape[1:]), part.dtype), prepared
    )
    history = model.fit(
        tf.data.Dataset.from_generator(batches, output_signature=spec),
        shuffle=False,
        epochs=EPOCHS,
        steps_per_epoch=-(-count // BATCH),
        validation_data=tf.data.Dataset.from_tensor_slices(floats(validation)).batch(BATCH),
        verbose=0,
        **settings,
    )
    found: dict[str, list[float]] = history.history
    return found


def assert_same(result: FitResult, history: dict[str, list[float]]) -> None:
    assert set(history) <= set(result.history)
    for name, values in history.items():
        np.testing.assert_allclose(result.history[name], values, rtol=ROUNDING, err_msg=name)
