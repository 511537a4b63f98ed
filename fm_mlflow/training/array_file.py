"""NumPy's `.npz` files, not compressed: what they declare is checked before it is believed."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from fm_mlflow.data.npy import read_npy_header, small_reads
from fm_mlflow.process.regular_file import open_regular, size_of

_CHUNK = 2**20
_LARGEST_DIRECTORY = 4 * 2**20
_ENCRYPTED = 1
_KINDS = "biufc"


class ArrayFile:
    """The arrays of an open file, by name.

    Args:
        archive: The file.
        size: Its bytes. Together the arrays that are read have no more.
    """

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self._archive = archive
        self._left = size

    def read(self, name: str, largest: int | None = None) -> NDArray[Any]:
        """Read an array.

        Args:
            name: Its name.
            largest: How many bytes it may have; by default as many as the file.

        Raises:
            Exception: It is missing, damaged, compressed or encrypted, its values are objects, or
                it declares more than there is. NumPy and `zipfile` raise what they like.
        """
        entry = self._archive.getinfo(f"{name}.npy")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _ENCRYPTED:
            raise ValueError(f"array {name} is compressed or encrypted")
        if largest is not None and entry.file_size > largest:
            raise ValueError(
                f"array {name} has {entry.file_size} bytes, at most {largest} are read"
            )
        self._left -= entry.file_size
        if self._left < 0:
            raise ValueError("its arrays are larger than the file")
        with self._archive.open(entry) as whole:  # reads to the end, and so checks the checksum
            while whole.read(_CHUNK):
                pass
        with self._archive.open(entry) as stream:
            header = read_npy_header(cast("io.BufferedIOBase", stream))
            if header.dtype.kind not in _KINDS:
                raise ValueError(f"array {name} is of {header.dtype}")
            if header.total != entry.file_size:
                raise ValueError(f"array {name} declares another size than it has")
            values = np.empty(header.shape, header.dtype, "F" if header.is_column_major else "C")
            _fill(memoryview(cast("Any", values.reshape(-1, order="A").view(np.uint8))), stream)
        return values


@contextmanager
def open_arrays(path: Path) -> Iterator[ArrayFile]:
    """Open a file.

    Raises:
        OSError, ValueError, zipfile.BadZipFile: It is missing, no regular file, or damaged.
    """
    with (
        open_regular(path) as file,
        zipfile.ZipFile(small_reads(file, _LARGEST_DIRECTORY)) as archive,
    ):
        yield ArrayFile(archive, size_of(file))


def _fill(target: memoryview, stream: IO[bytes]) -> None:
    for start in range(0, len(target), _CHUNK):
        part = target[start : start + _CHUNK]
        if cast("io.BufferedIOBase", stream).readinto(part) != len(part):
            raise EOFError("it is shorter than it declares")
