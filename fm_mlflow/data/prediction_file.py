"""The file of predictions, Parquet or CSV: there when it is complete, else not at all."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv, parquet

from fm_mlflow.errors import InputError


class PredictionFile:
    """Rows of predictions, written a piece at a time; a context manager.

    Columns: `row` (from 0, in the order of the input), `label` (class number), `class_name`, and
    `probability_0` … one a class. Until `finish`, they are in a hidden file beside the output.

    Entering raises InputError where the output cannot be written.

    Args:
        path: The output; its suffix says which format.
        class_names: In label order.
    """

    def __init__(self, path: Path, class_names: tuple[str, ...]) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._names = pa.array(class_names)
        self._rows = 0
        self._writer: Any = None
        probabilities = [(f"probability_{n}", pa.float32()) for n in range(len(class_names))]
        is_csv = path.suffix == ".csv"
        name = pa.string() if is_csv else pa.dictionary(pa.int32(), pa.string())
        self._schema = pa.schema(
            [("row", pa.int64()), ("label", pa.int32()), ("class_name", name), *probabilities]
        )

    def __enter__(self) -> PredictionFile:
        """Open the hidden file."""
        try:
            if self._path.is_dir():
                raise IsADirectoryError(21, "it is a folder")
            if self._path.suffix == ".csv":
                self._writer = csv.CSVWriter(str(self._partial), self._schema)
            else:
                # Probabilities do not repeat: a dictionary of them would only take time.
                self._writer = parquet.ParquetWriter(
                    str(self._partial), self._schema, use_dictionary=["class_name"]
                )
        except OSError as error:
            self._partial.unlink(missing_ok=True)
            accepted = f"a file that can be written ({os.strerror(error.errno or 0)})"
            raise InputError("output", str(self._path), accepted) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave nothing behind, unless it was finished."""
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            self._partial.unlink(missing_ok=True)

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
            pa.array(np.arange(self._rows, self._rows + len(labels), dtype=np.int64)),
            pa.array(labels),
            names.cast(self._schema.field("class_name").type),
            *(pa.array(np.ascontiguousarray(column)) for column in probabilities.T),
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))
        self._rows += len(labels)
        return labels

    def finish(self) -> None:
        """Put the complete file in its place, over one that is there."""
        self._writer.close()
        self._writer = None
        self._partial.replace(self._path)
