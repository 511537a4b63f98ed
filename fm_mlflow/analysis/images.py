"""Which test images each run classified correctly, where all predict the same images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Group
from fm_mlflow.analysis.records import Predictions, RunDetails, TrainingRun

_SAME_ACCURACY = 1e-6
"""More than the rounding of a logged accuracy, less than one image of any real test set."""


@dataclass(frozen=True)
class TestImages:
    """The test set as the runs' predictions show it.

    Attributes:
        count: Images; 0 where no predictions could be used.
        correct: By run id, which images it classified correctly, shape (count,).
        mismatched: Runs whose labels are not those of most runs.
        inconsistent: Runs whose predictions do not give their logged test accuracy.
    """

    count: int
    correct: Mapping[str, NDArray[np.bool_]]
    mismatched: tuple[TrainingRun, ...] = ()
    inconsistent: tuple[TrainingRun, ...] = ()

    __test__ = False  # keeps pytest from collecting the class by its name

    def of(self, group: Group) -> NDArray[np.bool_]:
        """Return which images the runs of a group classified correctly: (usable runs, count)."""
        rows = [self.correct[run.run_id] for run in group.runs if run.run_id in self.correct]
        return np.array(rows, dtype=bool).reshape(len(rows), self.count)


def match_images(groups: Sequence[Group], details: Mapping[str, RunDetails]) -> TestImages:
    """Check the runs' predictions against each other; those that do not fit are left out.

    Args:
        groups: Groups on the same data.
        details: By run id; some may be missing.
    """
    usable: list[tuple[TrainingRun, Predictions]] = []
    inconsistent = []
    for run in (run for group in groups for run in group.runs):
        predictions = details[run.run_id].predictions if run.run_id in details else None
        if predictions is None or not len(predictions.label):
            continue
        accuracy = run.metrics.get(keys.TEST_ACCURACY)
        if accuracy is None or abs(predictions.correct.mean() - accuracy) > _SAME_ACCURACY:
            inconsistent.append(run)
        else:
            usable.append((run, predictions))
    if not usable:
        return TestImages(0, {}, inconsistent=tuple(inconsistent))
    labels = [np.ascontiguousarray(each.label, dtype=np.int64).tobytes() for _, each in usable]
    ((most, _),) = Counter(labels).most_common(1)
    fitting = [pair for pair, label in zip(usable, labels, strict=True) if label == most]
    return TestImages(
        count=len(fitting[0][1].label),
        correct={run.run_id: predictions.correct for run, predictions in fitting},
        mismatched=tuple(
            run for (run, _), label in zip(usable, labels, strict=True) if label != most
        ),
        inconsistent=tuple(inconsistent),
    )
