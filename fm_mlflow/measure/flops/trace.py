"""Tracing: a model's prediction and its real training step, as TensorFlow graphs.

Nothing is executed, so weights, optimizer state, metrics and random states stay as they are. An
optimizer without its variables gets them, as it would at the start of the fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import keras
import tensorflow as tf

from fm_mlflow.measure.flops.marks import Marks
from fm_mlflow.measure.flops.model_code import first_step, model_code
from fm_mlflow.measure.flops.nodes import FlatGraph
from fm_mlflow.measure.flops.specs import Spec, Structure
from fm_mlflow.process.garbage import forget_gradients


def trace_prediction(model: keras.Model, inputs: Structure, marks: Marks) -> Any:
    """Trace one call in inference mode: a concrete function."""
    return _trace(lambda x: model(x, training=False), inputs, model, marks, "prediction")


def trace_training_step(
    model: keras.Model, steps: Mapping[str, Structure], marks: Marks
) -> tuple[Any, str]:
    """Trace one step of `fit`: loss, gradients, optimizer, metrics.

    Args:
        model: Compiled.
        steps: What `train_step` may be given, by what it is; the first that it takes is traced.
        marks: Of the table.

    Returns:
        A concrete function, and what the step is given.
    """

    def trace(data: Structure) -> Any:
        marks.rows.clear()
        return _trace(lambda data: model.train_step(data), data, model, marks, "training step")

    return first_step(model, steps, trace)


def tensor_specs(structure: Structure) -> Structure:
    """Return specs as TensorFlow has them."""
    return keras.tree.map_structure(
        lambda spec: tf.TensorSpec(spec.shape, spec.dtype) if isinstance(spec, Spec) else spec,
        structure,
    )


def forget(flat: FlatGraph) -> None:
    """Let the traced graph go, which nothing else can reach."""
    forget_gradients(_gradients(flat))


def _gradients(flat: FlatGraph) -> Iterator[str]:
    for op in flat.identities:
        with suppress(ValueError):  # it passes data on, and has no gradient of its own
            yield op.get_attr("_gradient_op_type").decode()


def _trace(
    function: Callable[[Structure], Any],
    argument: Structure,
    model: keras.Model,
    marks: Marks,
    what: str,
) -> Any:
    with model_code(f"{what} cannot be traced"), marks.applied(model):
        # Without autograph, as Keras' trainer. A `tf.function` would add control dependencies as
        # well, which nothing is counted by; they take an eighth of its time.
        return tf.compat.v1.wrap_function(function, [tensor_specs(argument)])
