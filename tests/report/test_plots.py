"""Plots stay within bounds, whatever the data and the names are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fm_mlflow.report.plots import save_confusion_matrix, save_learning_curve


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
