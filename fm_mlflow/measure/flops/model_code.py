"""Calls of a model's own code, which may fail in any way and may draw random numbers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import keras
import numpy as np

from fm_mlflow.errors import FlopsError
from fm_mlflow.measure.flops.specs import Structure
from fm_mlflow.process.redaction import one_line

Counted = TypeVar("Counted")


@contextmanager
def model_code(what: str) -> Iterator[None]:
    """Raise whatever the model's code raises as a FlopsError; keep Python's random states.

    A layer may draw numbers in Python while it is traced; the fit must draw the same.

    Args:
        what: What is done with the model, for the message.
    """
    state, numpy_state = random.getstate(), np.random.get_state()
    try:
        yield
    except FlopsError:
        raise
    except Exception as error:
        raise FlopsError(
            f"the {what}: {one_line(error)}",
            "pass `inputs` and `targets` as `fit` gets them, or all that `train_step` gets as "
            "`data`",
        ) from error
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)


def build_metrics(model: keras.Model, data: Structure) -> None:
    """Give a model that was never trained its metrics, as the start of the fit would."""
    build = getattr(model, "_symbolic_build", None)
    if build is not None:
        build(data_batch=data)


def first_step(
    model: keras.Model, steps: Mapping[str, Structure], attempt: Callable[[Structure], Counted]
) -> tuple[Counted, str]:
    """Take the first step of training that the model takes.

    Args:
        model: Compiled; its optimizer gets its variables, as it would at the start of the fit.
        steps: What `train_step` may be given, by what it is.
        attempt: Returns what is wanted of one step, or raises a FlopsError.

    Returns:
        What the attempt returned, and what the step is given.

    Raises:
        FlopsError: Of the first step, if the model takes none.
    """
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    first: FlopsError | None = None
    for given, data in steps.items():
        try:
            return attempt(data), given
        except FlopsError as error:
            first = first or error
    raise first or FlopsError("there is no step", "pass what `train_step` gets as `data`")
