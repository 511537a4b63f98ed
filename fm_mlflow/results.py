"""What the workflows return."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fm_mlflow.config import TrainConfig

if TYPE_CHECKING:
    from fm_mlflow.analysis.comparison import Comparison


@dataclass(frozen=True)
class TrainResult:
    """A finished training run.

    Attributes:
        run_id: Id of the run in the tracking store.
        run_name: Its name there.
        experiment_id: Id of its experiment.
        tracking_uri: The store, any password hidden.
        artifact_uri: Where the run's artifacts are.
        model_uri: The logged model, `models:/<id>`; `mlflow.pyfunc.load_model` takes it.
        config: The settings of the run.
        dataset_digest: SHA-256 of the contents of the data set.
        test_loss: Loss on the whole test set.
        test_accuracy: Share of the test images classified correctly.
        metrics: Every value of the whole run by logged name (`fm_mlflow.keys`), these included.
        history: One value an epoch for each per-epoch metric, by logged name.
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
    test_accuracy: float
    metrics: dict[str, float]
    history: dict[str, list[float]]
    pending: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold."""
        return {**asdict(self), "config": self.config.model_dump()}


@dataclass(frozen=True)
class CompareResult:
    """A comparison, and where its report is.

    Attributes:
        run_id: The run of kind `comparison` that holds the report.
        experiment_id: Id of its experiment.
        tracking_uri: The store, any password hidden.
        artifact_uri: Where the run's artifacts are.
        files: Paths of the report's files in the output folder, by name.
        comparison: Everything that they say.
    """

    run_id: str
    experiment_id: str
    tracking_uri: str
    artifact_uri: str
    files: dict[str, str]
    comparison: Comparison

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold."""
        from fm_mlflow.analysis.to_json import to_json_dict

        return {
            "run_id": self.run_id,
            "experiment_id": self.experiment_id,
            "tracking_uri": self.tracking_uri,
            "artifact_uri": self.artifact_uri,
            "files": self.files,
            **to_json_dict(self.comparison),
        }


def finite(value: Any) -> Any:
    """Return plain values with None for numbers that JSON has no spelling for: NaN, infinity."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
