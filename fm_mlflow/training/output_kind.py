"""What a Keras model gives, read from the operations that compute it: probabilities or logits."""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from fm_mlflow.measure.flops.graph import flatten

if TYPE_CHECKING:
    from fm_mlflow.measure.flops.nodes import Ref

_SAME_ROWS = ("Cast", "StopGradient", "PreventGradient", "EnsureShape", "CheckNumerics")
_RESHAPED = ("Reshape", "Squeeze", "ExpandDims")
_PRODUCTS = ("MatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "Conv2D", "Conv3D")
_ARITHMETIC = (
    *("Add", "AddV2", "AddN", "BiasAdd", "Sub", "Mul", "RealDiv", "Neg", "ConcatV2"),
    *("Mean", "Max", "MaxPool", "AvgPool"),
)
_UNBOUNDED = (
    *("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Tanh", "Softplus", "Softsign"),
    *("LogSoftmax", "Log"),
)
"""Whatever they are given, the rows of what they return do not sum to 1."""


class OutputKind(str, Enum):
    """What the outputs of a classifier are."""

    PROBABILITIES = "probabilities"
    LOGITS = "logits"
    SIGMOID = "probabilities of each class by itself"


def output_kind(model: keras.Model, examples: Any) -> OutputKind | None:
    """Read what a built model gives from its operations, without running it.

    A softmax is found behind casts, reshapes, averages and constant factors, in nested and
    subclassed models too. What ends in a product of weights is logits.

    Args:
        model: One output of shape (n, classes).
        examples: A few inputs.

    Returns:
        None where the operations do not tell.
    """
    call = tf.function(lambda inputs: model(inputs, training=False), autograph=False)
    try:
        traced = call.get_concrete_function(tf.constant(examples))
        (output,) = flatten(traced.graph).outputs
    except Exception:  # a model that only runs eagerly, or operations that nobody knows
        return None
    total = _row_sum(output)
    if total is not None:
        return OutputKind.PROBABILITIES if math.isclose(total, 1, abs_tol=1e-3) else None
    return _kind(output)


def _kind(ref: Ref) -> OutputKind | None:
    kind, inputs = ref.node.kind, ref.node.inputs
    if kind == "Sigmoid":
        return OutputKind.SIGMOID
    if kind in (*_SAME_ROWS, *_RESHAPED):
        return _kind(inputs[0])
    if kind in _UNBOUNDED:
        return OutputKind.LOGITS
    if kind in _PRODUCTS:  # of weights, unless it mixes probabilities in shares
        mixes = any(_row_sum(each) is not None for each in inputs)
        return None if mixes and not any(map(_is_weight, inputs)) else OutputKind.LOGITS
    if kind in _ARITHMETIC and any(_kind(each) is OutputKind.LOGITS for each in inputs):
        return OutputKind.LOGITS
    return None


def _is_weight(ref: Ref) -> bool:
    while ref.node.kind in (*_SAME_ROWS, *_RESHAPED):
        ref = ref.node.inputs[0]
    return ref.node.kind == "ReadVariableOp"


def _row_sum(ref: Ref) -> float | None:
    """Return what each row sums to of values that are never negative; None where unknown."""
    kind, inputs = ref.node.kind, ref.node.inputs
    if kind == "Softmax":
        return 1.0
    if kind in _SAME_ROWS or (kind in _RESHAPED and _last(ref) == _last(inputs[0])):
        return _row_sum(inputs[0])
    if kind == "Mean":
        axes = tf.get_static_value(inputs[1].tensor)
        rank = inputs[0].tensor.shape.rank
        if axes is not None and rank and rank - 1 not in np.ravel(axes) % rank:
            return _row_sum(inputs[0])
    if kind in ("AddV2", "Add", "AddN", "BiasAdd"):
        parts = [_row_sum(each) for each in inputs]
        if all(part is None for part in parts):
            return None
        parts = [
            _constant_sum(each, _last(ref)) if part is None else part
            for each, part in zip(inputs, parts, strict=True)
        ]
        return None if None in parts else sum(parts)  # type: ignore[arg-type]
    if kind in ("Mul", "RealDiv"):
        for each, other in (inputs, inputs[::-1]):
            factor = tf.get_static_value(other.tensor)
            if factor is not None and np.size(factor) == 1 and np.ravel(factor)[0] > 0:
                total, number = _row_sum(each), float(np.ravel(factor)[0])
                if total is not None and (kind == "Mul" or other is inputs[1]):
                    return total * number if kind == "Mul" else total / number
    return None


def _constant_sum(ref: Ref, size: int | None) -> float | None:
    """Return the sum of a constant that is added to rows of so many values, none negative."""
    value = tf.get_static_value(ref.tensor)
    if value is None or size is None or np.size(value) not in (1, size) or np.min(value) < 0:
        return None
    return float(np.sum(value, dtype=np.float64) * size / np.size(value))


def _last(ref: Ref) -> int | None:
    shape = ref.tensor.shape
    return shape[-1] if shape.rank else None
