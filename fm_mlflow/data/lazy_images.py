"""Images in files, decoded when they are asked for: they may be more than fit into memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fm_mlflow.data.bounded_file import check_size, damage_in_words
from fm_mlflow.errors import DataError
from fm_mlflow.process.regular_file import open_regular

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_GREY = ("1", "L", "LA")
_UNVERIFIED = ("JPEG", "BMP")
"""Formats without checksums, of which Pillow's `verify` finds nothing."""

_LARGEST_FILE = 64 * 1024**2
_MOST_PIXELS = 50_000_000
_AT_ONCE = 256
_DEEP = "an image of more than 8 bits a channel, which is not read"

_T = TypeVar("_T")


class ImageFiles:
    """An array of images, shape (n, height, width) or (n, height, width, channels), uint8.

    A slice is again such an array; rows by number are read. All images are brought to one size and
    to as many channels.

    Args:
        paths: One file an image.
        checksums: SHA-256 of each file: they stand for the contents in a digest.
        shape: Of one image.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self, paths: Sequence[Path], checksums: Sequence[bytes], shape: tuple[int, ...]
    ) -> None:
        self._paths = paths
        self.checksums = checksums
        self._shape = shape

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole array."""
        return (len(self._paths), *self._shape)

    @property
    def ndim(self) -> int:
        """Axes of the whole array."""
        return 1 + len(self._shape)

    @property
    def nbytes(self) -> int:
        """Of the whole array, were it in memory."""
        return int(np.prod(self.shape, dtype=object))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._paths)

    def __getitem__(self, rows: Any) -> Any:
        """Return the images of these row numbers; of a slice, without reading them.

        Raises:
            DataError: A file is damaged or gone.
        """
        if isinstance(rows, slice):
            return ImageFiles(self._paths[rows], self.checksums[rows], self._shape)
        images = np.empty((len(rows), *self._shape), np.uint8)
        read = partial(_decoded, shape=self._shape)
        chosen = [self._paths[row] for row in rows]
        for at, image in enumerate(in_threads(read, chosen)):
            images[at] = image
        return images

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all images, as NumPy asks for it."""
        whole: NDArray[Any] = self[np.arange(len(self))]
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def sized(self, wanted: Sequence[int | None]) -> ImageFiles | None:
        """Return the images in the size of a model's input; None where it takes no images.

        Args:
            wanted: (height, width) or (height, width, channels); what is None stays as it is.
        """
        own = (*self._shape, 1)[:3]
        if len(wanted) not in (2, 3):
            return None
        shape = tuple(own[at] if size is None else size for at, size in enumerate(wanted))
        if len(shape) == 3 and shape[2] not in _MODES:
            return None
        return ImageFiles(self._paths, self.checksums, shape)


def in_threads(function: Callable[[Path], _T], paths: Sequence[Path]) -> Iterator[_T]:
    """Apply a function to each file, on all processors; yield what it returns in their order."""
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="fm_mlflow-images") as pool:
        for start in range(0, len(paths), _AT_ONCE):  # of millions, not all are to wait in it
            yield from pool.map(function, paths[start : start + _AT_ONCE])


def shape_of(path: Path) -> tuple[int, ...]:
    """Return the shape of an image: (height, width) of a grey one, else with three channels.

    Raises:
        DataError: It cannot be read.
    """
    return _shape(_opened(path, _content(path)))


def _shape(image: Image.Image) -> tuple[int, ...]:
    return (image.height, image.width, *(() if image.mode in _GREY else (3,)))


def checksum(path: Path) -> bytes:
    """Return the SHA-256 of an image file whose header, and checksums if it has any, are right.

    Raises:
        DataError: It is damaged, too large, or none of the formats.
    """
    content, _ = _verified(path)
    return hashlib.sha256(content).digest()


def verified_shape(path: Path) -> tuple[int, ...]:
    """Return the shape of an image, as `shape_of`, whose file is whole.

    Raises:
        DataError: As `checksum`, or it is cut off.
    """
    content, image = _verified(path)
    shape = _shape(image)
    if FORMATS[path.suffix.lower()] in _UNVERIFIED:
        image = _opened(path, content)
        with _damage(path):
            image.draft("L", (1, 1))  # an eighth of the size, where the format has that
            image.load()
    return shape


def _verified(path: Path) -> tuple[bytes, Image.Image]:
    content = _content(path)
    image = _opened(path, content)
    with _damage(path):
        image.verify()
    return content, image


def _content(path: Path) -> bytes:
    with _damage(path), open_regular(path) as file:
        check_size(file, _LARGEST_FILE)
        return file.read(_LARGEST_FILE + 1)


def _opened(path: Path, content: bytes) -> Image.Image:
    """Read an image's header; its pixels are not decoded before its size is known."""
    with _damage(path):
        image = Image.open(BytesIO(content), formats=[FORMATS[path.suffix.lower()]])
        if image.width * image.height > _MOST_PIXELS:
            size = f"{image.width:,} x {image.height:,}"
            raise ValueError(f"an image of {size}; at most {_MOST_PIXELS:,} pixels are read")
        if image.mode.startswith(("I", "F")):
            raise ValueError(_DEEP)
    return image


def _decoded(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    image = _opened(path, _content(path))
    with _damage(path):
        mode = _MODES[shape[2] if len(shape) == 3 else 1]
        converted = image if image.mode == mode else image.convert(mode)
        if converted.size != (shape[1], shape[0]):
            converted = converted.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
        return np.asarray(converted, np.uint8).reshape(shape)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Name the file that cannot be read or decoded."""
    try:
        with damage_in_words():
            yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        repair = "" if isinstance(error, FileNotFoundError) else "; replace it"
        raise DataError(f"the image {path} cannot be read: {reason}{repair}") from error
