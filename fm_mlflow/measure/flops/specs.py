"""What a model's prediction and its training step are given, as shapes and types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from fm_mlflow.errors import FlopsError, InputError
from fm_mlflow.measure.flops.rows import layer_rows

Structure = Any
"""A tensor, or tuples, lists and dictionaries of them; None stands for what is left out."""


@dataclass(frozen=True)
class Spec:
    """Shape and type of an array, for any backend.

    Attributes:
        shape: Sizes; None where one is unknown.
        dtype: As Keras names it.
    """

    shape: tuple[int | None, ...]
    dtype: str


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
        if spec is not None and None in spec.shape:
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
        Spec(spec.shape[:-1], "int32") if _is_sparse(model.loss, name, index) else spec
        for index, (name, spec) in enumerate(zip(names, flat, strict=True))
    ]
    return keras.tree.pack_sequence_as(specs, targets)


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

    def spec(tensor: Any) -> Spec | None:
        if tensor is None:
            return None
        if not hasattr(tensor, "shape") or not hasattr(tensor, "dtype"):
            raise InputError("an example", tensor, "arrays, tensors or specs: shape and dtype")
        # NumPy has no type for text of any length.
        is_text = getattr(tensor.dtype, "kind", "") in ("O", "S", "T", "U")
        dtype = "string" if is_text else keras.backend.standardize_dtype(tensor.dtype)
        return Spec((batch_size, *tuple(tensor.shape)[1:]), dtype)

    return keras.tree.map_structure(spec, structure)


def _is_sparse(loss: Any, name: str, index: int) -> bool:
    if isinstance(loss, Mapping):
        loss = loss.get(name)
    elif isinstance(loss, Sequence) and not isinstance(loss, str):
        loss = loss[index] if index < len(loss) else None
    label = loss if isinstance(loss, str) else getattr(loss, "name", getattr(loss, "__name__", ""))
    return "sparse" in str(label)
