"""Data that `train` gets from Python: arrays, tf.data datasets, or a function that returns them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fm_mlflow.data.rows import MOST_CLASSES, FourParts, check_parts
from fm_mlflow.data.spooled import is_stream, spool
from fm_mlflow.errors import DataError, InputError
from fm_mlflow.process.redaction import one_line
from fm_mlflow.settings.dataset import FROM_PYTHON

_FOUR = ("x_train", "y_train", "x_test", "y_test")
_ACCEPTED = (
    "(x_train, y_train), (x_test, y_test); a mapping with x_train, y_train, x_test, y_test and, if "
    "you like, class_names; two tf.data datasets for training and test, as a pair or by the names "
    "train and test; or a function without arguments that returns one of these"
)


def load_python_data(data: Any) -> FourParts:
    """Bring data from Python into the form that training takes.

    A tf.data dataset is gone through once and kept in a temporary file, in which the training then
    finds each example in the order that its seed says: it may be larger than memory. What is random
    in it (shuffling, augmentation) is drawn that once.

    Raises:
        InputError: It is none of the forms that are taken.
        DataError: The arrays do not belong together, or the function or the dataset failed.
    """
    if callable(data) and not is_stream(data):
        try:
            data = data()
        except Exception as error:  # of the user's code
            raise DataError(
                f"the function that was given as data raised {one_line(error)}"
            ) from error
    names: Any = ()
    if isinstance(data, Mapping):
        names = data.get("class_names", ())
        names = () if names is None else names
        rest = {name: part for name, part in data.items() if name != "class_names"}
        if rest.keys() == set(_FOUR):
            pairs: Any = [(rest["x_train"], rest["y_train"]), (rest["x_test"], rest["y_test"])]
        elif rest.keys() == {"train", "test"}:
            pairs = [rest["train"], rest["test"]]
        else:
            raise InputError("data", f"a mapping with {', '.join(map(str, data))}", _ACCEPTED)
    else:
        pairs = data
    if not (isinstance(pairs, Sequence) and not isinstance(pairs, str) and len(pairs) == 2):
        raise InputError("data", type(data).__name__, _ACCEPTED)
    arrays: dict[str, Any] = {}
    for part, pair in zip(("train", "test"), pairs, strict=True):
        if is_stream(pair):
            pair = spool(pair, f"data: {part}")
        if not (isinstance(pair, Sequence) and len(pair) == 2):
            raise InputError("data", f"{type(pair).__name__} for {part}", _ACCEPTED)
        arrays[f"x_{part}"], arrays[f"y_{part}"] = pair
    texts = tuple(map(str, np.ravel(np.asarray(names, object))))
    if len(texts) > MOST_CLASSES:
        raise InputError("data", f"{len(texts):,} class_names", f"at most {MOST_CLASSES:,}")
    return check_parts(FourParts(**arrays, class_names=texts, source=FROM_PYTHON))
