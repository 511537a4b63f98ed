"""The file of predictions, Parquet or CSV: there when it is complete, else not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv, parquet

from fm_mlflow.errors import InputError
from fm_mlflow.process.atomic_file import atomic_file


class PredictionFile:
    """Rows of predictions, written a piece at a time (`prediction_file` opens one).

    Columns: `row` (from 0, in the order of the input), `file` where the input is files, `label`
    (class number), `class_name`, and `probability_0` … one a class.

    Args:
        path: The file; its suffix says which format.
        class_names: In label order.
        files: Names of the input's files, one a row.
    """

    def __init__(self, path: Path, class_names: tuple[str, ...], files: Sequence[str] = ()) -> None:
        self._names = pa.array(class_names)
        self._files = files
        self._rows = 0
        probabilities = [(f"probability_{n}", pa.float32()) for n in range(len(class_names))]
        name = pa.string() if path.suffix == ".csv" else pa.dictionary(pa.int32(), pa.string())
        self._schema = pa.schema(
            [*_columns(files), ("label", pa.int32()), ("class_name", name), *probabilities]
        )
        self.writer = _writer(path, self._schema)

    def write(self, probabilities: NDArray[np.float32]) -> NDArray[np.int32]:
        """Write the next rows.

        Args:
            probabilities: Shape (n, classes).

        Returns:
            The most probable classes, shape (n,).
        """
        labels: NDArray[np.int32] = probabilities.argmax(axis=1).astype(np.int32)
        names = pa.DictionaryArray.from_arrays(pa.array(labels), self._names)
        columns = [
            *_first(self._rows, len(labels), self._files),
            pa.array(labels),
            names.cast(self._schema.field("class_name").type),
            *(pa.array(np.ascontiguousarray(column)) for column in probabilities.T),
        ]
        self.writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))
        self._rows += len(labels)
        return labels


class NumberFile:
    """Rows of predicted numbers: `row`, and `prediction`, or `prediction_0` … where several.

    Args:
        path: The file; its suffix says which format.
        numbers: How many the model gives for an example.
        files: Names of the input's files, one a row.
    """

    def __init__(self, path: Path, numbers: int, files: Sequence[str] = ()) -> None:
        self._files = files
        several = [f"prediction_{n}" for n in range(numbers)]
        columns = [(name, pa.float64()) for name in (["prediction"] if numbers == 1 else several)]
        self._schema = pa.schema([*_columns(files), *columns])
        self._rows = 0
        self.writer = _writer(path, self._schema)

    def write(self, outputs: NDArray[Any]) -> None:
        """Write the next rows: outputs of shape (n, …)."""
        values = outputs.reshape(len(outputs), -1).astype(np.float64)
        first = _first(self._rows, len(values), self._files)
        columns = [*first, *(pa.array(np.ascontiguousarray(column)) for column in values.T)]
        self.writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))
        self._rows += len(values)


def _columns(files: Sequence[str]) -> list[tuple[str, pa.DataType]]:
    return [("row", pa.int64()), *([("file", pa.string())] if files else [])]


def _first(start: int, rows: int, files: Sequence[str]) -> list[pa.Array]:
    """Return what stands before the predictions of some rows: their numbers, their files."""
    numbers = pa.array(np.arange(start, start + rows, dtype=np.int64))
    return [numbers, *([pa.array(files[start : start + rows])] if files else [])]


def _writer(path: Path, schema: pa.Schema) -> Any:
    if path.suffix == ".csv":
        return csv.CSVWriter(str(path), schema)
    # Probabilities do not repeat: a dictionary of them would only take time.
    return parquet.ParquetWriter(str(path), schema, use_dictionary=["class_name"])


@contextmanager
def prediction_file(
    path: Path, class_names: tuple[str, ...], files: Sequence[str] = ()
) -> Iterator[PredictionFile]:
    """Open an output of classes; see `output_file`.

    Args:
        path: The output, .csv or .parquet.
        class_names: In label order.
        files: Names of the input's files, one a row.
    """
    make = partial(PredictionFile, class_names=class_names, files=files)
    with output_file(path, make) as output:
        yield output


_File = TypeVar("_File", PredictionFile, NumberFile)


@contextmanager
def output_file(path: Path, make: Callable[[Path], _File]) -> Iterator[_File]:
    """Open an output; at the end of the block it replaces a file of its name, unless that raised.

    Args:
        path: The output, .csv or .parquet.
        make: Makes the file that rows are written to.

    Raises:
        InputError: The output cannot be written.
    """
    with atomic_file(path) as temporary:
        try:
            if path.is_dir():
                raise IsADirectoryError(21, "it is a folder")
            output = make(temporary)
        except OSError as error:
            accepted = f"a file that can be written ({os.strerror(error.errno or 0)})"
            raise InputError("output", str(path), accepted) from error
        with output.writer:
            yield output
