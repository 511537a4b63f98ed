"""Plots stay within bounds, whatever the data and the names are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from fm_mlflow.report import vector_plots
from fm_mlflow.report.plots import save_confusion_matrix, save_learning_curve
from tests.report import comparisons


@pytest.mark.thorough
@pytest.mark.parametrize("classes", [2, 10, 200])
def test_the_matrix_stays_within_bounds(tmp_path: Path, classes: int) -> None:
    labels = np.arange(classes)
    path = tmp_path / "matrix.png"
    names = [f"{n} $^$ \n" for n in labels]
    save_confusion_matrix(labels, labels, names, "p$^$.py:build", path)
    with Image.open(path) as image:
        assert 500 < max(image.size) < 3000


def test_a_name_is_no_formula(tmp_path: Path) -> None:
    path = tmp_path / "curve.png"
    save_learning_curve({"loss": [1.0, 0.5], "val_loss": [1.0, 0.6]}, "p$^$.py:build", path)
    with Image.open(path) as image:
        assert image.width > 400


def test_a_mean_is_drawn_as_far_as_all_seeds_go() -> None:
    cnn = comparisons.group("cnn", seeds=2)
    short, long = ({"val_loss": [(step, 1.0) for step in range(1, n + 1)]} for n in (2, 4))
    made = comparisons.comparison(replace(cnn, curves=(short, long)))
    (plot,) = vector_plots.learning_curves(made)
    assert "ending at 1.0000, after 2 to 4 epochs." in plot.svg
    axes = Figure().add_subplot()
    vector_plots._draw_curves(axes, [short["val_loss"], long["val_loss"]], 0)
    drawn = [list(np.ravel(line.get_xdata())) for line in axes.lines]
    assert drawn == [[1, 2], [1, 2, 3, 4], [1, 2]]
