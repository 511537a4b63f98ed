"""The test images of a run, from where it had them: for pictures, so nothing is downloaded."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from numpy.typing import NDArray

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import WrongExample
from fm_mlflow.data import fashion_mnist
from fm_mlflow.data.dataset import LOADABLE, Subset, load_dataset
from fm_mlflow.errors import DataError, InputError
from fm_mlflow.tracking.datasets import short_digest

_LARGEST = 128 * 1024**2
"""Bytes of data that are read for the sake of pictures: a fraction of a second."""

_MOST_FILES = 20_000
_CHANNELS = ((), (1,), (3,), (4,))
_TEST = "test"

_NOT_SAID = "the run does not say which test set it had."
_NOT_HERE = "the data set is not on this machine where it was found before; none is downloaded."
_OTHERS_OWN = "only the program that trained the models had them."
_TOO_LARGE = f"the data set has more than {_LARGEST // 1024**2} MiB or {_MOST_FILES:,} files."
_CHANGED = "the data set that is found now is not the one that the run was tested on."
_NO_IMAGES = "the examples are not grey levels or colours from 0 to 255."


class NoImagesError(Exception):
    """There are no images to show; the message is a sentence that says why."""


def load_test_images(
    run_id: str, dataset: str, examples: Sequence[WrongExample]
) -> dict[int, NDArray[np.uint8]]:
    """Read test images of a run whose contents are those that it was tested on.

    Args:
        run_id: A run that logged its test set.
        dataset: Its name.
        examples: Which are wanted; their true classes are compared.

    Returns:
        By position: shape (height, width) or (height, width, channels).

    Raises:
        NoImagesError: They cannot be had, or are no images.
    """
    try:
        digest, source = _logged_test_set(MlflowClient().get_run(run_id))
    except MlflowException as error:
        raise NoImagesError(_NOT_SAID) from error
    try:
        subset = _load(dataset, source)
        positions = np.array([each.position for each in examples])
        if short_digest(subset.digest) != digest or positions.max() >= len(subset):
            raise NoImagesError(_CHANGED)
        if not subset.are_images or subset.inputs.shape[3:] not in _CHANNELS:
            raise NoImagesError(_NO_IMAGES)
        if subset.targets[positions].tolist() != [each.label for each in examples]:
            raise NoImagesError(_CHANGED)
        return dict(zip(positions.tolist(), subset.inputs[positions], strict=True))
    except (DataError, InputError, OSError) as error:
        raise NoImagesError(_NOT_HERE) from error


def _logged_test_set(run: Run) -> tuple[str, str]:
    """Return the digest of a run's test set, and the file or folder that it came from."""
    for each in run.inputs.dataset_inputs if run.inputs else []:
        tags = {tag.key: tag.value for tag in each.tags}
        if tags.get(keys.MLFLOW_DATASET_CONTEXT) != _TEST:
            continue
        try:
            source: Any = json.loads(each.dataset.source)
        except (ValueError, RecursionError):
            source = None
        uri = source.get("uri") if isinstance(source, Mapping) else None
        return each.dataset.digest, uri.removeprefix("file://") if isinstance(uri, str) else ""
    raise NoImagesError(_NOT_SAID)


def _load(dataset: str, source: str) -> Subset:
    if dataset == "fashion_mnist":
        arrays = fashion_mnist.load_test_files()
        if arrays is None:
            raise NoImagesError(_NOT_HERE)
        return Subset(*arrays)
    if dataset == "digits":
        return load_dataset(dataset).test
    if dataset not in LOADABLE and os.path.basename(source) != dataset:
        raise NoImagesError(_OTHERS_OWN)
    place = Path(source)
    if not source or not place.exists():
        raise NoImagesError(_NOT_HERE)
    if _is_large(place):
        raise NoImagesError(_TOO_LARGE)
    return load_dataset(dataset, str(place if dataset in LOADABLE else place.parent)).test


def _is_large(place: Path) -> bool:
    """Whether a file or the files below a folder are too many or too large to be read."""
    if place.is_file():
        return place.stat().st_size > _LARGEST
    files = size = 0
    for folder, _, names in os.walk(place):
        files += len(names)
        if files > _MOST_FILES:
            return True
        size += sum(os.stat(os.path.join(folder, name)).st_size for name in names)
    return size > _LARGEST
