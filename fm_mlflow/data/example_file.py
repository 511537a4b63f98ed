"""Files of examples of any kind to predict: tables and sequences in .npy, .npz and .csv."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from fm_mlflow.data.image_file import open_images
from fm_mlflow.data.npy import NpzArray, open_npz
from fm_mlflow.data.pictures import Pictures, are_pictures, chunks_of, open_pictures
from fm_mlflow.errors import DataError, InputError
from fm_mlflow.process.regular_file import open_regular

_ZIP = b"PK\x03\x04"
_NAMES = ("x", "x_test", "arr_0")
"""Of an array in an .npz file that has several; the last is that of `np.savez(file, array)`."""

_KINDS = "biuf"
_LARGEST_RATIO = 100
_ALWAYS_UNPACKED = 64 * 1024**2
_SHARE_OF_MEMORY = 0.25
_BYTES_A_FIELD = 8
_LONGEST_LINE = 1024**2
_ACCEPTED = "a picture, a folder of pictures, a .npy or .npz array, a .csv table of numbers, or IDX"


@dataclass(frozen=True)
class Examples:
    """An open file of examples.

    Attributes:
        count: How many it holds.
        shape: Of one.
        dtype: Of their values.
        chunks: Gives them in order, so many at a time, shape (n, *shape); raises DataError where
            the file is damaged.
        pictures: The image files that they are, which take the shape that a model wants.
    """

    count: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: Callable[[int], Iterator[NDArray[Any]]]
    pictures: Pictures | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of each, where they are files."""
        return self.pictures.names if self.pictures else ()

    def for_images(self, wanted: Sequence[int]) -> tuple[Examples, str]:
        """Return pictures in the shape that a model wants, and in words how they were changed."""
        if self.pictures is None:
            return self, ""
        files, changed = self.pictures.sized(wanted)
        chunks = partial(chunks_of, files)
        return replace(self, shape=files.shape[1:], chunks=chunks), changed


@contextmanager
def open_examples(path: Path) -> Iterator[Examples]:
    """Open a file of examples, a picture or a folder of pictures.

    Raises:
        InputError: There is no such file, or it is none of numbers.
        DataError: A table holds something else than numbers.
    """
    if are_pictures(path):
        pictures = open_pictures(path)
        yield Examples(len(pictures.names), (), np.dtype(np.uint8), _unsized, pictures)
        return
    with ExitStack() as stack:
        if path.suffix.lower() == ".csv":
            table = _table(path)
            yield Examples(len(table), table.shape[1:], table.dtype, _pieces(table))
            return
        if _starts_as_zip(path):
            array = stack.enter_context(_only_array(path))
            header = array.header
            yield Examples(header.shape[0], header.shape[1:], header.dtype, _readable(path, array))
            return
        images = stack.enter_context(open_images(path, any_array=True))
        yield Examples(images.count, images.shape, images.dtype, images.chunks)


def _unsized(_: int) -> Iterator[NDArray[Any]]:
    raise ValueError("pictures have no shape before a model says which")


def _starts_as_zip(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return file.read(len(_ZIP)) == _ZIP
    except OSError as error:
        accepted = f"{_ACCEPTED} ({error.strerror or error})"
        raise InputError("input", str(path), accepted) from error


@contextmanager
def _only_array(path: Path) -> Iterator[NpzArray]:
    with ExitStack() as stack:
        try:
            largest = max(_ALWAYS_UNPACKED, path.stat().st_size * _LARGEST_RATIO)
            arrays = stack.enter_context(open_npz(path, {_name(path): _KINDS}, largest))
            (array,) = arrays.values()
            if 0 in array.header.shape:
                raise ValueError(f"its array has the shape {array.header.shape}")
        except (OSError, ValueError) as error:
            raise InputError("input", str(path), f"{_ACCEPTED} ({error})") from error
        yield array


def _name(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in islice(archive.namelist(), 1000)]
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(str(error)) from error
    named = names if len(names) == 1 else [name for name in _NAMES if name in names]
    if not named:
        raise ValueError(f"it has {len(names)} arrays, and none is called {' or '.join(_NAMES)}")
    return named[0]


def _readable(path: Path, array: NpzArray) -> Callable[[int], Iterator[NDArray[Any]]]:
    def chunks(size: int) -> Iterator[NDArray[Any]]:
        try:
            yield from array.chunks(size)
        except ValueError as error:
            raise DataError(f"{path} is damaged: {error}; replace it") from error

    return chunks


def _pieces(table: NDArray[Any]) -> Callable[[int], Iterator[NDArray[Any]]]:
    return lambda size: (table[at : at + size] for at in range(0, len(table), size))


def _table(path: Path) -> NDArray[np.float64]:
    """Read a table of numbers, with a line of names above it or without; into memory."""
    from pyarrow import ArrowException, csv as arrow_csv, float64

    accepted = "a .csv table of numbers: a line an example, a column a feature, with commas"
    try:
        with open_regular(path) as file:
            size = file.seek(0, 2)
            file.seek(0)
            line = file.readline(_LONGEST_LINE).decode("utf-8-sig")
            fields = next(csv.reader([line]), [])
            free = int(psutil.virtual_memory().available * _SHARE_OF_MEMORY)
            # A field takes two characters at least.
            if size * _BYTES_A_FIELD // 2 > max(free, _ALWAYS_UNPACKED) or not fields:
                accepted += f", in memory; it has {size:,} bytes"
                raise InputError("input", str(path), accepted)
            names = [f"f{number}" for number in range(len(fields))]
            file.seek(0)
            table = arrow_csv.read_csv(
                file,
                arrow_csv.ReadOptions(
                    column_names=names, skip_rows=0 if all(map(_is_number, fields)) else 1
                ),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, float64())
                ),
            )
    except OSError as error:
        raise InputError("input", str(path), f"{accepted} ({error.strerror or error})") from error
    except (ArrowException, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: {error}; expected is {accepted}") from error
    if not table.num_rows:
        raise InputError("input", str(path), f"{accepted}; it has none")
    return np.stack([column.to_numpy() for column in table.columns], axis=1)


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
