"""What a metric's name says: which direction is better, and what it is a mean of."""

from __future__ import annotations

import numpy as np
import pytest

from fm_mlflow import InputError, keys
from fm_mlflow.analysis.objective import DEFAULT, Objective, Quantity
from fm_mlflow.settings.base import parse
from fm_mlflow.settings.selection import Choice, CompareConfig


@pytest.mark.parametrize(
    ("metric", "smaller", "known_by"),
    [
        ("test_mae", True, "by its name"),
        ("val_loss", True, "by its name"),
        ("mean_absolute_percentage_error", True, "by its name"),
        ("eval/rmse_2", True, "by its name"),
        ("log-loss", True, "by its name"),
        ("val_accuracy", False, "by its name"),
        ("f1", False, "by its name"),
        ("test_lossless", False, "by default"),
        ("profit", False, "by default"),
        ("überfehler", False, "by default"),
        ("!", False, "by default"),
    ],
)
def test_the_direction_is_read_off_the_name(metric: str, smaller: bool, known_by: str) -> None:
    objective = Objective.of(Choice(metric=metric))
    assert (objective.smaller_is_better, objective.known_by) == (smaller, known_by)
    assert not objective.contradicts


def test_what_is_asked_for_counts_and_a_contradiction_is_known() -> None:
    asked = Objective.of(Choice(metric="test_mae", larger_is_better=True))
    assert not asked.smaller_is_better
    assert asked.contradicts
    assert Objective.of(Choice(metric=keys.TEST_ACCURACY, smaller_is_better=True)).contradicts
    agreed = Objective.of(Choice(metric="test_mae", smaller_is_better=True))
    assert (agreed.smaller_is_better, agreed.contradicts) == (True, False)
    assert not Objective.of(Choice(metric="profit", smaller_is_better=True)).contradicts


def test_the_default_is_more_test_accuracy() -> None:
    assert Objective.of(Choice()) == DEFAULT
    assert DEFAULT.is_accuracy
    assert DEFAULT.options == ()
    assert Objective.of(Choice(metric="a b")).options == ("--metric", "'a b'", "--larger-is-better")


@pytest.mark.parametrize(
    ("settings", "parameter"),
    [
        ({"smaller_is_better": True, "larger_is_better": "true"}, "larger_is_better"),
        ({"metric": ""}, "metric"),
        ({"metric": " "}, "metric"),
        ({"metric": "m" * 251}, "metric"),
        ({"metric": "latency/p50_ms"}, "metric"),
        ({"metric": "test_mae", "target_accuracy": 0.9}, "target_accuracy"),
        ({"target": 0.9, "target_accuracy": 0.9}, "target"),
        ({"metric": "test_mae", "target": "low"}, "target"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, object], parameter: str) -> None:
    with pytest.raises(InputError, match=rf"^{parameter}: received"):
        parse(CompareConfig, settings)


@pytest.mark.parametrize(
    ("metric", "loss", "quantity"),
    [
        ("test_accuracy", "", "correct"),
        ("test_sparse_categorical_accuracy", "", "correct"),
        ("test_sparse_top_k_categorical_accuracy", "", None),
        ("test_top5_accuracy", "", None),
        ("test_mae", "", "absolute error"),
        ("val_mean_absolute_error", "", "absolute error"),
        ("price_mae", "", "absolute error"),
        ("test_mean_absolute_percentage_error", "", None),
        ("test_mse", "", "squared error"),
        ("rmse", "", "squared error"),
        ("test_root_mean_squared_error", "", "squared error"),
        ("test_mean_squared_logarithmic_error", "", None),
        ("normse", "", None),
        ("test_loss", "mse", "squared error"),
        ("test_loss", "mean_absolute_error", "absolute error"),
        ("test_loss", "sparse_categorical_crossentropy (from logits)", "cross-entropy"),
        ("test_loss", "huber", None),
        ("test_loss", "", None),
        ("test_auc", "", None),
    ],
)
def test_what_a_metric_is_the_mean_of(metric: str, loss: str, quantity: Quantity | None) -> None:
    assert Objective(metric).quantity({"loss": loss}) == quantity


def test_a_root_is_taken_of_the_mean() -> None:
    rmse, mse = Objective("test_rmse", True), Objective("test_mean_squared_error", True)
    assert rmse.of_means(np.array([4.0, 9.0])).tolist() == [2.0, 3.0]
    assert rmse.slope(4.0) == pytest.approx((4.0001**0.5 - 3.9999**0.5) / 0.0002)
    assert mse.of_means(np.array([4.0])).tolist() == [4.0]
    assert (mse.slope(4.0), rmse.slope(0.0)) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("metric", "validation"),
    [
        ("test_accuracy", "val_accuracy"),
        ("test_mae", "val_mae"),
        ("val_mae", "val_mae"),
        ("mae", "val_mae"),
        ("test_", "val_test_"),
    ],
)
def test_the_same_metric_in_validation(metric: str, validation: str) -> None:
    assert Objective(metric).validation == validation
