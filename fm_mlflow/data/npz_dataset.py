"""A data set in an .npz file: x_train, y_train, x_test, y_test and, if it has them, class_names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import psutil

from fm_mlflow.data.npy import open_npz
from fm_mlflow.data.rows import MOST_CLASSES, FourParts, check_parts
from fm_mlflow.errors import DataError, InputError

_ARRAYS = dict.fromkeys(("x_train", "y_train", "x_test", "y_test"), "biuf")
_NAMES = "class_names"
_ALWAYS_UNPACKED = 64 * 1024**2
_LARGEST_RATIO = 100
"""How many times its size a file may unpack to: what deflate packs 1,000 times is one value."""

_SHARE_OF_MEMORY = 0.5


def load_npz(path: Path) -> FourParts:
    """Read the arrays of a file that anybody may have made; nothing in it is unpickled.

    Raises:
        InputError: There is no such file.
        DataError: It is damaged, too large, or has no such arrays.
    """
    accepted = "an .npz file with the arrays x_train, y_train, x_test and y_test"
    try:
        size = os.stat(path).st_size
        free = int(psutil.virtual_memory().available * _SHARE_OF_MEMORY)
        largest = min(max(_ALWAYS_UNPACKED, size * _LARGEST_RATIO), free)
        kinds = {**_ARRAYS, _NAMES: "U"}
        with open_npz(path, kinds, largest, optional=[_NAMES], any_order=True) as opened:
            for name, array in opened.items():
                if name == _NAMES and not 0 < array.header.shape[0] <= MOST_CLASSES:
                    raise ValueError(f"class_names has shape {array.header.shape}")
            arrays = {name: array.read() for name, array in opened.items()}
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError("dataset", str(path), f"{accepted} ({reason})") from error
    except ValueError as error:
        raise DataError(f"{path}: {error}; expected is {accepted}") from error
    names = arrays.pop(_NAMES, np.array([], str))
    if names.ndim != 1:
        raise DataError(f"{path}: class_names has shape {names.shape}, where a list is expected")
    return check_parts(FourParts(**arrays, class_names=tuple(map(str, names)), source=str(path)))
