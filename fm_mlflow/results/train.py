"""What `train` and `resume` return."""

from __future__ import annotations

from dataclasses import dataclass

from fm_mlflow.results import Result
from fm_mlflow.settings.config import TrainConfig


@dataclass(frozen=True)
class TrainResult(Result):
    """A finished training run.

    Attributes:
        tracking_uri: The store, any password hidden.
        artifact_uri: Where the run's artifacts are.
        model_uri: The logged model, `models:/<id>`; `mlflow.pyfunc.load_model` takes it.
        dataset_digest: SHA-256 of the contents of the data set.
        test_loss: Loss on the whole test set.
        test_accuracy: Share of the test examples classified correctly; None of a model of numbers.
        metrics: Every value of the whole run by logged name (`fm_mlflow.keys`), these included.
        history: One value an epoch for each per-epoch metric, by logged name.
        source_files: The user's own files that travel with the model, for `module:function`.
        pending: What the store does not have yet, why and where it is; empty when it has all.
    """

    run_id: str
    run_name: str
    experiment_id: str
    tracking_uri: str
    artifact_uri: str
    model_uri: str
    config: TrainConfig
    dataset_digest: str
    test_loss: float
    test_accuracy: float | None
    metrics: dict[str, float]
    history: dict[str, list[float]]
    source_files: tuple[str, ...] = ()
    pending: str = ""
