"""What the analysis takes: training runs as plain records, whoever logged them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fm_mlflow import keys

DIGEST_DIGITS = 8
"""As many digits of a digest are shown, and tell data sets apart."""

UNNAMED = ("idx",)
"""Values of the parameter `dataset` that do not say which data they are."""

LARGEST = 1e60
"""Beyond it, squares of variances are not finite, and no such value was measured."""


def is_number(value: float) -> bool:
    """Return whether a logged value can be reckoned with; stores keep infinity as 1.8e308."""
    return abs(value) < LARGEST  # NaN is not


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
        metrics: Last value of each metric, by logged name (`fm_mlflow.keys`), if `is_number`;
            what was not measured, or was none in the end, is absent.
        data_digest: Digest of the contents of the data set, None where the run does not say.
        machine: What decides how fast and in how much memory it ran, by tag name without the
            prefix (`cpu`, `cores`, `threads`, `versions`, …); empty where the run does not say.
        jobs: Trainings that ran at the same time on its machine, itself included; 1 if unknown.
        version: The fm_mlflow that logged it, None for a run of others.
        commit: Commit of the source that it ran, where MLflow knows.
        start_time: Milliseconds since 1970; for putting runs in order.
        end_time: Likewise; 0 where it is not known.
        artifact_uri: Where its artifacts are.
        model_uri: The logged model, `models:/<id>`, where there is one.
        experiment: Name of its experiment.
        status: FINISHED, FAILED, KILLED, or RUNNING where the store has not heard of its end.
        error: Why it failed or was killed, where that is recorded.
    """

    run_id: str
    name: str
    model: str
    config: Mapping[str, str]
    seed: int | None
    metrics: Mapping[str, float]
    data_digest: str | None = None
    machine: Mapping[str, str] = field(default_factory=dict)
    jobs: int = 1
    version: str | None = None
    commit: str | None = None
    start_time: int = 0
    end_time: int = 0
    artifact_uri: str = ""
    model_uri: str | None = None
    experiment: str = ""
    status: str = keys.FINISHED
    error: str | None = None

    @property
    def data_set(self) -> str:
        """What a reader calls its data set: the name, the start of the digest where need be."""
        name, digest = self.config.get("dataset", ""), (self.data_digest or "")[:DIGEST_DIGITS]
        if name and name not in UNNAMED:
            return name
        return " ".join(filter(None, (name, f"data {digest}" if digest else "unknown data")))

    def is_on(self, data_set: str) -> bool:
        """Whether its data set is meant by a name, or by the first digits of a digest."""
        by_digest = len(data_set) >= DIGEST_DIGITS and (self.data_digest or "").startswith(data_set)
        return by_digest or self.config.get("dataset") == data_set


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
    """

    label: NDArray[np.integer]
    predicted: NDArray[np.integer]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each image was classified correctly, shape (n,)."""
        return np.asarray(self.predicted == self.label)


@dataclass(frozen=True)
class RunDetails:
    """What is read of a run only where the report looks closer.

    Attributes:
        curves: Per-epoch metrics by logged name: (step, value), in order of steps.
        predictions: On the test set; None where the run has none that can be read.
        class_names: In label order; empty where unknown.
        measurements: `measurements.json` by metric name: unit, method, interval, reason, …
        layer_types: The types of layers in `flops/layers.csv`; empty where it is not known.
        problems: What could not be read, in words.
    """

    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    predictions: Predictions | None = None
    class_names: tuple[str, ...] = ()
    measurements: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    layer_types: Sequence[str] = ()
    problems: tuple[str, ...] = ()
