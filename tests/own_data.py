"""Data sets of a user's own, as small as they can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Arrays = dict[str, Any]


def table(count: int = 40, seed: int = 0) -> Arrays:
    """A regression of five features, float64: four arrays."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 5))
    y = x @ np.arange(1, 6) + 3
    return parts(x, y)


def parts(x: Any, y: Any) -> Arrays:
    """Return arrays of which the last quarter is for the test."""
    kept = len(x) * 3 // 4
    return {"x_train": x[:kept], "y_train": y[:kept], "x_test": x[kept:], "y_test": y[kept:]}


def images(folder: Path, count: int = 20, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    """Write images of two sizes, of `count` for each class, dark ones and light ones."""
    random = np.random.default_rng(0)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = random.integers(0, 100, (8 + index % 2, 9, 3), np.uint8)
            Image.fromarray(pixels + np.uint8(number * 120)).save(folder / name / f"{index}.png")
    return folder
