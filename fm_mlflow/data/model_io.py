"""What a model takes and gives: examples as inputs; probabilities, logits or numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

OUTPUTS, LOGITS, PROBABILITIES, NUMBERS = "outputs", "logits", "probabilities", "numbers"
"""What a logged model's metadata say of its outputs: name and values."""

INPUTS, IMAGES = "inputs", "images"
"""What they say of its inputs: name, and the value of grey levels as `to_inputs` scales them.

The other value is `NUMBERS`: examples reach the model as they are.
"""

_NARROWEST = 4
"""Bytes of the narrowest type in which probabilities are computed and stored: float32."""


def to_inputs(rows: Any, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return examples as a model takes them.

    Args:
        rows: Shape (n, ...), whole or floating-point numbers. Unsigned bytes of two axes or more
            are images.
        shape: Of one input.
        dtype: Of the model's input.

    Returns:
        Shape (n, *shape): the numbers as they are; images as 0 to 1, unless the model takes whole
        numbers.
    """
    values = np.asarray(rows)
    are_levels = values.dtype == np.uint8 and values.ndim > 2
    values = values.reshape(len(values), *shape)
    if not are_levels or np.issubdtype(dtype, np.integer):
        return values.astype(dtype, copy=False)
    scaled: NDArray[Any] = np.divide(values, 255, dtype=np.float32)
    return scaled.astype(dtype, copy=False)


def widened(outputs: NDArray[Any]) -> NDArray[Any]:
    """Return outputs as float64, or float32 of all narrower types."""
    return outputs.astype(np.float32) if outputs.dtype.itemsize < _NARROWEST else outputs


def to_probabilities(outputs: NDArray[Any], gives_logits: bool) -> NDArray[Any]:
    """Return outputs of shape (n, classes) as probabilities: float64, or float32 of all others.

    NumPy's own files, and those who read them, know no bfloat16; in float16, rows would not sum
    to 1.
    """
    outputs = widened(outputs)
    if not gives_logits:
        return outputs
    from scipy.special import softmax

    probabilities: NDArray[Any] = softmax(outputs, axis=-1)
    return probabilities


def two_classes(outputs: NDArray[Any], gives_logits: bool) -> NDArray[Any]:
    """Return outputs of shape (n, 1), which speak of the second class, as probabilities of both."""
    from scipy.special import expit

    one = widened(outputs).reshape(-1)
    one = expit(one) if gives_logits else one
    return np.stack([1 - one, one], axis=1)


def are_probabilities(outputs: NDArray[Any]) -> bool:
    """Tell whether outputs of shape (n, classes) look like probabilities; else they are logits.

    For models that do not say what they give.
    """
    tolerance = 1e-3 if outputs.dtype.itemsize >= _NARROWEST else 3e-2
    values = outputs.astype(np.float64)
    return bool((values >= 0).all() and np.allclose(values.sum(axis=-1), 1, atol=tolerance))
