"""Tracing: a model's prediction and its real training step, as TensorFlow graphs.

Nothing is executed, so weights, optimizer state, metrics and random states stay as they are. An
optimizer without its variables gets them, as it would at the start of the fit.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fm_mlflow.errors import FlopsError
from fm_mlflow.measure.flops.marks import Marks
from fm_mlflow.measure.measurement import describe_error

Structure = Any
"""A tensor, or tuples, lists and dictionaries of them."""


def input_specs(model: keras.Model, batch_size: int, example: Structure = None) -> Structure:
    """Return what the model takes, with the batch size as first size.

    Args:
        model: Built.
        batch_size: Images.
        example: Arrays or specs of the same structure; needed where the model declares no inputs.

    Raises:
        FlopsError: The inputs, or a size of theirs, are unknown.
    """
    specs = _with_batch_size(_declared_inputs(model) if example is None else example, batch_size)
    for spec in keras.tree.flatten(specs):
        if not spec.shape.is_fully_defined():
            raise FlopsError(
                f"an input has the shape (batch, {', '.join(map(str, spec.shape[1:]))})",
                "pass an example of fixed size, or specs, as `inputs`",
            )
    return specs


def target_specs(
    model: keras.Model, outputs: Structure, batch_size: int, example: Structure = None
) -> Structure:
    """Return what the loss is given beside the outputs, with the batch size as first size.

    Without an example: class numbers of shape (batch,) for a sparse loss, else numbers of the
    output's shape.
    """
    if example is not None:
        return _with_batch_size(example, batch_size)
    specs = _with_batch_size(outputs, batch_size)
    flat = keras.tree.flatten(specs)
    if isinstance(specs, Mapping):
        names = sorted(specs)  # the order in which trees are flattened
    else:
        names = list(getattr(model, "output_names", None) or [""] * len(flat))
    targets = [
        tf.TensorSpec(spec.shape[:-1], tf.int32) if _is_sparse(model.loss, name, index) else spec
        for index, (name, spec) in enumerate(zip(names, flat, strict=True))
    ]
    return keras.tree.pack_sequence_as(specs, targets)


def trace_prediction(model: keras.Model, inputs: Structure, marks: Marks) -> Any:
    """Trace one call in inference mode: a concrete function."""
    return _trace(lambda x: model(x, training=False), (inputs,), model, marks, "prediction")


def trace_training_step(
    model: keras.Model, inputs: Structure, targets: Structure, marks: Marks
) -> Any:
    """Trace one step of `fit`: loss, gradients, optimizer, metrics; a concrete function."""
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return _trace(
        lambda x, y: model.train_step((x, y)), (inputs, targets), model, marks, "training step"
    )


def _trace(
    function: Callable[..., Any],
    arguments: tuple[Structure, ...],
    model: keras.Model,
    marks: Marks,
    what: str,
) -> Any:
    # Keras' trainer traces without autograph as well.
    traced = tf.function(function, autograph=False)
    # A layer may draw numbers in Python while it is traced; the fit must draw the same.
    state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with marks.applied(model):
            return traced.get_concrete_function(*arguments)
    except Exception as error:  # whatever the model's own code raises
        raise FlopsError(
            f"the {what} cannot be traced: {describe_error(error)}",
            "pass `inputs` and `targets` as `fit` gets them",
        ) from error
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)


def _declared_inputs(model: keras.Model) -> Structure:
    """Return the symbolic inputs in the structure that the model takes."""
    tensors = getattr(model, "inputs", None)
    if not tensors:
        raise FlopsError(
            f"{type(model).__name__} does not declare its inputs",
            "pass an example of them, or specs, as `inputs`",
        )
    structure = getattr(model, "input", tensors)  # unlike `inputs`, tells a dictionary from a list
    return tensors[0] if len(tensors) == 1 and isinstance(structure, list) else structure


def _with_batch_size(structure: Structure, batch_size: int) -> Structure:
    def spec(tensor: Any) -> tf.TensorSpec:
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        return tf.TensorSpec((batch_size, *tensor.shape[1:]), dtype)

    return keras.tree.map_structure(spec, structure)


def _is_sparse(loss: Any, name: str, index: int) -> bool:
    if isinstance(loss, Mapping):
        loss = loss.get(name)
    elif isinstance(loss, Sequence) and not isinstance(loss, str):
        loss = loss[index] if index < len(loss) else None
    label = loss if isinstance(loss, str) else getattr(loss, "name", getattr(loss, "__name__", ""))
    return "sparse" in str(label)
