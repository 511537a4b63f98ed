"""Tracing: a model's prediction and its real training step, as TensorFlow graphs.

Nothing is executed, so weights, optimizer state, metrics and random states stay as they are. An
optimizer without its variables gets them, as it would at the start of the fit.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fm_mlflow.errors import FlopsError, InputError
from fm_mlflow.measure.flops.marks import Marks, layer_rows
from fm_mlflow.measure.flops.nodes import FlatGraph
from fm_mlflow.process.redaction import one_line

Structure = Any
"""A tensor, or tuples, lists and dictionaries of them."""


def fixed_batch_size(model: keras.Model) -> int | None:
    """Return the batch size that a model is built for, None where it takes any."""
    shapes = [tensor.shape for tensor in keras.tree.flatten(getattr(model, "inputs", None) or [])]
    for row in layer_rows(model):
        if getattr(row.layer, "stateful", False):
            shapes += [state.shape for state in getattr(row.layer, "states", None) or []]
    return next((shape[0] for shape in shapes if shape and shape[0] is not None), None)


def input_specs(model: keras.Model, batch_size: int, example: Structure = None) -> Structure:
    """Return what the model takes, with the batch size as first size.

    Args:
        model: Built.
        batch_size: Images.
        example: Arrays or specs of the same structure; needed where the model declares no inputs.

    Raises:
        FlopsError: The inputs, or a size of theirs, are unknown.
    """
    specs = with_batch_size(_declared_inputs(model) if example is None else example, batch_size)
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
        return with_batch_size(example, batch_size)
    specs = with_batch_size(outputs, batch_size)
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
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    first: FlopsError | None = None
    for given, data in steps.items():
        marks.rows.clear()
        try:
            traced = _trace(
                lambda data: model.train_step(data), (data,), model, marks, "training step"
            )
        except FlopsError as error:
            first = first or error
        else:
            return traced, given
    raise first or FlopsError("there is no step", "pass what `train_step` gets as `data`")


def forget(flat: FlatGraph) -> None:
    """Let the traced graph go, which nothing else can reach.

    TensorFlow keeps the gradient of every `tf.custom_gradient` that it traced, and with it the
    graph: 40 MiB for a small net, as the sum of an optimizer's gradients over devices is one.
    """
    try:
        from tensorflow.python.framework.ops import gradient_registry

        kept = gradient_registry._registry
    except (ImportError, AttributeError):
        return  # another version of TensorFlow; the memory stays in use
    for op in flat.identities:
        with suppress(ValueError):  # it passes data on, and has no gradient of its own
            kept.pop(op.get_attr("_gradient_op_type").decode(), None)


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
            f"the {what} cannot be traced: {one_line(error)}",
            "pass `inputs` and `targets` as `fit` gets them, or all that `train_step` gets as "
            "`data`",
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


def with_batch_size(structure: Structure, batch_size: int) -> Structure:
    """Return specs of arrays, tensors or specs, with another first size."""

    def spec(tensor: Any) -> tf.TensorSpec:
        if not hasattr(tensor, "shape") or not hasattr(tensor, "dtype"):
            raise InputError("an example", tensor, "arrays, tensors or specs: shape and dtype")
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
