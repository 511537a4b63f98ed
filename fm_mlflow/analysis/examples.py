"""The test examples: how each run did on each of them, checked against what the run logged."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fm_mlflow.analysis.comparison import Group
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.records import RunDetails, TrainingRun

_SAME_ACCURACY = 1e-6
"""More than the rounding of a logged accuracy, less than one image of any real test set."""

SAME_SHARE = 1e-4
"""Of a logged mean of errors: more than its rounding, which was added up in single precision."""

MOST_READ = 100
"""Seeds of a group whose predictions are read: those of more narrow an interval by a few percent at
most, unless it is narrow already (docs/statistics.md)."""


def read_closely(group: Group) -> tuple[TrainingRun, ...]:
    """Return the runs of a group whose curves and files are read: of very many, the first."""
    return group.runs[:MOST_READ]


@dataclass(frozen=True)
class TestExamples:
    """The test set as the runs' predictions show it.

    Attributes:
        count: Examples; 0 where no predictions could be used.
        values: By run id, what the metric is the mean of, or the root of that; shape (count,).
            For an accuracy, whether the example was classified correctly.
        mismatched: Runs whose labels or targets are not those of most runs.
        inconsistent: Runs whose predictions do not give the test metric that they logged.
    """

    count: int
    values: Mapping[str, NDArray[Any]]
    mismatched: tuple[TrainingRun, ...] = ()
    inconsistent: tuple[TrainingRun, ...] = ()

    __test__ = False  # keeps pytest from collecting the class by its name

    def of(self, group: Group) -> NDArray[Any]:
        """Return the values of the runs of a group: shape (usable runs, count)."""
        rows = [self.values[run.run_id] for run in group.runs if run.run_id in self.values]
        return np.array(rows, dtype=None if rows else bool).reshape(len(rows), self.count)


def match_examples(
    groups: Sequence[Group], details: Mapping[str, RunDetails], objective: Objective
) -> TestExamples:
    """Check the runs' predictions against each other; those that do not fit are left out.

    Args:
        groups: Groups on the same data.
        details: By run id; some may be missing.
        objective: The metric whose values the predictions give.
    """
    usable: list[tuple[TrainingRun, NDArray[Any], bytes]] = []
    inconsistent = []
    for run in (run for group in groups for run in group.runs):
        found = _values(run, details.get(run.run_id, RunDetails()), objective)
        if found is None:
            continue
        if _gives_what_was_logged(found[0], run, objective):
            usable.append((run, *found))
        elif objective.is_of_test_set:  # else it is a metric of other data
            inconsistent.append(run)
    if not usable:
        return TestExamples(0, {}, inconsistent=tuple(inconsistent))
    ((most, _),) = Counter(truth for _, _, truth in usable).most_common(1)
    fitting = {run.run_id: values for run, values, truth in usable if truth == most}
    return TestExamples(
        count=len(next(iter(fitting.values()))),
        values=fitting,
        mismatched=tuple(run for run, _, truth in usable if truth != most),
        inconsistent=tuple(inconsistent),
    )


def _values(
    run: TrainingRun, details: RunDetails, objective: Objective
) -> tuple[NDArray[Any], bytes] | None:
    """Return a value an example, and the digest of the truth; None without predictions."""
    match objective.quantity(run.config):
        case None:
            return None
        case "correct":
            predictions = details.predictions
            if predictions is None or not len(predictions.label):
                return None
            return predictions.correct, digest_of(predictions.label.astype(np.int64))
        case _:
            errors = details.errors
            return None if errors is None else (errors.values, errors.truth)


def digest_of(truth: NDArray[Any]) -> bytes:
    """Return the digest of the true classes or numbers of a test set."""
    return hashlib.sha256(np.ascontiguousarray(truth).tobytes()).digest()


def _gives_what_was_logged(values: NDArray[Any], run: TrainingRun, objective: Objective) -> bool:
    logged = run.metrics.get(objective.metric)
    if logged is None:
        return False
    value = float(objective.of_means(np.mean(values)))
    if values.dtype == bool:
        return abs(value - logged) <= _SAME_ACCURACY
    return math.isclose(value, logged, rel_tol=SAME_SHARE, abs_tol=1e-12)
