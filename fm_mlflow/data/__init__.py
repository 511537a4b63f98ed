"""Data sets and files of images and predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fm_mlflow.process.lazy import lazy_names

if TYPE_CHECKING:
    from fm_mlflow.data.dataset import Dataset as Dataset, load_dataset as load_dataset

_HOMES = {"Dataset": "dataset", "load_dataset": "dataset"}

__getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
