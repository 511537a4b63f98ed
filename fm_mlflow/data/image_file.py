"""Files of images that may be larger than memory: IDX, compressed or not, and .npy."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from fm_mlflow.data.idx import GZIP, read_idx_header
from fm_mlflow.errors import DataError, InputError

_NPY = b"\x93NUMPY"
_ACCEPTED = "an IDX file of unsigned bytes, compressed or not, or a .npy array"


@dataclass(frozen=True)
class ImageFile:
    """An open file of images.

    Attributes:
        path: The file.
        count: How many images it holds.
        shape: Of one image.
        dtype: Of its values: uint8, or floating-point.
        stream: Stands behind the header.
    """

    path: Path
    count: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stream: IO[bytes]

    def chunks(self, size: int) -> Iterator[NDArray[Any]]:
        """Yield the images in order, `size` at a time, shape (n, *shape).

        Raises:
            DataError: The file is truncated or damaged.
        """
        bytes_each = int(np.prod(self.shape)) * self.dtype.itemsize
        for start in range(0, self.count, size):
            wanted = min(size, self.count - start)
            try:
                content = self.stream.read(wanted * bytes_each)
            except (EOFError, zlib.error, OSError) as error:
                raise DataError(f"{self.path} is damaged: {error}; replace it") from error
            if len(content) < wanted * bytes_each:
                found = start + len(content) // bytes_each
                raise DataError(
                    f"{self.path} is truncated: {found:,} of {self.count:,} images; replace it"
                )
            yield np.frombuffer(content, self.dtype).reshape(wanted, *self.shape)


@contextmanager
def open_images(path: Path) -> Iterator[ImageFile]:
    """Open a file of images, whatever its name says.

    Raises:
        InputError: There is no such file, or it is none of images.
    """
    try:
        with path.open("rb") as file:
            is_compressed = file.read(2) == GZIP
        with gzip.open(path) if is_compressed else path.open("rb") as stream:
            yield _read_header(path, cast("IO[bytes]", stream))
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise InputError("input", str(path), f"{_ACCEPTED} ({error.strerror})") from error


def _read_header(path: Path, stream: IO[bytes]) -> ImageFile:
    try:
        dtype: np.dtype[Any] = np.dtype(np.uint8)
        shape = read_idx_header(stream)
        if shape is None:
            stream.seek(0)
            if stream.read(len(_NPY)) != _NPY:
                raise InputError("input", str(path), _ACCEPTED)
            stream.seek(0)
            shape, dtype = _npy_header(stream)
    except (ValueError, EOFError, zlib.error, OSError) as error:
        raise InputError("input", str(path), f"{_ACCEPTED} ({error})") from error
    if len(shape) not in (3, 4) or 0 in shape:
        raise InputError("input", f"an array of shape {shape}", "images: (count, height, width)")
    return ImageFile(path, shape[0], shape[1:], dtype, stream)


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise InputError("input", f".npy of version {version}", "version 1 or 2")
    shape, is_column_major, dtype = read(stream)
    if is_column_major or not (dtype == np.uint8 or np.issubdtype(dtype, np.floating)):
        order = "column by column" if is_column_major else "row by row"
        raise InputError(
            "input", f"{dtype} values, stored {order}", "uint8 or floating-point, row by row"
        )
    return shape, dtype
