"""Trainings that several tests look at: TensorFlow is slow to import, so they share one process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from fm_mlflow import TrainResult, train
from fm_mlflow.data.dataset import Dataset, load_dataset
from tests.conftest import Store, active_store, make_store

Settings = dict[str, Any]
MEASURED: Settings = {"dataset": "digits", "epochs": 2}
DIGITS: Settings = {**MEASURED, "measure": "none"}
"""Most tests look at other things than costs, which take seconds to measure."""


@dataclass(frozen=True)
class Finished:
    """A finished training and the store that it is in."""

    store: Store
    result: TrainResult

    @property
    def run(self) -> mlflow.entities.Run:
        return self.store.client.get_run(self.result.run_id)

    def artifact(self, path: str) -> Path:
        folder = self.store.client.download_artifacts(self.result.run_id, path)
        return Path(folder)

    def predictions(self) -> dict[str, Any]:
        with np.load(self.artifact("predictions/test.npz")) as file:
            return dict(file)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="session", params=["mlp", "cnn"])
def finished(
    request: pytest.FixtureRequest, store_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    """A training of each built-in model, in a SQLite store."""
    store = make_store(store_template, tmp_path_factory.mktemp(request.param))
    with active_store(store):
        return Finished(store, train(request.param, **MEASURED))
