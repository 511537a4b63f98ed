"""A tf.data dataset as memory-mapped arrays: gone through once, however large it is."""

from __future__ import annotations

import tempfile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fm_mlflow.errors import DataError
from fm_mlflow.process.redaction import one_line

_INFINITE = -1
"""What `cardinality()` returns of a dataset that repeats for ever."""

_PAIRS = "elements (inputs, targets) as `model.fit` takes them, in batches or one by one"


def is_stream(data: Any) -> bool:
    """Tell whether something is a tf.data dataset, without importing TensorFlow."""
    return all(hasattr(data, name) for name in ("as_numpy_iterator", "cardinality", "element_spec"))


def spool(dataset: Any, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Write the examples of a tf.data dataset to temporary files; return maps of them.

    The files have no names: their space is free again when the maps are, or the process has ended.

    Args:
        dataset: Of pairs (inputs, targets), one array each, in batches or not.
        name: For error messages.

    Raises:
        DataError: It never ends, is empty, fails, holds something else, or the disk is full.
    """
    if int(dataset.cardinality()) == _INFINITE:
        raise DataError(f"{name} never ends; a tf.data dataset without repeat() is expected")
    spec = dataset.element_spec
    if not (isinstance(spec, tuple) and len(spec) == 2 and all(hasattr(s, "dtype") for s in spec)):
        raise DataError(f"{name} has elements {spec}; {_PAIRS} are expected, one array each")
    is_batched = spec[1].shape.rank != 0
    if is_batched and spec[0].shape.rank == 1 and spec[0].shape[0] is not None:
        raise DataError(  # one example of several targets, or a batch of examples of one number?
            f"{name} has inputs of shape {spec[0].shape}, targets of shape {spec[1].shape}; "
            f"{_PAIRS} are expected: batch(), without drop_remainder, tells which they are"
        )
    columns = [_Column(f"{name}, {part}") for part in ("inputs", "targets")]
    try:
        for element in dataset.as_numpy_iterator():
            pair = [part if is_batched else np.asarray(part)[None] for part in element]
            if len({len(part) for part in pair}) != 1:
                shapes = " and ".join(str(part.shape) for part in pair)
                raise DataError(f"{name} has batches of shape {shapes}; {_PAIRS} are expected")
            for column, part in zip(columns, pair, strict=True):
                column.append(part)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{name} cannot be kept in {tempfile.gettempdir()}: {error}") from error
    except Exception as error:  # TensorFlow's, or of the user's functions in it
        raise DataError(f"{name} raised {one_line(error)}") from error
    return columns[0].mapped(), columns[1].mapped()


class _Column:
    """Rows of one type and shape, in a file."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="fm_mlflow-")  # noqa: SIM115
        self._kind: tuple[np.dtype[Any], tuple[int, ...]] | None = None
        self._rows = 0

    def append(self, rows: NDArray[Any]) -> None:
        if rows.dtype.kind == "f" and rows.dtype != np.float32 and rows.dtype.itemsize <= 8:
            rows = rows.astype(np.float32)  # as the model will get them
        kind = rows.dtype, rows.shape[1:]
        if rows.dtype.kind not in "biuf":
            raise DataError(f"{self._name} are {rows.dtype}; numbers are expected")
        if self._kind not in (None, kind):
            raise DataError(
                f"{self._name} change from {self._kind} to {kind}; pad them to one shape"
            )
        self._kind = kind
        self._rows += len(rows)
        self._file.write(np.ascontiguousarray(rows).data)

    def mapped(self) -> NDArray[Any]:
        if self._kind is None or self._rows == 0 or 0 in self._kind[1]:
            raise DataError(f"{self._name} are empty")
        self._file.flush()
        dtype, shape = self._kind
        return np.memmap(self._file, dtype, "r", shape=(self._rows, *shape))
