"""Keras on JAX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import keras
import numpy as np

TITLE = "JAX"
CALLED = "in an array on the device, through jax.jit"


def compiled_call(model: keras.Model, inputs: Any) -> Callable[[], object]:
    """Return what predicts the inputs (arrays) and waits until the outputs are in NumPy."""
    arrays = keras.tree.map_structure(jax.numpy.asarray, inputs)
    values = [variable.value for variable in model.variables]
    call = jax.jit(prediction(model))
    return lambda: [np.asarray(output) for output in keras.tree.flatten(call(values, arrays)[0])]


def prediction(model: keras.Model) -> Callable[[Sequence[Any], Any], tuple[Any, list[Any]]]:
    """Return a model's prediction as a pure function.

    It takes the values of `model.variables` and the inputs, and returns the outputs and the values
    that variables have after it. Unlike `stateless_call` it calls the model as a user does, so a
    `call` without the argument `training` will do.
    """
    variables = model.variables

    def predict(values: Sequence[Any], inputs: Any) -> tuple[Any, list[Any]]:
        with keras.StatelessScope(list(zip(variables, values, strict=True))) as scope:
            outputs = model(inputs, training=False)
        return outputs, [scope.get_current_value(variable) for variable in variables]

    return predict


def square_product(side: int, dtype: str) -> Callable[[], object]:
    """Return what multiplies two matrices of so many rows, and waits for the result."""
    left, right = (jax.random.normal(jax.random.key(seed), (side, side), dtype) for seed in (1, 2))
    return lambda: jax.numpy.matmul(left, right).block_until_ready()


def kept_value(variable: keras.Variable) -> Any:
    """Return a variable's value, which stays what it is when the variable is written."""
    # A copy: Keras gives the buffers of a model to the functions that it compiles.
    return jax.numpy.copy(variable.value)
