"""The dtype policy of Keras that a model is built with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from fm_mlflow.settings.precision import FULL, Precision
from fm_mlflow.training.user_source import UnfitError


@contextmanager
def built_with(precision: Precision) -> Iterator[None]:
    """Let layers that are made inside compute in a precision, unless they name one of their own.

    The default leaves Keras' own policy as it is.
    """
    if precision == FULL:
        yield
        return
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def check_precision(model: keras.Model, precision: Precision) -> None:
    """Make sure that a model computes in the mixed precision that was asked for.

    Raises:
        UnfitError: None of its layers with weights does: they name types of their own.
    """
    if precision == FULL:
        return
    # What has no weights has the default, as the inputs of a model do, whatever is computed.
    if not any(each.weights and each.dtype_policy.name == precision for each in _layers(model)):
        raise UnfitError(f"a model with a layer that computes in {precision}; none of its does")


def _layers(model: keras.Model) -> Iterator[keras.Layer]:
    """Yield the layers of a model, and those of the models among them."""
    for layer in model.layers:
        yield from _layers(layer) if isinstance(layer, keras.Model) else (layer,)
