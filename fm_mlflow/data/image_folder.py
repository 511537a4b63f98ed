"""A data set in a folder of images: a folder a class, within train/ and test/ or to be split."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fm_mlflow.data.lazy_images import FORMATS, ImageFiles, checksum, in_threads, shape_of
from fm_mlflow.data.rows import MOST_CLASSES, FourParts
from fm_mlflow.errors import DataError, InputError

_ACCEPTED = "a folder of images with a folder for each class, or with those in train/ and test/"
_MOST_IMAGES = 2_000_000
_EVERY = 5

_Images = list[tuple[bytes, int, Path]]
"""Checksum, class number and file of each image; sorted, they are in an order of the contents."""


def load_image_folder(folder: Path) -> FourParts:
    """Find the images of a folder; they are decoded when they are needed.

    The order, and which images are for the test where nobody says it, follow from the contents of
    the files alone: the same images give the same data set, whatever they are called. Without
    train/ and test/, every fifth image of each class is a test image.

    Raises:
        InputError: There is no such folder.
        DataError: It is none of images by class, or an image is damaged.
    """
    parts = [folder / part for part in ("train", "test")]
    is_split = all(map(os.path.isdir, parts))
    found = [_classes(part) for part in (parts if is_split else [folder])]
    names = tuple(found[0])
    if is_split and found[1].keys() - found[0].keys():
        unknown = sorted(found[1].keys() - found[0].keys())[0]
        raise DataError(f"{folder}: test/ has a class {unknown!r}, which train/ does not have")
    if not 2 <= len(names) <= MOST_CLASSES:
        raise DataError(
            f"{parts[0] if is_split else folder}: {len(names)} folders, one a class; 2 to "
            f"{MOST_CLASSES:,} are expected"
        )
    images = [_read(part, names) for part in found]
    if is_split:
        train, test = images
    else:
        train, test = [], []
        for label in range(len(names)):
            of_class = [each for each in images[0] if each[1] == label]
            if len(of_class) < 2:
                where = f"{folder / names[label]}: {len(of_class)} images"
                raise DataError(f"{where}; two or more are expected: one trains, one tests")
            test += of_class[1::_EVERY]
            train += [each for at, each in enumerate(of_class) if at % _EVERY != 1]
        train.sort()
        test.sort()
    for part, some in (("train", train), ("test", test)):
        if not some:
            raise DataError(f"{folder}: there are no images in {part}/")
    shape = shape_of(train[0][2])
    arrays = [
        (
            ImageFiles([path for *_, path in some], [each for each, *_ in some], shape),
            np.array([label for _, label, _ in some], np.int32),
        )
        for some in (train, test)
    ]
    return FourParts(*arrays[0], *arrays[1], class_names=names, source=str(folder))


def _classes(folder: Path) -> dict[str, list[Path]]:
    """Return the files of each class, by its name; what is hidden does not count."""
    classes = {}
    for entry in _entries(folder):
        if not entry.is_dir():
            raise DataError(f"{entry.path} is no folder of a class; expected is {_ACCEPTED}")
        files = []
        for file in _entries(Path(entry.path)):
            if os.path.splitext(file.name)[1].lower() not in FORMATS or file.is_dir():
                raise DataError(f"{file.path} is no image that is read: {', '.join(FORMATS)}")
            files.append(Path(file.path))
        classes[entry.name] = files
    if sum(map(len, classes.values())) > _MOST_IMAGES:
        raise DataError(f"{folder}: more than {_MOST_IMAGES:,} images")
    return classes


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            shown = [each for each in entries if not each.name.startswith(".")]
    except OSError as error:
        raise InputError("dataset", str(folder), f"{_ACCEPTED} ({error.strerror})") from error
    return sorted(shown, key=lambda each: each.name)


def _read(classes: dict[str, list[Path]], names: tuple[str, ...]) -> _Images:
    paths = [(path, names.index(name)) for name, files in classes.items() for path in files]
    checksums = in_threads(checksum, [path for path, _ in paths])
    return sorted((each, label, path) for each, (path, label) in zip(checksums, paths, strict=True))
