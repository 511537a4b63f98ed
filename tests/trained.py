"""Trainings that several tests look at: TensorFlow is slow to import, so they share one process."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np

from fm_mlflow import TrainResult, train
from fm_mlflow.process.file_lock import FileLock
from tests.quick_costs import less_time
from tests.stores import Store, active_store, make_store
from tests.undrawn import drawn

Settings = dict[str, Any]
MEASURED: Settings = {"dataset": "digits", "epochs": 2}
DIGITS: Settings = {**MEASURED, "measure": "none"}
"""Most tests look at other things than costs, which take seconds to measure."""

SMALL = "mlp?hidden=8"
"""Traced and compiled in less time than the reference models, for tests that any model serves."""


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


def finished_training(model: str, template: Path, shared: Path) -> Finished:
    """Return the measured training of a model; the first call of all workers trains it."""
    folder, kept = shared / model, shared / f"{model}.pickle"
    with FileLock(shared / f"{model}.lock"):
        if kept.exists():
            found: Finished = pickle.loads(kept.read_bytes())
            return found
        folder.mkdir()
        store = make_store(template, folder)
        with active_store(store), less_time(), drawn():
            done = Finished(store, train(model, **MEASURED))
        kept.write_bytes(pickle.dumps(done))
        return done
