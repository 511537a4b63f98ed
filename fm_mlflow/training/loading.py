"""Loads the data of a training while its libraries are imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from fm_mlflow.data import fashion_mnist
from fm_mlflow.data.dataset import Dataset, load_dataset
from fm_mlflow.listeners import ProgressListener
from fm_mlflow.settings.config import TrainConfig


@contextmanager
def loading(
    config: TrainConfig, progress: ProgressListener, data: Any
) -> Iterator[Callable[[], Dataset]]:
    """Load the data: beside the import of TensorFlow, where they are in files on this machine.

    Decompressing and checking them needs nothing of Python's that the import needs. A download is
    not put on a thread: it may last, and be interrupted.
    """

    def load() -> Dataset:
        dataset = load_dataset(config.dataset, config.data_dir, progress.download, data=data)
        return dataset.hold_out(config.validation_split)

    if config.dataset == "fashion_mnist" and fashion_mnist.find_folder(config.data_dir):
        with ThreadPoolExecutor(1, thread_name_prefix="fm_mlflow-data") as thread:
            yield thread.submit(load).result
    else:
        dataset = load()
        yield lambda: dataset
