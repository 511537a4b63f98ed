"""What a running `model.fit` was given: its data and its other callbacks.

Keras hands a callback neither. Both are read from the call that is under way; where it looks
different, nothing is found and the callers say so.
"""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import keras
import numpy as np

from fm_mlflow.measure.flops.specs import Structure
from fm_mlflow.process.redaction import one_line

_WEIGHTED = 3
"""Parts of what a step receives: inputs, targets, weights."""

_DRAWN = "_fm_mlflow_drawn"
_MADE_UP = 16
_UNKNOWN_SIZE = 16


def callbacks_of_fit() -> list[keras.callbacks.Callback]:
    """Return all callbacks of the fit that calls a callback now; empty where they are not found."""
    return next((list(each.callbacks) for each in _callback_lists()), [])


def callbacks_under_way() -> list[keras.callbacks.Callback]:
    """Return the callbacks of all fits of this thread: one may run within another's callback."""
    return [callback for each in _callback_lists() for callback in each.callbacks]


def call_first(callback: keras.callbacks.Callback) -> None:
    """Have a callback called before all others of the fit that calls a callback now."""
    callbacks = next(_callback_lists(), None)
    if callbacks is not None:  # a new list: Keras is iterating over the one that it has
        callbacks.callbacks = [callback, *callbacks.callbacks]


def _callback_lists() -> Iterator[Any]:
    file = keras.callbacks.CallbackList.on_train_begin.__code__.co_filename
    for frame in _frames():
        # Python would keep the variables of any other frame that is looked at until it ends.
        if frame.f_code.co_filename == file:
            caller = frame.f_locals.get("self")
            if isinstance(caller, keras.callbacks.CallbackList):
                yield caller


def logs_to_mlflow(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback is one of MLflow's, which its autologging adds too."""
    return type(callback).__module__.partition(".")[0] == "mlflow"


@dataclass(frozen=True)
class Given:
    """What a fit was given.

    Attributes:
        x: Training data as `model.fit` takes them, without those that Keras split off.
        y: Targets, where `x` is arrays.
        weights: Sample weights, likewise.
        validation: Validation data as `model.fit` takes them, or what Keras split off; or None.
        validation_split: The fraction that Keras split off, 0 where it did not.
    """

    x: Any
    y: Any = None
    weights: Any = None
    validation: Any = None
    validation_split: float = 0.0


def data_of_fit(model: keras.Model) -> Given | None:
    """Return what the fit of a model that is under way was given; None where it is not found."""
    for frame in _frames():
        if frame.f_code.co_name == "fit":
            values = frame.f_locals
            if values.get("self") is model and "x" in values:
                names = ("y", "sample_weight", "validation_data", "validation_split")
                y, weights, validation, split = map(values.get, names)
                return Given(values["x"], y, weights, validation, float(split or 0))
    return None


def _frames() -> Iterator[FrameType]:
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def examples_of_fit(given: Given | None, specs: Structure) -> tuple[Any, str]:
    """Return examples of what the steps of a fit that is over received.

    Args:
        given: What the fit was given; None where it was not found.
        specs: Shapes and types of what a step received; None where they are not known.

    Returns:
        Inputs, targets and weights as far as there are any, and what is not real of them.
    """
    batch: Any = None
    said = ""
    try:
        batch = None if given is None else first_examples(given)
    except Exception as error:  # data are whatever the model takes
        said = f" ({one_line(error)})"
    if batch is None:
        said = f"the data cannot be drawn from again{said}: latency is of made-up inputs"
        return () if specs is None else made_up_examples(specs), said
    if isinstance(specs, (tuple, list)) and len(specs) == _WEIGHTED == 1 + len(batch):
        # `class_weight` gave the steps weights that the data do not have.
        return (*batch, np.ones(len(keras.tree.flatten(batch)[0]), specs[-1].dtype)), ""
    return batch, ""


def was_drawn_from(x: Any) -> bool:
    """Whether examples were drawn from what gives batches, which may have changed its order."""
    return getattr(x, _DRAWN, False) is True


def first_examples(given: Given, count: int = 256) -> Structure:
    """Return the first examples of data as `model.fit` takes them.

    The random states of Python and NumPy are as before. Those of a tf.data.Dataset that shuffles
    cannot be: nothing can copy or restore them.

    Args:
        given: Arrays, tensors or data frames; structures of them; a tf.data.Dataset, a PyDataset or
            a PyTorch DataLoader, whose first batch is drawn.
        count: At most so many.

    Returns:
        (inputs,), (inputs, targets) or (inputs, targets, weights), each a structure of arrays; None
        of a generator, which gives its batches once.
    """
    x = given.x
    if isinstance(x, Iterator):
        return None
    if isinstance(x, keras.utils.PyDataset) or _is_batched(x):
        states = random.getstate(), np.random.get_state()
        try:
            batch = x[0] if isinstance(x, keras.utils.PyDataset) else next(iter(x))
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
        with contextlib.suppress(AttributeError):  # a class that takes no attributes
            setattr(x, _DRAWN, True)
    else:
        batch = tuple(part for part in (x, given.y, given.weights) if part is not None)
    if not isinstance(batch, (tuple, list)) or (_is_batched(x) and isinstance(batch, list)):
        batch = tuple(batch) if isinstance(batch, list) else (batch,)
    return tuple(
        keras.tree.map_structure(lambda each: rows(each, count), part)
        for part in batch
        if part is not None
    )


def made_up_examples(specs: Structure) -> Structure:
    """Return examples of the shapes and types that a step received, where no real ones are left.

    Numbers are drawn from the standard normal distribution, whole numbers are 1, texts one letter;
    a size that the step did not know is 16.
    """
    numbers = np.random.default_rng(0)

    def examples(spec: Any) -> Any:
        shape = (_MADE_UP, *(_UNKNOWN_SIZE if size is None else size for size in spec.shape[1:]))
        if spec.dtype == "string":
            return np.full(shape, "a")
        if "float" in spec.dtype:
            return numbers.standard_normal(shape).astype(spec.dtype)
        return np.ones(shape, spec.dtype)

    parts = specs if isinstance(specs, (tuple, list)) else (specs,)
    return tuple(keras.tree.map_structure(examples, part) for part in parts if part is not None)


def _is_batched(x: Any) -> bool:
    """Whether it gives batches when it is iterated over."""
    names = {f"{each.__module__.partition('.')[0]}.{each.__name__}" for each in type(x).__mro__}
    return not names.isdisjoint({"tensorflow.DatasetV2", "torch.DataLoader"})


def rows(part: Any, count: int) -> Any:
    """Return the first rows of an array, tensor or data frame, as an array; texts as they are."""
    first = part[:count]
    if hasattr(first, "to_numpy"):  # of a data frame
        return first.to_numpy()
    return first if _is_string_tensor(first) else np.asarray(keras.ops.convert_to_numpy(first))


def _is_string_tensor(part: Any) -> bool:
    return str(getattr(part, "dtype", "")) in {"<dtype: 'string'>", "string", "object"}
