"""What the workflows return."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fm_mlflow.config import BenchmarkConfig, TrainConfig

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


@dataclass(frozen=True)
class BenchmarkTraining:
    """What came of one training of a benchmark.

    Attributes:
        model: What it trained.
        seed: Its seed.
        run_id: Its run.
        status: FINISHED, FAILED, KILLED or, where the store has not heard of its end, RUNNING.
        test_accuracy: Share of the test images classified correctly; None if it did not finish.
        seconds: From the creation of its run to its end; None where that is not known.
        error: Why it did not finish, in one line; None if it did.
    """

    model: str
    seed: int
    run_id: str
    status: str
    test_accuracy: float | None
    seconds: float | None
    error: str | None

    @property
    def name(self) -> str:
        """What a person calls it."""
        return training_name(self.model, self.seed)


def training_name(model: str, seed: int) -> str:
    """Name a training among those of a benchmark; a path by its last part."""
    return f"{model_name(model)}, seed {seed}"


def model_name(model: str) -> str:
    """Name a model; a path by its last part."""
    return model.replace("\\", "/").rpartition("/")[2]


@dataclass(frozen=True)
class BenchmarkResult:
    """A benchmark: its trainings and what they say.

    Attributes:
        run_id: The parent run.
        run_name: Its name.
        experiment_id: Id of its experiment.
        tracking_uri: The store, any password hidden.
        config: The settings.
        trainings: Those that finished before and now, and those that failed now.
        comparison: The report; None where no training finished.
    """

    run_id: str
    run_name: str
    experiment_id: str
    tracking_uri: str
    config: BenchmarkConfig
    trainings: tuple[BenchmarkTraining, ...]
    comparison: CompareResult | None

    @property
    def failed(self) -> tuple[BenchmarkTraining, ...]:
        """The trainings that did not finish."""
        return tuple(training for training in self.trainings if training.error is not None)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold."""
        return {
            "run_id": self.run_id,
            "run_name": self.run_name,
            "experiment_id": self.experiment_id,
            "tracking_uri": self.tracking_uri,
            "config": self.config.model_dump(),
            "trainings": [asdict(training) for training in self.trainings],
            "comparison": self.comparison.to_dict() if self.comparison else None,
        }


@dataclass(frozen=True)
class PredictResult:
    """A file of images, classified.

    Attributes:
        run_id: The run that trained the model; None where the model does not say.
        model_uri: The model.
        output: The file with the predictions.
        images: How many there were.
        seconds: Wall time from the first image to the finished file.
        counts: Images by predicted class name, in label order.
    """

    run_id: str | None
    model_uri: str
    output: str
    images: int
    seconds: float
    counts: dict[str, int]

    @property
    def images_per_second(self) -> float:
        """Images over the wall time."""
        return self.images / self.seconds

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold."""
        return {**asdict(self), "images_per_second": self.images_per_second}


def finite(value: Any) -> Any:
    """Return plain values with None for numbers that JSON has no spelling for: NaN, infinity."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
