"""What a model's outputs for the test images come to, with labels that its process never had."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fm_mlflow import keys
from fm_mlflow.measure.measurement import Measurement
from fm_mlflow.registration.findings import Findings, labels_in_turn

_KERAS_EPSILON = 1e-7
_SAME_LOSS = 1e-5


def scores(
    findings: Findings,
    outputs: NDArray[Any],
    probabilities: NDArray[Any],
    gives_logits: bool,
    labels: NDArray[Any],
) -> dict[str, dict[str, Any]]:
    """Return accuracy and, where it follows from the outputs, the loss; as measurements."""
    accuracy = float(np.mean(probabilities.argmax(axis=1) == labels))
    found = [Measurement.exact(keys.TEST_ACCURACY, accuracy, "most probable class v label")]
    loss = _loss(findings, outputs, labels, gives_logits)
    if loss is not None and math.isfinite(loss):
        found.append(Measurement.exact(keys.TEST_LOSS, loss, "cross-entropy of the predictions"))
    return {each.name: asdict(each) for each in found}


def _loss(
    findings: Findings, outputs: NDArray[Any], labels: NDArray[Any], gives_logits: bool
) -> float | None:
    """Return the mean cross-entropy, with what the model adds; None where its loss is another one.

    Which loss the model was compiled with is seen by what its process, which has no labels, got for
    made-up ones. Keras takes probabilities as they are after a softmax, else cut to 1e-7.
    """
    if findings.loss_of_turns is None or outputs.dtype == np.float16:
        return None
    values = outputs.astype(np.float64)
    if gives_logits:
        from scipy.special import log_softmax

        ways = [log_softmax(values, axis=-1)]
    else:
        with np.errstate(divide="ignore"):
            ways = [np.log(values), np.log(np.clip(values, _KERAS_EPSILON, 1 - _KERAS_EPSILON))]
    for logarithms in ways:
        of_turns = findings.penalty - _mean(logarithms, labels_in_turn(*values.shape))
        if math.isclose(of_turns, findings.loss_of_turns, rel_tol=_SAME_LOSS, abs_tol=_SAME_LOSS):
            return findings.penalty - _mean(logarithms, labels)
    return None


def _mean(logarithms: NDArray[Any], labels: NDArray[Any]) -> float:
    return float(logarithms[np.arange(len(labels)), labels].mean())
