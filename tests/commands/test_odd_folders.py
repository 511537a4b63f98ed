"""Folders of any name: where a training works, its models, its journal, its report."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pytest

from fm_mlflow import compare, predict, train
from tests.stores import Store, active_store, make_store
from tests.trained import DIGITS

ODD = "a b#c?d é+x&'y"
MODEL = """
import keras

def build():
    layers = [keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")]
    return keras.Sequential(layers)
"""


def test_train_compare_and_predict(
    store_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, models, journals = (tmp_path / name for name in (ODD, "m%20m", "j%2Fj"))
    here.mkdir()
    models.mkdir()
    (models / "one_layer.py").write_text(MODEL)
    monkeypatch.chdir(here)
    monkeypatch.setenv("FM_MLFLOW_JOURNAL_DIR", str(journals))
    make_store(store_template, here)
    with active_store(Store("sqlite:///mlflow.db", here)):
        result = train(f"{models}/one_layer.py:build", **{**DIGITS, "epochs": 1})
        assert result.pending == ""
        assert compare(output="the report").comparison.best.run_id == result.run_id
        np.save("images.npy", np.zeros((2, 28, 28), np.uint8))
        predict(model=result.model_uri, input="images.npy", output="classes.csv")
        (saved,) = mlflow.search_logged_models(output_format="list")
    assert (here / "the report" / "report.html").is_file()
    assert len((here / "classes.csv").read_text().splitlines()) == 3
    assert Path(saved.artifact_location).relative_to(here)
    assert (Path(saved.artifact_location) / "MLmodel").is_file()
    assert [each.name for each in journals.iterdir()] == []
