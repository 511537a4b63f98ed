"""Files of images that may be larger than memory: IDX, compressed or not, and .npy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fm_mlflow.data.bounded_file import Unpacked, open_unpacked
from fm_mlflow.data.idx import read_idx_header
from fm_mlflow.data.lazy_images import FORMATS
from fm_mlflow.data.npy import NPY_MAGIC, read_npy_header
from fm_mlflow.errors import DataError, InputError

_LARGEST_NUMBER = 8
_ACCEPTED = (
    "an IDX file of unsigned bytes, compressed or not, a .npy array, or a picture "
    f"({', '.join(FORMATS)})"
)


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
    stream: BufferedReader

    @property
    def bytes_each(self) -> int:
        """Bytes of an image."""
        return math.prod(self.shape) * self.dtype.itemsize

    def truncated(self, found: int) -> DataError:
        """Return the error of a file with fewer images than its header says."""
        text = f"truncated: {max(found, 0):,} of {self.count:,} images; replace it"
        return DataError(f"{self.path} is {text}")

    def chunks(self, size: int) -> Iterator[NDArray[Any]]:
        """Yield the images in order, `size` at a time, shape (n, *shape).

        Raises:
            DataError: The file is truncated, damaged, or holds more than its header says.
        """
        for start in range(0, self.count, size):
            wanted = min(size, self.count - start)
            content = self._read(wanted * self.bytes_each)
            if len(content) < wanted * self.bytes_each:
                raise self.truncated(start + len(content) // self.bytes_each)
            yield np.frombuffer(content, self.dtype).reshape(wanted, *self.shape)
        if self._read(1):  # at the end of a compressed file this also compares its checksum
            raise DataError(
                f"{self.path} is longer than its header says: more than {self.count:,} images; "
                "replace it"
            )

    def _read(self, size: int) -> bytes:
        try:
            return self.stream.read(size)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path} is damaged: {error}; replace it") from error
        except MemoryError as error:
            raise DataError(f"there is no memory for {size:,} bytes of {self.path}") from error


@contextmanager
def open_images(path: Path, *, any_array: bool = False) -> Iterator[ImageFile]:
    """Open a file of images, whatever its name says.

    Args:
        path: The file.
        any_array: Take arrays of numbers of any shape, an example a row; who asks checks them.

    Raises:
        InputError: There is no such file, it is none of images, or its header does not fit it.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_unpacked(path))
            images = _read_header(path, file, any_array)
        except OSError as error:
            reason = error.strerror or error
            raise InputError("input", str(path), f"{_ACCEPTED} ({reason})") from error
        yield images


def check_images(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse what are no images: an array of this shape, in rows, and type.

    Raises:
        InputError: They are none.
    """
    if not (dtype == np.uint8 or dtype.kind == "f"):
        accepted = "uint8 or floating-point, row by row"
        raise InputError("input", f"{dtype} values, stored row by row", accepted)
    if len(shape) not in (3, 4) or 0 in shape:
        raise InputError("input", f"an array of shape {shape}", "images: (count, height, width)")


def _read_header(path: Path, file: Unpacked, any_array: bool) -> ImageFile:
    stream = file.stream
    try:
        if stream.peek(len(NPY_MAGIC)).startswith(NPY_MAGIC):
            header = read_npy_header(stream)
            shape, dtype, declared = header.shape, header.dtype, header.total
            if header.is_column_major:
                accepted = "uint8 or floating-point, row by row"
                raise InputError("input", f"{dtype} values, stored column by column", accepted)
        elif lengths := read_idx_header(stream):
            shape, dtype = lengths, np.dtype(np.uint8)
            declared = 4 + 4 * len(shape) + math.prod(shape)
        else:
            raise ValueError("it starts as neither")
    except ValueError as error:
        raise InputError("input", str(path), f"{_ACCEPTED} ({error})") from error
    if not any_array:
        check_images(shape, dtype)
    elif not shape or 0 in shape or dtype.kind not in "biuf" or dtype.itemsize > _LARGEST_NUMBER:
        accepted = "an array of whole or floating-point numbers, an example a row"
        raise InputError("input", f"{dtype} values of shape {shape}", accepted)
    if file.length is None and declared > file.most:
        accepted = f"a file that unpacks to at most {file.most:,} bytes; it says {declared:,}"
        raise InputError("input", str(path), accepted)
    images = ImageFile(path, shape[0], shape[1:], dtype, stream)
    if file.length is not None and file.length < declared:
        raise images.truncated(shape[0] - -(-(declared - file.length) // images.bytes_each))
    return images
