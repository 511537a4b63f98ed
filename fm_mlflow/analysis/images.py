"""The test images: which of them each run classified correctly, and of which class they are."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import ByClass, Group
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
    labels = [_digest(each.label) for _, each in usable]
    ((most, _),) = Counter(labels).most_common(1)
    fitting = [pair for pair, label in zip(usable, labels, strict=True) if label == most]
    return TestImages(
        count=len(fitting[0][1].label),
        correct={run.run_id: predictions.correct for run, predictions in fitting},
        mismatched=tuple(r for (r, _), label in zip(usable, labels, strict=True) if label != most),
        inconsistent=tuple(inconsistent),
    )


def _digest(labels: NDArray[np.integer]) -> bytes:
    return hashlib.sha256(labels.astype(np.int64).tobytes()).digest()


def class_names(groups: Sequence[Group], details: Mapping[str, RunDetails]) -> tuple[str, ...]:
    """Return the classes' names in label order; numbers as text where no run says them."""
    known = [details[run.run_id] for group in groups for run in group.runs if run.run_id in details]
    count = 0
    for each in known:
        if each.predictions is not None and len(each.predictions.label):
            highest = max(each.predictions.label.max(), each.predictions.predicted.max())
            count = max(count, int(highest) + 1)
    names = next((each.class_names for each in known if each.class_names), ())
    return (*names, *(str(label) for label in range(len(names), count)))


def by_class(
    groups: Sequence[Group],
    details: Mapping[str, RunDetails],
    images: TestImages,
    classes: int,
) -> tuple[ByClass, ...]:
    """Count the test images of each group by true and predicted class, over its runs.

    Args:
        groups: Those to look at; one without predictions of the same images is left out.
        details: By run id.
        images: The runs' predictions, checked against each other.
        classes: Number of classes, at least the highest label + 1.
    """
    counted = []
    for group in groups:
        predictions = [
            predicted
            for run in group.runs
            if run.run_id in images.correct
            and (predicted := details[run.run_id].predictions) is not None
        ]
        if predictions:
            confusion = np.zeros((classes, classes), np.int64)
            for each in predictions:
                confusion += confusion_counts(each.label, each.predicted, classes)
            sizes = confusion.sum(axis=1)
            accuracy = tuple(
                int(confusion[label, label]) / int(sizes[label]) if sizes[label] else math.nan
                for label in range(classes)
            )
            rows = tuple(tuple(row) for row in confusion.tolist())
            counted.append(ByClass(group.name, len(predictions), accuracy, rows))
    return tuple(counted)


def confusion_counts(
    labels: NDArray[np.integer], predicted: NDArray[np.integer], classes: int
) -> NDArray[np.int64]:
    """Count test images by true (row) and predicted (column) class, shape (classes, classes)."""
    cells = labels.astype(np.int64) * classes + predicted
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)
