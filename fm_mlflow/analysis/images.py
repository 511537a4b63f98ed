"""The test images by class: names, and how each group classified them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fm_mlflow.analysis.comparison import ByClass, Group
from fm_mlflow.analysis.examples import TestExamples
from fm_mlflow.analysis.records import RunDetails


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
    images: TestExamples,
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
            if run.run_id in images.values
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
