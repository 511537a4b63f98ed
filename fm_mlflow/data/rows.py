"""Rows of examples: arrays of any kind and shape, checked; and how they reach a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fm_mlflow.errors import DataError

MOST_CLASSES = 1_000
"""Classes of a data set. A comparison has tables of their number squared."""

_ROWS_AT_ONCE = 2**22


class LazyRows(Protocol):
    """An array that is never in memory as a whole: rows are read when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole array."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its values."""

    @property
    def nbytes(self) -> int:
        """Of the whole array, were it in memory."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def __getitem__(self, rows: Any) -> Any:
        """Return the array of these rows; or for a slice, the lazy rows of it."""


Rows = Any
"""An array, a memory map, or `LazyRows`, of shape (n, *shape of an example)."""


@dataclass(frozen=True)
class FourParts:
    """What a data set of the user's own consists of, once it is checked.

    Attributes:
        x_train: What the model learns from, shape (n, *shape of an example).
        y_train: Class numbers or numbers, shape (n, …).
        x_test: As `x_train`.
        y_test: As `y_train`.
        class_names: In label order; empty where nobody named them.
        source: Where it came from, for error messages and the run.
    """

    x_train: Rows
    y_train: NDArray[Any]
    x_test: Rows
    y_test: NDArray[Any]
    class_names: tuple[str, ...]
    source: str


def digest(*arrays: Sequence[Rows]) -> str:
    """SHA-256 of shapes, types and contents, in hexadecimal; unsigned bytes need no type.

    Args:
        arrays: Each in parts that are one array after the other. Of lazy rows their own checksums
            count.
    """
    total = hashlib.sha256()
    for parts in arrays:
        shape = (sum(map(len, parts)), *parts[0].shape[1:])
        if hasattr(parts[0], "checksums"):
            total.update(repr(shape[:1]).encode())
            for part in parts:
                total.update(b"".join(part.checksums))
            continue
        total.update(repr(shape).encode())
        if (kind := parts[0].dtype) != np.uint8:
            total.update(kind.newbyteorder("<").str.encode())
        for part in parts:
            total.update(np.ascontiguousarray(part).data.cast("B"))
    return total.hexdigest()


def check_parts(parts: FourParts) -> FourParts:
    """Bring the arrays of a data set into the form that training takes, and check them.

    Raises:
        DataError: They are no numbers, not finite, or do not belong together.
    """
    source = parts.source
    arrays: dict[str, Any] = {}
    for name in ("x_train", "y_train", "x_test", "y_test"):
        arrays[name] = _checked(getattr(parts, name), f"{source}: {name}")
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if len(x) != len(y):
            raise DataError(f"{source}: x_{part} has {len(x):,} examples, y_{part} {len(y):,}")
        if len(x) == 0 or 0 in x.shape:
            raise DataError(f"{source}: x_{part} is empty, of shape {x.shape}")
    for kind in "xy":
        train, test = arrays[f"{kind}_train"], arrays[f"{kind}_test"]
        shapes, types = (train.shape[1:], test.shape[1:]), (train.dtype, test.dtype)
        if shapes[0] != shapes[1] or types[0] != types[1]:
            raise DataError(
                f"{source}: an example of {kind}_train is {types[0]} of shape {shapes[0]}, of "
                f"{kind}_test {types[1]} of shape {shapes[1]}; both are to be the same"
            )
    names = parts.class_names
    if names and class_count(arrays["y_train"], arrays["y_test"]) not in range(2, len(names) + 1):
        lowest = min(arrays["y_train"].min(), arrays["y_test"].min())
        highest = max(arrays["y_train"].max(), arrays["y_test"].max())
        raise DataError(
            f"{source}: the targets are {arrays['y_train'].dtype} from {lowest} to {highest}, and "
            f"class_names names {len(names)} classes; whole numbers from 0 to {len(names) - 1} are "
            "expected, of 2 classes or more"
        )
    return FourParts(**arrays, class_names=names, source=source)


def class_count(*targets: NDArray[Any]) -> int:
    """Return how many classes there are where targets are class numbers, shape (n,); else 0."""
    if any(part.dtype.kind not in "iu" or part.ndim != 1 or part.min() < 0 for part in targets):
        return 0
    return int(max(part.max() for part in targets)) + 1


def _checked(given: Any, name: str) -> Any:
    if hasattr(given, "checksums"):
        return given  # of a folder of images, which has checked them
    array = given if isinstance(given, np.ndarray) else _as_array(given, name)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8 or array.ndim == 0:
        raise DataError(
            f"{name} is {array.dtype} of shape {array.shape}; an array of whole or floating-point "
            "numbers of at most 64 bits is expected, one example a row"
        )
    if array.dtype.kind == "b":
        array = array.astype(np.int8)  # uint8 would be taken for grey levels
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind == "f":
        step = max(1, _ROWS_AT_ONCE // max(1, array[:1].size))
        for start in range(0, len(array), step):
            if not np.isfinite(array[start : start + step]).all():
                raise DataError(f"{name} holds values that are no finite numbers (NaN or infinite)")
    is_target = name.rpartition(" ")[2].startswith("y_")
    if is_target and array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    return array[:, None] if array.ndim == 1 and not is_target else array


def _as_array(given: Any, name: str) -> NDArray[Any]:
    try:
        return np.asarray(given)
    except Exception as error:  # of whatever class the user's object is
        text = " ".join(str(error).split())
        raise DataError(f"{name} is {type(given).__name__}, no array: {text}") from error
