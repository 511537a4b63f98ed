"""The figures of a run, held against those of its model that was run again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fm_mlflow import keys
from fm_mlflow.analysis.examples import SAME_SHARE
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.data.dataset import Subset
from fm_mlflow.registration.findings import Findings, by
from fm_mlflow.results.register import Check

if TYPE_CHECKING:
    from fm_mlflow.tracking.candidate import Candidate

_ELSEWHERE = 1e-4
_ROUNDING = 1e-6
_PROBABILITY_ELSEWHERE = 1e-3
_SHOWN_DIGITS = 12
_NO_DIGEST = "none: the run has no digest"

NO_TEST_SET = Check(
    "test set",
    "its script's own",
    "not here",
    "none: no figure of it can be measured again; what the run logged of it counts",
    None,
)
"""Of a model whose test data only its script had."""


@dataclass(frozen=True)
class Figures:
    """The figures of a run, and those that the fresh process measured, by logged name.

    Attributes:
        may_lack: Whether a run may have logged less than `train` does, as a script's own run.
    """

    logged: Mapping[str, float]
    measured: Mapping[str, float]
    same_machine: bool
    may_lack: bool = False

    def within(self, key: keys.Key, tolerance: float = 0.0, why: str = "") -> Check:
        """Whether the two differ by no more than a tolerance."""
        logged, measured = self.logged.get(key), self.measured.get(key)
        if logged is None and measured is None:
            return Check(str(key), None, None, "none: it cannot be measured", None, by(key))
        if logged is None and self.may_lack:
            return self.shown(key, "the run has not logged it")
        passed = logged is not None and measured is not None and abs(measured - logged) <= tolerance
        rule = f"within {tolerance:.1g}{why}" if tolerance else f"equal{why}"
        return Check(str(key), logged, measured, rule, passed, by(key))

    def shown(self, key: keys.Key, why: str = "measured again") -> Check:
        """The two, of which nothing is demanded."""
        logged, measured = self.logged.get(key), self.measured.get(key)
        return Check(str(key), logged, measured, f"none: {why}", None, by(key))

    def accuracy(self) -> Check:
        """The test accuracy; other processors round differently."""
        if self.same_machine:
            return self.within(keys.TEST_ACCURACY)
        return self.within(keys.TEST_ACCURACY, _ELSEWHERE, " (another machine)")

    def loss(self, penalty: float) -> Check:
        """The test loss, where it follows from predictions and labels.

        Args:
            penalty: What it includes that only the model's process can say.
        """
        measured = self.measured.get(keys.TEST_LOSS)
        if measured is None:
            return self.shown(keys.TEST_LOSS, "only the model's code can compute its loss")
        share = _ROUNDING if self.same_machine else _ELSEWHERE
        check = self.within(keys.TEST_LOSS, share * max(1.0, abs(measured)))
        return replace(check, by="model") if penalty else check

    def flops(self, *measurements: Mapping[str, Mapping[str, Any]]) -> Check:
        """The FLOPs of a prediction; given the two sets of measurements, with their methods."""
        key = keys.FLOPS_INFERENCE
        if key not in self.logged:
            return self.shown(key)
        logged, measured = (each.get(key, {}).get("method") for each in measurements)
        if logged and measured and logged != measured:  # earlier versions took keras-flops' figure
            return self.shown(key, "the run counted by another method")
        return self.within(key)

    def predictions(
        self,
        logged: tuple[NDArray[Any], NDArray[Any]] | str,
        test: Subset,
        probabilities: NDArray[Any],
    ) -> Check:
        """The largest difference of a probability, logged and measured."""
        name = str(keys.PREDICTIONS_FILE)
        tolerance = _ROUNDING if self.same_machine else _PROBABILITY_ELSEWHERE
        rule = f"no probability differs by more than {tolerance:g}"
        if isinstance(logged, str):
            return Check(name, logged, "probabilities", rule, False)
        labels, logged_probabilities = logged
        if logged_probabilities.shape != probabilities.shape or not np.array_equal(
            labels, test.targets
        ):
            shapes = f"{logged_probabilities.shape} of other images", f"{probabilities.shape}"
            return Check(name, *shapes, rule, False)
        difference = float(np.abs(logged_probabilities.astype(np.float64) - probabilities).max())
        measured = "identical" if difference == 0 else f"up to {difference:.2g} apart"
        shown = f"{len(labels):,} x {probabilities.shape[1]}"
        return Check(name, shown, measured, rule, difference <= tolerance)


def check_files(candidate: Candidate) -> Check:
    """Whether the model's files are those that the training saved."""
    saved, own = candidate.saved_digest, candidate.own_digest
    if saved is None:  # of a run before there was this tag
        return Check("model files", None, short_digest(own), _NO_DIGEST, None)
    return Check("model files", short_digest(saved), short_digest(own), "equal", saved == own)


def check_weights(candidate: Candidate, findings: Findings) -> Check:
    """Whether the loaded weights are those that were trained."""
    name = keys.WEIGHTS_DIGEST.removeprefix("fm_mlflow.").replace("_", " ")
    logged, measured = candidate.weights_digest, findings.weights_digest
    if logged is None:
        return Check(name, None, short_digest(measured), _NO_DIGEST, None, "model")
    digests = short_digest(logged), short_digest(measured)
    return Check(name, *digests, "equal", logged == measured, "model")


def check_own_predictions(candidate: Candidate, objective: Objective) -> Check:
    """Whether the metric that decides follows from the predictions that the run itself logged.

    It says nothing of the model: the test data, which only the run's script had, are not here.
    """
    from fm_mlflow.tracking.predictions import value_of_predictions

    run, metric = candidate.run, objective.metric
    logged, file = run.metrics.get(metric), candidate.predictions_file
    found: float | str | None = "no predictions" if file is None else None
    if file is not None:
        try:
            found = value_of_predictions(file, run, objective)
        except (OSError, ValueError) as error:
            found = f"unreadable ({type(error).__name__})"
    if isinstance(found, float) and logged is not None:
        rule = f"within {SAME_SHARE:.1g} of what its predictions give; its test data are not here"
        passed = math.isclose(found, logged, rel_tol=SAME_SHARE, abs_tol=1e-12)
        return Check(metric, logged, found, rule, passed, "run")
    rule = "none: its test data are not here, and no predictions give it; what it logged decides"
    return Check(metric, logged, found, rule, None, "run")


def check_interface(
    candidate: Candidate, names: tuple[str, ...] | None, findings: Findings
) -> tuple[Check, ...]:
    """Whether the input example is predicted, and the class names are the data set's, if known."""
    what = "inputs" if names is None else "images"
    shape = candidate.input_shape
    images = "several inputs" if shape is None else f"{what} of {shape}"
    example = findings.example
    rule = "the input example is predicted"
    signature = Check("signature", images, example, rule, example == "predicted", "model")
    if names is None:
        return (signature,)
    own = candidate.class_names
    counts = f"{len(names)} names", f"{len(own)} names"
    return (
        signature,
        Check("class names", *counts, "those of the data set", own == names),
    )


def short_digest(digest: str) -> str:
    """Return enough of a digest to tell it from others."""
    return digest[:_SHOWN_DIGITS]


def with_values(measurements: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the values of measurements that have one."""
    values = {name: each["value"] for name, each in measurements.items()}
    return {name: float(value) for name, value in values.items() if value is not None}
