"""Whether a model predicts classes or numbers: its loss says it."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from fm_mlflow.data.dataset import Dataset
from fm_mlflow.training.user_source import UnfitError, accepting

_OF_CLASSES = ("crossentropy", "hinge", "kldivergence")
_OF_NUMBERS = (
    *("meansquarederror", "meanabsoluteerror", "meanabsolutepercentageerror"),
    *("meansquaredlogarithmicerror", "huber", "logcosh", "poisson", "cosinesimilarity"),
)
_LOSS = "a model compiled with a loss for numbers, such as mean_squared_error"


def predicts_numbers(model: keras.Model, output_shape: tuple[int, ...], dataset: Dataset) -> bool:
    """Tell whether a model is one of numbers.

    Of a loss of the author's own, which may be either, the data decide: whole targets are class
    numbers where there are as many outputs as classes.

    Args:
        model: Built; where it is not compiled, it is to be one of classes.
        output_shape: Of one example.
        dataset: What it is to learn.

    Raises:
        UnfitError: The data are of the other kind.
    """
    classes = dataset.numbered_classes()
    loss = _loss_name(model.loss) if model.compiled else ""
    if not model.compiled or any(part in loss for part in _OF_CLASSES):
        if not classes:
            targets = dataset.train.targets
            hint = ""
            if targets.ndim == 2 and np.isin(targets[:1], (0, 1)).all() and targets[:1].sum() == 1:
                hint = "; of one-hot rows, y.argmax(axis=1) with a sparse loss"
            its = f"its loss, {loss}," if loss else "the loss of one that is not compiled"
            raise UnfitError(
                f"{_LOSS}: the targets are {targets.dtype} of shape {targets.shape[1:]}, no class "
                f"numbers from 0; {its} is one for classes{hint}"
            )
        return False
    if loss in _OF_NUMBERS:
        # Of the built-in data sets everybody knows that they are classes.
        return not dataset.class_names
    return not dataset.class_names and output_shape != (len(classes),)


def check_numbers(
    model: keras.Model, inputs: NDArray[Any], outputs: NDArray[Any], targets: NDArray[Any]
) -> None:
    """Check that a model gives as many numbers as there are, and that its loss takes them.

    Args:
        model: Compiled.
        inputs: Of a few examples.
        outputs: The model's for them.
        targets: Of the same examples.

    Raises:
        UnfitError: It does not.
    """
    numbers, given = (int(np.prod(each.shape[1:])) for each in (targets, outputs))
    if numbers != given or len(outputs) != len(targets):
        shape = (None, *(targets.shape[1:] or (1,)))
        raise UnfitError(
            f"one output of shape {shape}, like the targets; the model gives {outputs.shape[1:]}"
        )
    with accepting(_LOSS):
        tensor = keras.ops.convert_to_tensor(outputs)
        loss = model.compute_loss(x=inputs, y=targets, y_pred=tensor, training=False)
        float(np.mean(keras.ops.convert_to_numpy(loss)))


def _loss_name(loss: Any) -> str:
    """Return what Keras calls a loss, in any spelling, in small letters alone."""
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:
            return ""
    if isinstance(loss, partial):
        loss = loss.func
    name = getattr(loss, "__name__", type(loss).__name__)
    return str(name).replace("_", "").lower()
