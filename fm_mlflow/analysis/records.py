"""What the analysis takes: training runs as plain records, whoever logged them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fm_mlflow import keys
from fm_mlflow.analysis.seed_design import SeedDesign
from fm_mlflow.escaping import shortened
from fm_mlflow.naming import DIGEST_DIGITS, UNNAMED
from fm_mlflow.settings.dataset import BUILTIN

_LONGEST_NAME = 60

LARGEST = 1e60
"""Beyond it, squares of variances are not finite, and no such value was measured."""


def is_number(value: float) -> bool:
    """Return whether a logged value can be reckoned with; stores keep infinity as 1.8e308."""
    return abs(value) < LARGEST  # NaN is not


@dataclass(frozen=True)
class DataSet:
    """Which data: contents decide, and the name where nobody recorded a digest of them.

    Attributes:
        name: As `--dataset` takes it; of a run of others any text, empty where it does not say.
        digest: Of its contents, None where nobody recorded it.
    """

    name: str
    digest: str | None

    def __str__(self) -> str:
        """What a reader calls it: the name, the start of the digest where need be."""
        digest = (self.digest or "")[:DIGEST_DIGITS]
        if self.name and self.name not in UNNAMED:
            return shortened(self.name, _LONGEST_NAME)
        return " ".join(filter(None, (self.name, f"data {digest}" if digest else "unknown data")))

    @property
    def exactly(self) -> str:
        """The same, always with the start of the digest where there is one."""
        text, digest = str(self), (self.digest or "")[:DIGEST_DIGITS]
        return text if digest in text else f"{text}, data {digest}"

    @property
    def holds_images(self) -> bool:
        """Whether its name says that its examples are images: a built-in one's does."""
        return self.name in BUILTIN

    def is_meant_by(self, text: str) -> bool:
        """Whether a text is its name, or how its digest begins."""
        by_digest = len(text) >= DIGEST_DIGITS and (self.digest or "").startswith(text)
        return by_digest or self.name == text

    def is_other_than(self, another: DataSet) -> bool:
        """Whether the two are known to be different."""
        if self.digest and another.digest:
            return self.digest != another.digest
        return bool(self.name and another.name) and self.name != another.name


@dataclass(frozen=True)
class TrainingRun:
    """One training run.

    Attributes:
        run_id: Its id in the tracking store.
        name: Its name, as somebody gave it: any text.
        model: What it trained; for a run without our tags, the name that stands for its model.
        config: Every parameter that shapes the result, normalised (`1e-3` is `0.001`), without
            the model and the seed.
        seed: The seed, where the run says.
        metrics: Value of each metric, by logged name (`fm_mlflow.keys`), if `is_number`: the last,
            or that of the epoch whose weights were kept; what was not measured, or was none in the
            end, is absent.
        data_digest: Digest of the contents of the data set, None where the run does not say.
        machine: What decides how fast and in how much memory it ran, by tag name without the
            prefix (`cpu`, `cores`, `threads`, `versions`, …); empty where the run does not say.
        host: Name of the host that it ran on, of the last one where several did; empty if unknown.
        jobs: Trainings that ran at the same time on its machine, itself included; 1 if unknown.
        parts: Processes that trained it in turn, because it was resumed.
        version: The fm_mlflow that logged it, None for a run of others.
        commit: Commit of the source that it ran, where MLflow knows.
        start_time: Milliseconds since 1970; for putting runs in order.
        end_time: Likewise; 0 where it is not known.
        artifact_uri: Where its artifacts are.
        model_uri: The logged model, `models:/<id>`, where there is one.
        experiment: Name of its experiment.
        status: FINISHED, FAILED, KILLED, or RUNNING where the store has not heard of its end.
        error: Why it failed or was killed, where that is recorded.
        held_out: Whether it validated on data that it was neither trained nor tested on.
        benchmark: Id of the run that it is within.
        design: Of a benchmark that trains as many seeds as its decision needs.
        design_model: Which of the design's models this is, with its arguments and settings; None
            where that is `model`.
    """

    run_id: str
    name: str
    model: str
    config: Mapping[str, str]
    seed: int | None
    metrics: Mapping[str, float]
    data_digest: str | None = None
    machine: Mapping[str, str] = field(default_factory=dict)
    host: str = ""
    jobs: int = 1
    parts: int = 1
    version: str | None = None
    commit: str | None = None
    start_time: int = 0
    end_time: int = 0
    artifact_uri: str = ""
    model_uri: str | None = None
    experiment: str = ""
    status: str = keys.FINISHED
    error: str | None = None
    held_out: bool = False
    benchmark: str | None = None
    design: SeedDesign | None = None
    design_model: str | None = None

    @property
    def data_set(self) -> DataSet:
        """What it was trained and tested on."""
        return DataSet(self.config.get("dataset", ""), self.data_digest)


@dataclass(frozen=True)
class SkippedRun:
    """A run that the comparison does not use, and why."""

    run_id: str
    name: str
    reason: str


@dataclass(frozen=True)
class Predictions:
    """What a run's model said of the test images.

    Attributes:
        label: True classes, shape (n,).
        predicted: Most probable classes, shape (n,).
        confidence: Probabilities of these, shape (n,); None where they are not read.
    """

    label: NDArray[np.integer]
    predicted: NDArray[np.integer]
    confidence: NDArray[np.float32] | None = None

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each image was classified correctly, shape (n,)."""
        return np.asarray(self.predicted == self.label)


@dataclass(frozen=True)
class ExampleErrors:
    """How far a run's model was from the truth on each test example.

    Attributes:
        values: What the compared metric is the mean of, or the root of that; shape (n,), finite.
        truth: Digest of the true classes or numbers, in order.
    """

    values: NDArray[np.float64]
    truth: bytes


@dataclass(frozen=True)
class RunDetails:
    """What is read of a run only where the report looks closer.

    Attributes:
        curves: Per-epoch metrics by logged name: (step, value), in order of steps.
        predictions: Classes on the test set; None where the run has none that can be read.
        errors: On the test set, where the compared metric is a mean of errors; else None.
        class_names: In label order; empty where unknown.
        measurements: `measurements.json` by metric name: unit, method, interval, reason, …
        layer_types: The types of layers in `flops/layers.csv`; empty where it is not known.
        problems: What could not be read, in words.
    """

    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    predictions: Predictions | None = None
    errors: ExampleErrors | None = None
    class_names: tuple[str, ...] = ()
    measurements: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    layer_types: Sequence[str] = ()
    problems: tuple[str, ...] = ()
