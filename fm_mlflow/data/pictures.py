"""Pictures to predict: image files, brought to what a model takes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fm_mlflow.data.lazy_images import FORMATS, ImageFiles, in_threads, verified_shape
from fm_mlflow.errors import DataError, InputError
from fm_mlflow.escaping import csv_field

_MOST_FILES = 2_000_000
_GREY, _COLOUR, _ALPHA = 1, 3, 4
_NAMES_OF_CHANNELS = {_GREY: "grey", _COLOUR: "in colour", _ALPHA: "in colour with transparency"}
_ACCEPTED = f"a picture ({', '.join(FORMATS)}), or a folder of them"


@dataclass(frozen=True)
class Pictures:
    """Image files, whose headers have been read.

    Attributes:
        names: Of each file, as a table may hold it: its path in the folder.
        left_out: How many files of the folder are no pictures, and links to folders.
    """

    names: tuple[str, ...]
    left_out: int
    _paths: tuple[Path, ...]
    _shapes: tuple[tuple[int, ...], ...]

    def sized(self, wanted: Sequence[int]) -> tuple[ImageFiles, str]:
        """Return the pictures as a model takes them, and in words what was changed for that.

        Args:
            wanted: Shape of an image; -1 is any size, which is that of the first picture.

        Raises:
            InputError: The model takes no images.
        """
        asked = [None if size < 0 else size for size in wanted]
        files = ImageFiles(self._paths, [b""] * len(self._paths), self._shapes[0]).sized(asked)
        if files is None:
            accepted = "examples of shape " + str(tuple(wanted))
            raise InputError("input", "pictures", accepted)
        shape = files.shape[1:]
        whole = (*shape, _GREY)[:3]
        changed = sum((*each, _GREY)[:3] != whole for each in self._shapes)
        if not changed:
            return files, ""
        height, width, channels = whole
        which = f"{changed:,} of {len(self._paths):,} pictures are"
        if len(self._paths) == 1:
            which = "the picture is"
        kind = _NAMES_OF_CHANNELS[channels]
        return files, f"{which} brought to {width} x {height} pixels, {kind}, as the model takes it"


def chunks_of(files: ImageFiles, size: int) -> Iterator[NDArray[Any]]:
    """Yield the images in order, `size` at a time, shape (n, height, width[, channels]), uint8."""
    for start in range(0, len(files), size):
        yield files[np.arange(start, min(start + size, len(files)))]


def are_pictures(path: Path) -> bool:
    """Whether a path is a folder, or is named as a picture is."""
    return path.suffix.lower() in FORMATS or os.path.isdir(path)


def open_pictures(path: Path) -> Pictures:
    """Find the pictures at a path and check each file; they are not kept in memory.

    Those of a folder are taken in the order of their names, with those of folders within it;
    hidden files and folders do not count, and links to folders are not followed.

    Raises:
        InputError: There is none, or one is damaged, too large, or of another format than its
            name says, or a folder cannot be read.
    """
    paths, left_out = _in_folder(path) if os.path.isdir(path) else ([path], 0)
    try:
        shapes = tuple(in_threads(verified_shape, paths))
    except DataError as error:
        raise InputError("input", str(path), f"{_ACCEPTED} ({error})") from error
    names = (os.path.relpath(each, path if os.path.isdir(path) else path.parent) for each in paths)
    return Pictures(tuple(map(csv_field, names)), left_out, tuple(paths), shapes)


def _in_folder(folder: Path) -> tuple[list[Path], int]:
    found: list[Path] = []
    left_out = 0

    def refuse(error: OSError) -> None:
        accepted = f"a folder that can be read ({error.strerror})"
        raise InputError("input", str(error.filename), accepted) from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        left_out += sum(os.path.islink(os.path.join(place, name)) for name in folders)
        for name in files:
            if name.startswith("."):
                continue
            if os.path.splitext(name)[1].lower() in FORMATS:
                found.append(Path(place, name))
            else:
                left_out += 1
        if len(found) + left_out > _MOST_FILES:
            raise InputError("input", str(folder), f"a folder of at most {_MOST_FILES:,} files")
    if not found:
        raise InputError("input", str(folder), f"{_ACCEPTED}; it has none")
    return sorted(found), left_out
