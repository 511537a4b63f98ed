"""keras-flops 0.1.2 on a current TensorFlow and Keras.

Two faults of keras-flops are worked around:

1. Importing it raises KeyError: it registers a FLOPs formula for `AddV2`, which TensorFlow has had
   itself since 2.6. `REPEATED` names what it registered a second time; empty means mended.
2. `get_flops` computes `[batch_size] + input.shape[1:]`: a list plus Keras 3's shape, a tuple,
   which is a TypeError. It is given a model whose inputs have TensorFlow's shapes.

Besides, it prints TensorFlow's profile to the terminal; here it does not. All of this may raise
anything on another version: import this module and call it inside a guard.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework import ops

from fm_mlflow.process.quiet import errors_only

REPEATED: list[str] = []
"""Operations that keras-flops registers although TensorFlow has them; fault 1."""


@contextmanager
def _without_repeated_registration() -> Iterator[None]:
    """Let TensorFlow's own formula stand where a second one is registered."""
    registration = ops.RegisterStatistics

    def register(op_type: str, statistic: str) -> Any:
        if not has_formula(op_type):
            return registration(op_type, statistic)
        REPEATED.append(op_type)
        return lambda function: function

    ops.RegisterStatistics = register
    try:
        yield
    finally:
        ops.RegisterStatistics = registration


def get_flops(model: keras.Model, inputs: Any) -> int:
    """Return keras-flops' count of one prediction.

    TensorFlow's profiler counts 0 for an operation that it has no formula for, a loop's body once.

    Args:
        model: Built.
        inputs: Specs of its inputs, in the structure that it takes; the first size becomes 1.
    """
    with _without_repeated_registration():
        import keras_flops
    flat = keras.tree.flatten(inputs)

    class WithSpecs(keras.Model):  # type: ignore[misc]  # keras is untyped
        """Predicts like the model; its inputs have TensorFlow's shapes (fault 2)."""

        inputs = flat

        def __call__(self, tensors: list[tf.Tensor]) -> Any:
            return model(keras.tree.pack_sequence_as(inputs, tensors), training=False)

    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder.float_operation
    builder.float_operation = staticmethod(lambda: {**options(), "output": "none"})
    try:
        with errors_only("tensorflow"):
            return int(keras_flops.get_flops(WithSpecs(name=model.name), batch_size=1))
    finally:
        builder.float_operation = staticmethod(options)


def has_formula(kind: str) -> bool:
    """Whether TensorFlow's profiler, and so keras-flops, counts operations of a type at all."""
    try:
        ops._stats_registry.lookup(f"{kind},flops")
    except LookupError:
        return False
    return True
