"""Image data sets as NumPy arrays: found, verified and, where necessary, downloaded.

Fashion-MNIST is Copyright Zalando SE, MIT licence, https://github.com/zalandoresearch/fashion-mnist.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fm_mlflow.errors import DataError, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ByteArray = NDArray[np.uint8]

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

# SHA-256 of the decompressed files: they hold whatever the compression.
FASHION_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DOWNLOAD_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"
"""Where Keras downloads the same four files from; FM_MLFLOW_DATA_URL names a mirror."""

_WHAT_TO_DO = (
    "put the four .gz files in a folder and name it with --data-dir or FM_MLFLOW_DATA_DIR, "
    "install Debian's package dataset-fashion-mnist, or use --dataset digits"
)

DownloadProgress = Callable[[str, int, "int | None"], None]
"""Called as (file name, bytes so far, bytes in all or None where the server does not say)."""


@dataclass(frozen=True)
class Subset:
    """Images and labels that belong together.

    Attributes:
        images: Grey levels 0-255, shape (n, height, width), uint8.
        labels: Class numbers, shape (n,), uint8.
    """

    images: ByteArray
    labels: ByteArray

    @cached_property
    def scaled(self) -> NDArray[np.float32]:
        """The images as models take them: 0 to 1, float32, shape (n, height, width)."""
        return np.divide(self.images, 255, dtype=np.float32)

    def head(self, count: int) -> Subset:
        """Return the first `count` images."""
        return Subset(self.images[:count], self.labels[:count])

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shapes and contents, in hexadecimal."""
        return _digest(self.images, self.labels)


@dataclass(frozen=True)
class Dataset:
    """A data set ready for training.

    Attributes:
        name: `fashion_mnist`, `digits` or `idx`.
        train: What the model learns from.
        validation: Held out of the training images, or None where the test set validates.
        test: What the final figures are measured on.
        class_names: One name a class, in label order.
        source: Where the contents came from: a folder, or the library that ships them.
    """

    name: str
    train: Subset
    validation: Subset | None
    test: Subset
    class_names: tuple[str, ...]
    source: str

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.test.images.shape[1:]
        return int(height), int(width)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all training (held-out ones included) and test contents, hexadecimal.

        It does not depend on the validation split, the file format or the folder.
        """
        parts = [self.train] if self.validation is None else [self.train, self.validation]
        return _digest(
            np.concatenate([part.images for part in parts]),
            np.concatenate([part.labels for part in parts]),
            self.test.images,
            self.test.labels,
        )

    def hold_out(self, fraction: float) -> Dataset:
        """Return the data set with the last `fraction` of the training images for validation.

        No shuffling, as in Keras, so that every seed validates on the same images. The share is
        rounded to whole images; 0 changes nothing.

        Raises:
            InputError: One of the two parts would be empty.
        """
        if fraction == 0:
            return self
        kept = len(self.train) - round(len(self.train) * fraction)
        if kept in (0, len(self.train)):
            raise InputError(
                "validation_split",
                fraction,
                f"a share that leaves at least one of {len(self.train)} images on either side",
            )
        images, labels = self.train.images, self.train.labels
        return replace(
            self,
            train=Subset(images[:kept], labels[:kept]),
            validation=Subset(images[kept:], labels[kept:]),
        )


def load_dataset(
    name: str, data_dir: str = "", on_download: DownloadProgress | None = None
) -> Dataset:
    """Load and verify a data set.

    Args:
        name: `fashion_mnist`, `digits` or `idx`, as `TrainConfig.dataset` accepts them.
        data_dir: Folder of the four IDX files; empty searches (fashion_mnist only).
        on_download: Hears of the progress of a download.

    Raises:
        InputError: `data_dir` is not a folder with the four files.
        DataError: The contents are damaged or not what they should be, or a download failed.
    """
    if name == "digits":
        return _digits()
    if name == "idx":
        return _idx(Path(data_dir))
    return _fashion_mnist(data_dir, on_download)


def _fashion_mnist(data_dir: str, on_download: DownloadProgress | None) -> Dataset:
    folder = _find_fashion_mnist(data_dir) or _download_fashion_mnist(on_download)
    arrays = [
        _read_idx(_existing(folder, name), expected_sha256=sha256)
        for name, sha256 in FASHION_MNIST_SHA256.items()
    ]
    return _assemble("fashion_mnist", arrays, FASHION_MNIST_CLASSES, str(folder))


def _find_fashion_mnist(data_dir: str) -> Path | None:
    """Return the first folder that holds the files, or None where they must be downloaded."""
    if data_dir:
        folder = Path(data_dir)
        missing = _missing(folder)
        if missing:
            raise InputError(
                "data_dir",
                data_dir,
                f"a folder with the four files of Fashion-MNIST, .gz or not "
                f"(missing: {', '.join(missing)})",
            )
        return folder
    return next((folder for folder in _search_path() if not _missing(folder)), None)


def _search_path() -> list[Path]:
    named = os.environ.get("FM_MLFLOW_DATA_DIR")
    return [*([Path(named)] if named else []), _keras_cache(), DEBIAN_FOLDER]


def _keras_cache() -> Path:
    home = os.environ.get("KERAS_HOME")
    # Not Path.home(), which fails for a user without a home, as in some containers.
    folder = Path(home or os.path.expanduser("~/.keras"))
    return folder / "datasets" / "fashion-mnist"


def _missing(folder: Path) -> list[str]:
    return [name for name in FASHION_MNIST_SHA256 if _existing_or_none(folder, name) is None]


def _existing_or_none(folder: Path, name: str) -> Path | None:
    try:
        return next(
            (path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None
        )
    except (OSError, ValueError):  # no possible path: too long, or with a null byte
        return None


def _existing(folder: Path, name: str) -> Path:
    path = _existing_or_none(folder, name)
    if path is None:  # deleted since the search
        raise DataError(f"{folder / name} is missing; {_WHAT_TO_DO}")
    return path


def _download_fashion_mnist(on_progress: DownloadProgress | None) -> Path:
    """Download what is missing into the Keras cache; a file counts once it is verified."""
    folder = _keras_cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _missing(folder):
            _download(name, folder, on_progress)
    except OSError as error:
        raise DataError(
            f"cannot write Fashion-MNIST to {folder}: {error}; {_WHAT_TO_DO}"
        ) from error
    return folder


def _download(name: str, folder: Path, on_progress: DownloadProgress | None) -> None:
    import requests  # only a machine without the data needs it

    base = os.environ.get("FM_MLFLOW_DATA_URL", DOWNLOAD_URL).rstrip("/")
    url = f"{base}/{name}.gz"
    # The process id keeps two downloads at once apart; os.replace makes the last step atomic.
    partial = folder / f".{name}.{os.getpid()}.part.gz"
    searched = ", ".join(str(place) for place in _search_path())
    try:
        with requests.get(url, stream=True, timeout=30) as response:
            response.raise_for_status()
            length = response.headers.get("Content-Length")
            total = int(length) if length else None
            done = 0
            with partial.open("wb") as file:
                for chunk in response.iter_content(1 << 18):
                    file.write(chunk)
                    done += len(chunk)
                    if on_progress:
                        on_progress(f"{name}.gz", done, total)
        _read_idx(partial, expected_sha256=FASHION_MNIST_SHA256[name], shown_as=url)
        partial.replace(folder / f"{name}.gz")
    except requests.RequestException as error:
        raise DataError(
            f"Fashion-MNIST is in none of {searched}, and {url} cannot be downloaded "
            f"({_first_cause(error)}); {_WHAT_TO_DO}"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _first_cause(error: BaseException) -> str:
    """Return the innermost reason of a chain of network errors, on one line."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code}"
    reason: Any = error
    while (inner := getattr(reason, "reason", None) or reason.__context__) is not None and (
        isinstance(inner, BaseException)
    ):
        reason = inner
    return " ".join(str(reason).split()) or type(reason).__name__


def _read_idx(
    path: Path, *, expected_sha256: str | None = None, shown_as: str | None = None
) -> ByteArray:
    """Read an IDX file of unsigned bytes, gzip-compressed or not.

    Format: two zero bytes, 0x08 for uint8, the number of axes, each axis' length as a big-endian
    32-bit number, then the values.
    """
    shown = shown_as or str(path)
    repair = f"delete it and fetch it again ({_WHAT_TO_DO})" if expected_sha256 else "replace it"
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except EOFError as error:
        raise DataError(f"{shown} is truncated at {path.stat().st_size} bytes; {repair}") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{shown} is corrupted ({error}); {repair}") from error
    except OSError as error:
        raise DataError(f"cannot read {shown}: {error.strerror}") from error

    if len(content) < 4 or content[:3] != b"\x00\x00\x08" or not 1 <= content[3] <= 3:
        raise DataError(f"{shown} is not an IDX file of unsigned bytes; {repair}")
    axes = content[3]
    header = 4 + 4 * axes
    if len(content) < header:
        raise DataError(f"{shown} is truncated within its header; {repair}")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", count=axes, offset=4))
    promised = header + int(np.prod(shape, dtype=np.int64))
    if len(content) != promised:
        what = "truncated" if len(content) < promised else "longer than its header says"
        raise DataError(f"{shown} is {what}: {len(content)} bytes, {promised} expected; {repair}")
    if expected_sha256 and (actual := hashlib.sha256(content).hexdigest()) != expected_sha256:
        raise DataError(
            f"{shown} is not Fashion-MNIST's file: the SHA-256 of its contents is {actual[:12]}…, "
            f"expected {expected_sha256[:12]}…; {repair}, or use --dataset idx for data of your own"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _idx(folder: Path) -> Dataset:
    """Load four IDX files by what their names say: train/test (or t10k), images/labels."""
    if not os.path.isdir(folder):
        raise InputError("data_dir", str(folder), "an existing folder with four IDX files")
    arrays = []
    for part, words in (("train", ("train",)), ("test", ("t10k", "test"))):
        for kind in ("images", "labels"):
            found = [
                path
                for path in sorted(folder.iterdir())
                if path.is_file()
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
            arrays.append(_read_idx(found[0]))
    labels = arrays[1]
    classes = int(labels.max()) + 1 if labels.size else 0
    return _assemble("idx", arrays, tuple(str(n) for n in range(classes)), str(folder))


def _assemble(
    name: str, arrays: list[ByteArray], class_names: tuple[str, ...], source: str
) -> Dataset:
    """Check that the four arrays belong together."""
    train_images, train_labels, test_images, test_labels = arrays
    for part, images, labels in (
        ("training", train_images, train_labels),
        ("test", test_images, test_labels),
    ):
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
    if train_images.shape[1:] != test_images.shape[1:]:
        raise DataError(
            f"{source}: training images are {train_images.shape[1:]}, "
            f"test images {test_images.shape[1:]}: the files do not belong together"
        )
    train, test = Subset(train_images, train_labels), Subset(test_images, test_labels)
    return Dataset(name, train, None, test, class_names, source)


def _digits() -> Dataset:
    """scikit-learn's 1,797 real digits: 8x8 enlarged threefold, 2 pixels of border, 28x28.

    Every fifth image is a test image, so that both parts hold every writer.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # the originals count 0 to 16
    images = np.pad(grey.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2)))
    labels = bunch.target.astype(np.uint8)
    is_test = np.arange(len(labels)) % 5 == 0
    arrays = [images[~is_test], labels[~is_test], images[is_test], labels[is_test]]
    return _assemble("digits", arrays, tuple("0123456789"), "scikit-learn")


def _digest(*arrays: ByteArray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
