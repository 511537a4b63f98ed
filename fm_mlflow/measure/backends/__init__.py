"""What Keras computes with: TensorFlow, JAX or PyTorch, each in a file that alone imports it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import keras

from fm_mlflow.errors import InputError


class Backend(Protocol):
    """What measuring takes from a backend: a module of this folder.

    Attributes:
        TITLE: What the framework is called.
        CALLED: How `compiled_call` calls a model, for the method of a measurement.
    """

    TITLE: str
    CALLED: str

    def compiled_call(self, model: keras.Model, inputs: Any, /) -> Callable[[], object]:
        """Return what predicts the inputs (arrays) and waits until the outputs are in NumPy."""

    def square_product(self, side: int, dtype: str, /) -> Callable[[], object]:
        """Return what multiplies two matrices of so many rows, and waits for the result."""

    def kept_value(self, variable: keras.Variable, /) -> Any:
        """Return a variable's value, which stays what it is when the variable is written."""


def backend() -> Backend:
    """Return what measures on Keras' backend; no other framework is imported.

    Raises:
        InputError: Keras has another backend.
    """
    name = keras.backend.backend()
    if name == "tensorflow":
        from fm_mlflow.measure.backends import on_tensorflow

        return on_tensorflow
    if name == "jax":
        from fm_mlflow.measure.backends import on_jax

        return on_jax
    if name == "torch":
        from fm_mlflow.measure.backends import on_torch

        return on_torch
    raise InputError("KERAS_BACKEND", name, "tensorflow, jax or torch")
