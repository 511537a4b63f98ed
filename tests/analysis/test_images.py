"""Counts of test images by true and predicted class."""

from __future__ import annotations

import numpy as np

from fm_mlflow.analysis.images import confusion_counts


def test_counts() -> None:
    labels, predicted = np.array([0, 0, 1, 2], np.uint8), np.array([0, 1, 1, 0])
    assert confusion_counts(labels, predicted, 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_the_last_classes_of_many_are_counted() -> None:
    # Their cell's number, 39,999, does not fit into a byte, nor into the labels' type.
    last = np.array([199], np.uint8)
    assert confusion_counts(last, last, 200)[199, 199] == 1
