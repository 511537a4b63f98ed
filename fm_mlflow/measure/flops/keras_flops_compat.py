"""keras-flops 0.1.2 on a current TensorFlow and Keras.

Two faults of keras-flops are worked around, each only where it shows:

1. Importing it raises KeyError: it registers a FLOPs formula for `AddV2`, which TensorFlow has had
   itself since 2.6. `REPEATED` names what it registered a second time; empty means mended.
2. `get_flops` computes `[batch_size] + input.shape[1:]`: a list plus Keras 3's shape, a tuple,
   which is a TypeError. It is then given a model whose inputs have TensorFlow's shapes.

Besides, it prints TensorFlow's profile to the terminal; here it does not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework import ops


@contextmanager
def _without_repeated_registration(repeated: list[str]) -> Iterator[None]:
    """Let TensorFlow's own formula stand where a second one is registered."""
    registration = ops.RegisterStatistics

    def register(op_type: str, statistic: str) -> Callable[[Any], Any]:
        def decorate(function: Any) -> Any:
            try:
                return registration(op_type, statistic)(function)
            except KeyError:
                repeated.append(op_type)
                return function

        return decorate

    ops.RegisterStatistics = register
    try:
        yield
    finally:
        ops.RegisterStatistics = registration


REPEATED: list[str] = []
"""Operations that keras-flops registers although TensorFlow has them; fault 1."""

with _without_repeated_registration(REPEATED):
    import keras_flops


def get_flops(model: keras.Model, inputs: Any, batch_size: int = 1) -> int:
    """Return keras-flops' count of one prediction.

    Args:
        model: Built.
        inputs: Specs of its inputs, in the structure that it takes; the first size is replaced.
        batch_size: Images of the prediction.

    Returns:
        FLOPs of the whole batch, by TensorFlow's profiler: an operation that it has no formula
        for counts 0, a loop's body counts once.
    """
    with _quiet_profiler():
        if has_tuple_shapes(model):
            model = _with_specs(model, inputs)
        return int(keras_flops.get_flops(model, batch_size=batch_size))


def has_formula(kind: str) -> bool:
    """Whether TensorFlow's profiler, and so keras-flops, counts operations of a type at all."""
    try:
        ops._stats_registry.lookup(f"{kind},flops")
    except LookupError:
        return False
    return True


def has_tuple_shapes(model: keras.Model) -> bool:
    """Whether the model shows fault 2 (or, like a class of one's own, declares no inputs)."""
    try:
        for tensor in model.inputs or [None]:
            _ = [1] + tensor.shape[1:]  # noqa: RUF005  # what keras-flops does
    except (AttributeError, TypeError):
        return True
    return False


def _with_specs(model: keras.Model, specs: Any) -> keras.Model:
    """Return a model that predicts like another and whose inputs have TensorFlow's shapes."""
    flat = keras.tree.flatten(specs)

    class WithSpecs(keras.Model):  # type: ignore[misc]  # keras is untyped
        inputs = flat

        def __call__(self, tensors: list[tf.Tensor]) -> Any:
            return model(keras.tree.pack_sequence_as(specs, tensors), training=False)

    return WithSpecs(name=model.name)


@contextmanager
def _quiet_profiler() -> Iterator[None]:
    """Keep TensorFlow's profiler from printing its report and its deprecations."""
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder.float_operation
    logger = tf.get_logger()
    level = logger.level
    builder.float_operation = staticmethod(lambda: {**options(), "output": "none"})
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        builder.float_operation = staticmethod(options)
        logger.setLevel(level)
