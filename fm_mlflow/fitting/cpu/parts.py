"""Splits a batch among the cores: its parts go through the model side by side.

Worth it for convolutions on few cores. Their kernels are short, and cutting each one up among the
cores costs a wake-up and a wait each time; parts of a batch wait for each other but once, where
their gradients are added. Loss, metrics and optimizer still see the whole batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from fm_mlflow.process.identity import usable_cores
from fm_mlflow.process.quiet import OWN_THREADS

_SMALLEST = 16
"""Examples a part, below which a kernel no longer keeps a core busy."""
_MOST_WEIGHTS = 20_000_000
"""A session holds a copy of them and of the optimizer's: with Adam 230 MiB."""

# They do the same to each example, whatever else is in the batch. By exact type: a subclass of a
# user's may do anything.
_EXAMPLE_WISE_NAMES = """
    InputLayer Rescaling Reshape Permute Flatten Dense Conv1D Conv2D Conv2DTranspose DepthwiseConv2D
    SeparableConv2D MaxPooling1D MaxPooling2D AveragePooling1D AveragePooling2D GlobalMaxPooling1D
    GlobalMaxPooling2D GlobalAveragePooling1D GlobalAveragePooling2D ZeroPadding2D Cropping2D
    UpSampling2D LayerNormalization Activation ReLU LeakyReLU Softmax Add Multiply Average Maximum
    Concatenate Dropout SpatialDropout2D
"""
_EXAMPLE_WISE = {getattr(layers, name) for name in _EXAMPLE_WISE_NAMES.split()}
_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv2DTranspose, layers.SeparableConv2D)


def parts_of(model: keras.Model, batch_size: int) -> int:
    """Return into how many parts a training step of convolutions should split its batch.

    Returns:
        One for each core, where there is enough for each to do; 1 where the batch is to stay whole:
        a layer may look at several examples at once (batch normalization), or the step may not
        run in a session.
    """
    cores = usable_cores() or 1
    pays = cores > 1 and batch_size >= cores * _SMALLEST
    return cores if pays and may_move(model) and is_example_wise(model) else 1


def may_move(model: keras.Model) -> bool:
    """Tell whether the training steps of a model may run in a session.

    They may where it has convolutions, for which that can pay, and no GPU or very many weights,
    and where TensorFlow was started with `OWN_THREADS`.
    """
    return (
        any(isinstance(layer, _CONVOLUTIONS) for layer in model.layers)
        and model.count_params() <= _MOST_WEIGHTS
        and os.environ.get(OWN_THREADS) == "1"
        and not tf.config.list_physical_devices("GPU")
    )


def is_example_wise(model: keras.Model) -> bool:
    """Tell whether a model's output for an example depends on no other example of the batch."""
    if type(model) is keras.Sequential:
        operations = model.layers
    elif type(model).__module__.startswith("keras.") and hasattr(model, "operations"):
        operations = model.operations  # made from tensors: a class without a public name
    else:
        return False
    return all(map(_is_example_wise, operations))


def _is_example_wise(operation: Any) -> bool:
    if isinstance(operation, keras.Model):
        return is_example_wise(operation)
    axes = keras.tree.flatten(getattr(operation, "axis", None))
    activation = getattr(operation, "activation", keras.activations.linear)
    return (
        type(operation) in _EXAMPLE_WISE
        and operation.activity_regularizer is None
        and 0 not in axes
        and getattr(activation, "__module__", "").startswith("keras.")
    )


def in_parts(model: keras.Model, parts: int) -> Callable[[Any], Any]:
    """Return the model's training step, on a batch in parts."""

    def step(data: Any) -> Any:
        with _sharded(model, parts):
            return model.train_step(data)

    return step


@contextmanager
def _sharded(model: keras.Model, parts: int) -> Iterator[None]:
    """Let a model, while a step is traced, take a batch in parts and put their outputs together."""
    whole: Callable[..., Any] = model.call

    def call(inputs: Any, *arguments: Any, **settings: Any) -> Any:
        rows = tf.shape(keras.tree.flatten(inputs)[0])[0]
        bounds = [rows * part // parts for part in range(parts + 1)]
        outputs = []
        for first, stop in pairwise(bounds):
            part = keras.tree.map_structure(lambda each, a=first, b=stop: each[a:b], inputs)
            outputs.append(whole(part, *arguments, **settings))
        return keras.tree.map_structure(lambda *each: tf.concat(each, 0), *outputs)

    model.call = call
    try:
        yield
    finally:
        del model.call
