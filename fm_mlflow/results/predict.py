"""What `predict` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fm_mlflow.results import Result


@dataclass(frozen=True)
class FilePrediction:
    """What a model says of a picture."""

    file: str
    class_name: str
    probability: float


@dataclass(frozen=True)
class PredictResult(Result):
    """A file of images or other examples, predicted.

    Attributes:
        run_id: The run that trained the model; None where the model does not say.
        output: The file with the predictions.
        images: How many there were.
        seconds: Wall time from the first image to the finished file.
        counts: Images by predicted class name, in label order; empty of a model of numbers.
        first_files: Of the first pictures, where the input is such and the model one of classes:
            the file, the class and its probability.
    """

    run_id: str | None
    model_uri: str
    output: str
    images: int
    seconds: float
    counts: dict[str, int]
    first_files: tuple[FilePrediction, ...] = ()

    @property
    def images_per_second(self) -> float:
        """Images over the wall time."""
        return self.images / self.seconds

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold."""
        return {**super().to_dict(), "images_per_second": self.images_per_second}
