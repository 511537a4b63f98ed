"""Which of a run's metrics decide: those of data that its model was not trained on."""

from __future__ import annotations

from collections import Counter

import pytest

from fm_mlflow.analysis.metric_choice import comparable, is_of_training, only_metric, suggested
from fm_mlflow.analysis.records import TrainingRun


def run(*metrics: str, version: str | None = "1") -> TrainingRun:
    return TrainingRun("r", "a", "a", {}, 0, dict.fromkeys(metrics, 0.5), version=version)


@pytest.mark.parametrize(
    ("metric", "logged", "is_training"),
    [
        ("mae", ("mae", "val_mae"), True),
        ("mae", ("mae", "test_mae"), True),
        ("user/size", ("user/size", "user/test_size"), True),
        ("loss", ("loss",), True),
        ("mae", ("mae", "val_mse"), False),  # a figure of somebody's own, say
        ("test_mae", ("test_mae", "val_test_mae"), False),
        ("val_mae", ("val_mae", "test_val_mae"), False),
    ],
)
def test_training_figures_are_known_by_their_twins(
    metric: str, logged: tuple[str, ...], is_training: bool
) -> None:
    assert is_of_training(metric, run(*logged)) is is_training


def test_of_other_software_a_loss_alone_may_be_of_any_data() -> None:
    assert not is_of_training("loss", run("loss", version=None))
    assert is_of_training("loss", run("loss", "val_loss", version=None))


def test_what_tells_most_comes_first() -> None:
    names = ["mae", "val_loss", "val_mae", "test_price_loss", "test_mae", "user/test_x", "size"]
    assert comparable([*names, "test_accuracy"]) == [
        *("test_accuracy", "test_mae", "user/test_x", "test_price_loss", "val_mae", "val_loss")
    ]


@pytest.mark.parametrize(
    ("runs", "only"),
    [
        ([run("test_mae", "test_loss", "val_rmse"), run("test_mae")], "test_mae"),
        ([run("test_loss", "val_mae")], "test_loss"),
        ([run("test_mae"), run("test_rmse")], None),
        ([run("val_mae", "mae")], None),
        ([], None),
        ([run("loss", "test_seconds")], None),
        ([run("test_mae", "test_seconds", "test_step_time", "test_p50_ms")], "test_mae"),
        ([run("test_quality", "test_loss")], None),  # is more or less of it better?
        ([run("test_f1", "test_loss"), run("test_loss")], "test_f1"),
    ],
)
def test_one_metric_alone_needs_no_choice(runs: list[TrainingRun], only: str | None) -> None:
    assert only_metric(runs) == only


def test_instead_of_a_training_figure_those_of_other_data_are_named() -> None:
    others = Counter(mae=3, val_mae=3, test_mae=2, score=3, epoch_seconds=3)
    assert suggested("mae", others) == "test_mae (2 runs), val_mae (3 runs)"
    assert suggested("test_f1", others) == "test_mae (2 runs), val_mae (3 runs), score (3 runs)"
