"""The four files of Fashion-MNIST: where they may be, what they must be, how to get them.

Fashion-MNIST is Copyright Zalando SE, MIT licence, https://github.com/zalandoresearch/fashion-mnist.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fm_mlflow.data import download
from fm_mlflow.data.idx import read_idx
from fm_mlflow.errors import DataError, InputError
from fm_mlflow.process.atomic_file import atomic_file

if TYPE_CHECKING:
    from fm_mlflow.data.idx import ByteArray

CLASSES = (
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
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DOWNLOAD_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"
"""Where Keras downloads the same four files from; FM_MLFLOW_DATA_URL names a mirror."""

_LARGEST = 64 * 2**20
"""Bytes of a file, downloaded or unpacked: the largest of the four has 47,040,016."""

_LONGEST_SECONDS = 15 * 60
"""A file may take to arrive: 30 kB a second are enough for the largest."""

_WHAT_TO_DO = (
    "put the four .gz files in a folder and name it with --data-dir or FM_MLFLOW_DATA_DIR, "
    "install Debian's package dataset-fashion-mnist, or use --dataset digits"
)

_REPAIR = f"delete it and fetch it again ({_WHAT_TO_DO})"

DownloadProgress = Callable[[str, int, "int | None"], None]
"""Called as (file name, bytes so far, bytes in all or None where the server does not say)."""


def load_files(data_dir: str, on_download: DownloadProgress | None) -> tuple[list[ByteArray], Path]:
    """Find, or else download, and verify the four files.

    Args:
        data_dir: Their folder; empty searches.
        on_download: Hears of the progress of a download.

    Returns:
        Training images and labels, test images and labels; and the folder that they are in.
    """
    folder = find_folder(data_dir) or _download_all(on_download)
    return [_verified(folder, name) for name in SHA256], folder


def load_test_files() -> list[ByteArray] | None:
    """Read test images and labels where the files are on this machine; None where they are not.

    Raises:
        DataError: A file is damaged or not Fashion-MNIST's.
    """
    folder = find_folder("")
    names = [name for name in SHA256 if name.startswith("t10k")]
    return None if folder is None else [_verified(folder, name) for name in names]


def _verified(folder: Path, name: str) -> ByteArray:
    path = _existing(folder, name)
    if path is None:  # deleted since the search
        raise DataError(f"{folder / name} is missing; {_WHAT_TO_DO}")
    return _read(path, name, str(path))


def find_folder(data_dir: str) -> Path | None:
    """Return the first folder that holds the files, or None where they must be downloaded.

    Raises:
        InputError: The folder that was named does not hold them.
    """
    if data_dir:
        if absent := missing(Path(data_dir)):
            accepted = "a folder with the four files of Fashion-MNIST, .gz or not"
            lack = f"missing: {', '.join(absent)}" if os.path.isdir(data_dir) else "no such folder"
            raise InputError("data_dir", data_dir, f"{accepted} ({lack})")
        return Path(data_dir)
    return next((folder for folder in search_path() if not missing(folder)), None)


def search_path() -> list[Path]:
    """Return the folders that are searched, in order."""
    named = os.environ.get("FM_MLFLOW_DATA_DIR")
    return [*([Path(named)] if named else []), _keras_cache(), DEBIAN_FOLDER]


def _keras_cache() -> Path:
    # Not Path.home(), which fails for a user without a home, as in some containers.
    home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    return Path(home, "datasets", "fashion-mnist")


def missing(folder: Path) -> list[str]:
    """Return the names of the files that a folder lacks."""
    return [name for name in SHA256 if _existing(folder, name) is None]


def _existing(folder: Path, name: str) -> Path | None:
    paths = (folder / f"{name}.gz", folder / name)
    # Unlike Path.is_file, it takes what can be no path: too long, or with a null byte.
    return next((path for path in paths if os.path.isfile(path)), None)


def _download_all(on_progress: DownloadProgress | None) -> Path:
    """Download what is missing into the Keras cache; a file counts once it is verified."""
    folder = _keras_cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in missing(folder):
            _download(name, folder, on_progress)
    except OSError as error:
        message = f"cannot write Fashion-MNIST to {folder}: {error}; {_WHAT_TO_DO}"
        raise DataError(message) from error
    return folder


def _download(name: str, folder: Path, on_progress: DownloadProgress | None) -> None:
    base = os.environ.get("FM_MLFLOW_DATA_URL", DOWNLOAD_URL).rstrip("/")
    url = f"{base}/{name}.gz"
    searched = ", ".join(str(place) for place in search_path())
    done = 0
    try:
        with atomic_file(folder / f"{name}.gz") as partial:
            with partial.open("wb") as file:
                for content, total in download.pieces(url, _LARGEST, _LONGEST_SECONDS):
                    file.write(content)
                    done += len(content)
                    if on_progress:
                        on_progress(f"{name}.gz", done, total)
            _read(partial, name, url)
    except download.DownloadError as error:
        raise DataError(
            f"Fashion-MNIST is in none of {searched}, and {url} cannot be downloaded "
            f"({error}); {_WHAT_TO_DO}"
        ) from error


def _read(path: Path, name: str, shown_as: str) -> ByteArray:
    """Read a file and compare its contents with those of Fashion-MNIST's file of that name."""
    return read_idx(
        path, repair=_REPAIR, largest=_LARGEST, expected_sha256=SHA256[name], shown_as=shown_as
    )
