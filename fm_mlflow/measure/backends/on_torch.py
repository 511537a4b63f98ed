"""Keras on PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import torch

TITLE = "PyTorch"
CALLED = "in a tensor on the device, eagerly in torch.inference_mode"


def compiled_call(model: keras.Model, inputs: Any) -> Callable[[], object]:
    """Return what predicts the inputs (arrays) and waits until the outputs are in NumPy."""
    tensors = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)

    def call() -> list[Any]:
        with torch.inference_mode():
            outputs = model(tensors, training=False)
        return [keras.ops.convert_to_numpy(output) for output in keras.tree.flatten(outputs)]

    return call


def square_product(side: int, dtype: str) -> Callable[[], object]:
    """Return what multiplies two matrices of so many rows, and waits for the result."""
    device = keras.ops.zeros(()).device  # Keras' own choice
    generator = torch.Generator(device).manual_seed(1)  # leaves the global one as it is
    settings: Any = {"generator": generator, "device": device, "dtype": getattr(torch, dtype)}
    left, right = (torch.randn(side, side, **settings) for _ in range(2))
    # One element is enough to wait for the product, on a GPU too.
    return lambda: torch.matmul(left, right)[0, 0].item()


def kept_value(variable: keras.Variable) -> Any:
    """Return a variable's value, which stays what it is when the variable is written."""
    return variable.value.detach().clone()
