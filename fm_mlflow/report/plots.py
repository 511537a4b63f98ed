"""Plots of a training run, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fm_mlflow import keys

# Okabe and Ito's palette: told apart by colour-blind readers.
_TRAINING, _VALIDATION = "#0072B2", "#D55E00"
_DPI = 150
_MOST_CLASSES_WITH_NUMBERS = 25


def save_learning_curve(history: Mapping[str, Sequence[float]], title: str, path: Path) -> None:
    """Plot loss and, where the model reports it, accuracy by epoch.

    Args:
        history: One value an epoch for each metric, by logged name.
        title: Shown above the plots.
        path: PNG file to write.
    """
    panels = [
        (label, training, validation)
        for label, training, validation in (
            ("loss", keys.LOSS, keys.VAL_LOSS),
            ("accuracy", keys.ACCURACY, keys.VAL_ACCURACY),
        )
        if training in history or validation in history
    ]
    figure = Figure(figsize=(4.5 * len(panels), 3.6), layout="constrained")
    figure.suptitle(title, parse_math=False)
    for index, (label, training, validation) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), index)
        for name, text, colour, marker in (
            (training, "training", _TRAINING, "o"),
            (validation, "validation", _VALIDATION, "s"),
        ):
            if values := history.get(name):
                axes.plot(
                    range(1, len(values) + 1), values, color=colour, marker=marker, label=text
                )
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=_DPI)


def save_confusion_matrix(
    labels: NDArray[np.integer],
    predicted: NDArray[np.integer],
    class_names: Sequence[str],
    title: str,
    path: Path,
) -> None:
    """Plot how many test images of each class were taken for which.

    Args:
        labels: True class numbers, shape (n,).
        predicted: Predicted class numbers, shape (n,).
        class_names: One name a class, in label order.
        title: Shown above the matrix.
        path: PNG file to write.
    """
    counts = confusion_counts(labels, predicted, len(class_names))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    readable = len(class_names) <= _MOST_CLASSES_WITH_NUMBERS
    side = max(5.0, 1.5 + 0.6 * min(len(class_names), _MOST_CLASSES_WITH_NUMBERS))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if readable:
        ticks = range(len(class_names))
        axes.set_xticks(ticks, class_names, rotation=45, ha="right")
        axes.set_yticks(ticks, class_names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(title, parse_math=False)
    for row, column in np.argwhere(counts > 0) if readable else ():
        axes.text(
            column,
            row,
            str(counts[row, column]),
            ha="center",
            va="center",
            fontsize=8,
            color="white" if shares[row, column] > 0.5 else "black",
        )
    figure.savefig(path, dpi=_DPI)


def confusion_counts(
    labels: NDArray[np.integer], predicted: NDArray[np.integer], classes: int
) -> NDArray[np.int64]:
    """Count test images by true (row) and predicted (column) class, shape (classes, classes)."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts
