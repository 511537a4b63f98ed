"""Keras on TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

TITLE = "TensorFlow"
CALLED = "in a tensor, through tf.function"


def compiled_call(model: keras.Model, inputs: Any) -> Callable[[], object]:
    """Return what predicts the inputs (arrays) and waits until the outputs are in NumPy."""
    # Now, so that the calls do not copy the arrays.
    tensors = tf.nest.map_structure(tf.constant, inputs)
    # Keras' predict traces without autograph as well.
    call = tf.function(lambda images: model(images, training=False), autograph=False)
    return lambda: [output.numpy() for output in tf.nest.flatten(call(tensors))]


def square_product(side: int, dtype: str) -> Callable[[], object]:
    """Return what multiplies two matrices of so many rows, and waits for the result."""
    left = tf.random.stateless_normal((side, side), seed=(0, 1), dtype=dtype)
    right = tf.random.stateless_normal((side, side), seed=(0, 2), dtype=dtype)
    # One element is enough to wait for the product, on a GPU too.
    return lambda: tf.linalg.matmul(left, right)[0, 0].numpy()


def kept_value(variable: keras.Variable) -> Any:
    """Return a variable's value, which stays what it is when the variable is written."""
    # It shares its memory with the variable until that is written.
    return variable.value.read_value()
