"""Plots of a training run, as PNG files; matplotlib is imported where something is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fm_mlflow import keys
from fm_mlflow.analysis.images import confusion_counts
from fm_mlflow.escaping import printable
from fm_mlflow.report.drawing import lay_out

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: colour-blind readers can distinguish it.
_TRAINING, _VALIDATION = "#0072B2", "#D55E00"
_LINES = (("training", _TRAINING, "o"), ("validation", _VALIDATION, "s"))
_DPI = 150
_MOST_CLASSES_WITH_NUMBERS = 25


def prepare() -> None:
    """Import what the plots need, and find the fonts, which takes half of the time of a first one.

    It may be called beside other work.
    """
    figure = _figure(1, 1)
    figure.suptitle("0")
    figure.add_subplot().set_xlabel("0")
    figure.draw_without_rendering()


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def save_learning_curve(history: Mapping[str, Sequence[float]], title: str, path: Path) -> None:
    """Plot loss and, where the model reports it, accuracy by epoch.

    Args:
        history: One value an epoch for each metric, by logged name.
        title: Shown above the plots.
        path: PNG file to write.
    """
    from matplotlib.ticker import MaxNLocator

    metrics = (("loss", keys.LOSS, keys.VAL_LOSS), ("accuracy", keys.ACCURACY, keys.VAL_ACCURACY))
    panels = [(label, names) for label, *names in metrics if not history.keys().isdisjoint(names)]
    figure = _figure(4.5 * len(panels), 3.6)
    figure.suptitle(printable(title), parse_math=False)
    for index, (label, names) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), index)
        for name, (text, colour, marker) in zip(names, _LINES, strict=True):
            if values := history.get(name):
                epochs = range(1, len(values) + 1)
                axes.plot(epochs, values, color=colour, marker=marker, label=text)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    lay_out(figure)
    figure.savefig(path)


def save_memory_timeline(
    points: Sequence[tuple[float, float, str]], peak_mib: float, title: str, path: Path
) -> None:
    """Plot resident memory over time, with the phases of the run and the peak marked.

    Args:
        points: Seconds, resident memory in MiB, phase; in order of time, at least one.
        peak_mib: The highest until the end of training; the points may have missed it.
        title: Shown above the plot.
        path: PNG file to write.
    """
    seconds, resident, _ = zip(*points, strict=True)
    figure = _figure(9, 4.2)
    figure.suptitle(printable(title), parse_math=False)
    axes = figure.add_subplot()
    axes.fill_between(seconds, resident, color=_TRAINING, alpha=0.15, linewidth=0)
    axes.plot(seconds, resident, color=_TRAINING)
    axes.axhline(peak_mib, color=_VALIDATION, linestyle="--", linewidth=1)
    axes.annotate(
        f"peak until the end of training: {peak_mib:,.0f} MiB",
        (seconds[0], peak_mib),
        (2, 3),
        textcoords="offset points",
        color=_VALIDATION,
    )
    axes.set_xlim(seconds[0], max(seconds[-1], seconds[0] + 0.001))
    axes.set_ylim(0, max(peak_mib, *resident) * 1.12)
    axes.set_xlabel("seconds")
    axes.set_ylabel("resident memory (MiB)")
    axes.grid(alpha=0.3)
    _mark_phases(axes, points)
    lay_out(figure)
    figure.savefig(path)


def _mark_phases(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Draw a line where each phase begins, and its name under the axes' top, below one another.

    Short phases' names would overlap on one line.
    """
    first, last = points[0][0], points[-1][0]
    named = groupby((point for point in points if point[2]), key=lambda point: point[2])
    starts = [(next(those)[0], phase) for phase, those in named]
    ends = [*(start for start, _ in starts[1:]), last]
    for index, ((start, phase), end) in enumerate(zip(starts, ends, strict=False)):
        axes.axvline(start, color="black", linewidth=0.8, alpha=0.5)
        # Near the right border there is no room to the right of the line.
        is_late = start - first > 0.85 * (last - first)
        axes.annotate(
            f"{phase} ({end - start:.1f} s)",
            (start, 0),
            (-4 if is_late else 4, 6 + 12 * (len(starts) - 1 - index)),
            textcoords="offset points",
            horizontalalignment="right" if is_late else "left",
            fontsize=8,
            bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1},
        )


def save_confusion_matrix(
    labels: NDArray[np.integer],
    predicted: NDArray[np.integer],
    class_names: Sequence[str],
    title: str,
    path: Path,
) -> None:
    """Plot the confusion matrix: test images by true and predicted class.

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
    figure = _figure(side, side)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if readable:
        ticks = range(len(class_names))
        names = [printable(name) for name in class_names]
        axes.set_xticks(ticks, names, rotation=45, ha="right", parse_math=False)
        axes.set_yticks(ticks, names, parse_math=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(printable(title), parse_math=False)
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
    lay_out(figure)
    figure.savefig(path)
