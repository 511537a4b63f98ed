"""Data sets as arrays: found, verified and, where necessary, downloaded."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from fm_mlflow.data import fashion_mnist
from fm_mlflow.data.idx import read_idx
from fm_mlflow.data.npz_dataset import load_npz
from fm_mlflow.data.python_data import load_python_data
from fm_mlflow.data.rows import MOST_CLASSES, FourParts, Rows, class_count, digest
from fm_mlflow.errors import DataError, InputError
from fm_mlflow.settings.dataset import ACCEPTED, FROM_PYTHON, NPZ, is_own, located

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fm_mlflow.data.idx import ByteArray

_MEMORY_FOR_A_BYTE = 4
"""Bytes of memory that the machine must have for each of a data set: a digest and a training hold
copies. A constant would refuse large sets on large machines."""


@dataclass(frozen=True)
class Subset:
    """Examples and what they are to be taken for.

    Attributes:
        inputs: One row an example, shape (n, *shape of an example): an array of whole or
            floating-point numbers, or `data.rows.LazyRows`. Unsigned bytes of two axes or more are
            grey levels or colours, 0-255.
        targets: Class numbers, shape (n,), or numbers, shape (n, ...).
    """

    inputs: Rows
    targets: NDArray[Any]

    @property
    def are_images(self) -> bool:
        """Whether models take them as 0 to 1: unsigned bytes of (height, width, ...)."""
        return self.inputs.dtype == np.uint8 and len(self.inputs.shape) > 2

    @property
    def are_in_memory(self) -> bool:
        """Whether the inputs are an array that is in memory as a whole."""
        return type(self.inputs) is np.ndarray

    @property
    def scaled(self) -> NDArray[np.float32]:
        """Images as models take them: 0 to 1, float32, of the same shape."""
        scaled: NDArray[np.float32] = np.divide(self.inputs, 255, dtype=np.float32)
        return scaled

    def head(self, count: int) -> Subset:
        """Return the first `count` examples."""
        return Subset(self.inputs[:count], self.targets[:count])

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shapes and contents, in hexadecimal."""
        return digest([self.inputs], [self.targets])


@dataclass(frozen=True)
class Dataset:
    """A data set ready for training.

    Attributes:
        name: As `TrainConfig.dataset` has it: `fashion_mnist`, `prices.npz`, `from_python`.
        train: What the model learns from.
        validation: Held out of the training examples, or None where the test set validates.
        test: What the final figures are measured on.
        class_names: One name a class, in label order; empty where the data do not say that they
            are classes: then a model's loss says it.
        source: Where the contents came from: a folder or file, or the library that ships them.
    """

    name: str
    train: Subset
    validation: Subset | None
    test: Subset
    class_names: tuple[str, ...]
    source: str

    @property
    def example_shape(self) -> tuple[int, ...]:
        """Shape of the inputs of one example: height and width in pixels, say."""
        return tuple(map(int, self.test.inputs.shape[1:]))

    @property
    def noun(self) -> str:
        """What its examples are called."""
        return "images" if self.test.are_images else "examples"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all training (held-out ones included) and test contents, hexadecimal.

        It does not depend on the validation split, the file format or the folder.
        """
        parts = [self.train] if self.validation is None else [self.train, self.validation]
        return digest(
            [part.inputs for part in parts],
            [part.targets for part in parts],
            [self.test.inputs],
            [self.test.targets],
        )

    def numbered_classes(self) -> tuple[str, ...]:
        """Return the names of the classes, by number where nobody named them.

        Empty where the targets cannot be class numbers.
        """
        if self.class_names:
            return self.class_names
        count = class_count(self.train.targets, self.test.targets)
        return tuple(map(str, range(count))) if 2 <= count <= MOST_CLASSES else ()

    def hold_out(self, fraction: float) -> Dataset:
        """Return the data set with the last `fraction` of the training examples for validation.

        No shuffling, as in Keras, so that every seed validates on the same examples. The share is
        rounded to whole examples; 0 changes nothing.

        Raises:
            InputError: One of the two parts would be empty.
        """
        if fraction == 0:
            return self
        kept = len(self.train) - round(len(self.train) * fraction)
        if kept in (0, len(self.train)):
            some = f"at least one of {len(self.train)} {self.noun}"
            accepted = f"a share that leaves {some} on either side"
            raise InputError("validation_split", fraction, accepted)
        held_out = Subset(self.train.inputs[kept:], self.train.targets[kept:])
        return replace(self, train=self.train.head(kept), validation=held_out)


LOADABLE = ("fashion_mnist", "digits", "idx")
"""Names of the data sets that can be loaded again by their name; others are a script's own."""


def load_dataset(
    name: str,
    data_dir: str = "",
    on_download: fashion_mnist.DownloadProgress | None = None,
    *,
    data: Any = None,
) -> Dataset:
    """Load and verify a data set.

    Args:
        name: As `TrainConfig.dataset` takes it: a built-in one, a file or a folder.
        data_dir: The folder that it is in, or of the four IDX files; empty searches
            (fashion_mnist only).
        on_download: Hears of the progress of a download.
        data: What `from_python` stands for.

    Raises:
        InputError: The file or the folder is missing or has not what it should.
        DataError: The contents are damaged or not what they should be, or a download failed.
    """
    place = located({"dataset": name, "data_dir": data_dir})
    name, data_dir = place["dataset"], place["data_dir"]
    if name == "digits":
        return _digits()
    if name == "idx":
        return _idx(Path(data_dir))
    if name == FROM_PYTHON:
        if data is None:
            raise InputError("dataset", name, f"{ACCEPTED}; from Python alone: train(data=...)")
        return _own(name, load_python_data(data))
    if is_own(name):
        path = Path(data_dir, name)
        return _own(name, load_npz(path) if name.endswith(NPZ) else _image_folder(path))
    arrays, folder = fashion_mnist.load_files(data_dir, on_download)
    return _assemble(name, arrays, fashion_mnist.CLASSES, str(folder))


def _image_folder(folder: Path) -> FourParts:
    from fm_mlflow.data.image_folder import load_image_folder  # it imports Pillow

    return load_image_folder(folder)


def _own(name: str, parts: FourParts) -> Dataset:
    train, test = Subset(parts.x_train, parts.y_train), Subset(parts.x_test, parts.y_test)
    return Dataset(name, train, None, test, parts.class_names, parts.source)


def _idx(folder: Path) -> Dataset:
    """Load four IDX files by what their names say: train/test (or t10k), images/labels."""
    accepted = "an existing folder with four IDX files"
    if not os.path.isdir(folder):
        raise InputError("data_dir", str(folder), accepted)
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise InputError("data_dir", str(folder), f"{accepted} ({error.strerror})") from error
    arrays = []
    left = psutil.virtual_memory().total // _MEMORY_FOR_A_BYTE
    for part, words in (("train", ("train",)), ("test", ("t10k", "test"))):
        for kind in ("images", "labels"):
            found = [
                path
                for path in paths
                if os.path.isfile(path)
                and kind in path.name
                and any(word in path.name for word in words)
                and path.name.removesuffix(".gz").endswith("ubyte")
            ]
            if len(found) != 1:
                raise InputError(
                    "data_dir",
                    str(folder),
                    f"a folder with exactly one file of {part} {kind} named like "
                    f"{words[0]}-{kind}-idx{3 if kind == 'images' else 1}-ubyte, .gz or not "
                    f"(found: {', '.join(path.name for path in found) or 'none'})",
                )
            arrays.append(read_idx(found[0], repair="replace it", largest=left))
            left -= arrays[-1].nbytes
    classes = tuple(str(n) for n in range(int(arrays[1].max(initial=0)) + 1))
    return _assemble("idx", arrays, classes, str(folder))


def _assemble(
    name: str, arrays: list[ByteArray], class_names: tuple[str, ...], source: str
) -> Dataset:
    """Check that the four arrays belong together."""
    train, test = Subset(*arrays[:2]), Subset(*arrays[2:])
    for part, subset in (("training", train), ("test", test)):
        images, labels = subset.inputs, subset.targets
        if images.ndim != 3 or labels.ndim != 1:
            raise DataError(
                f"{source}: the {part} images have {images.ndim} axes and the labels "
                f"{labels.ndim}; 3 (count, height, width) and 1 are expected"
            )
        if len(images) != len(labels):
            raise DataError(
                f"{source}: {len(images)} {part} images but {len(labels)} labels: "
                "the files do not belong together"
            )
        if images.size == 0:
            raise DataError(f"{source}: there are no {part} images")
        if labels.max() >= len(class_names):
            raise DataError(
                f"{source}: a {part} label is {labels.max()}, but there are only "
                f"{len(class_names)} classes"
            )
    if len(class_names) < 2:
        raise DataError(f"{source}: all labels are 0; two classes or more are expected")
    if train.inputs.shape[1:] != test.inputs.shape[1:]:
        raise DataError(
            f"{source}: training images are {train.inputs.shape[1:]}, "
            f"test images {test.inputs.shape[1:]}: the files do not belong together"
        )
    return Dataset(name, train, None, test, class_names, source)


def _digits() -> Dataset:
    """scikit-learn's 1,797 real digits: 8x8 enlarged threefold, 2 pixels of border, 28x28.

    Every fifth image is a test image, so that both parts hold every writer.
    """
    table = _table_of_digits()
    originals, labels = table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.uint8)
    grey = np.rint(originals * (255 / 16)).astype(np.uint8)  # the originals count 0 to 16
    images = np.pad(grey.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2)))
    is_test = np.arange(len(labels)) % 5 == 0
    arrays = [images[~is_test], labels[~is_test], images[is_test], labels[is_test]]
    return _assemble("digits", arrays, tuple("0123456789"), "scikit-learn")


def _table_of_digits() -> NDArray[np.float64]:
    """Return a row an image: its 64 pixels and its label.

    The file is read without importing scikit-learn, which takes a second.
    """
    package = find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])
