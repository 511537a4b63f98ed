"""A comparison as a data frame, and results as plain values."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from fm_mlflow import CompareResult, keys
from fm_mlflow.analysis.comparison import Comparison, Statistic
from fm_mlflow.results.predict import PredictResult
from fm_mlflow.results.recovery import ReconcileResult, RunningRun, Verdict
from tests.report import comparisons


def result(comparison: Comparison) -> CompareResult:
    return CompareResult("0" * 32, "1", "sqlite:///mlflow.db", "", {}, comparison)


def test_a_comparison_has_a_row_a_model_and_says_what_was_decided() -> None:
    comparison = comparisons.comparison()
    frame = result(comparison).to_frame()
    assert list(frame.index) == [group.name for group in comparison.groups]
    assert list(frame["runs"]) == [len(group.runs) for group in comparison.groups]
    assert list(frame.index[frame["best"]]) == [comparison.best.model]
    assert list(frame.index[frame["contender"]]) == list(comparison.best.contenders)
    (front,) = (each for each in comparison.fronts if each.metric == comparison.best.cost)
    assert set(frame.index[frame["on_front"]]) == set(front.on_front)
    assert frame["ranked"].all()
    assert frame["params.epochs"].dtype == "Int64"
    assert (frame["params.epochs"] == 5).all()


def test_each_metric_has_mean_deviation_and_interval() -> None:
    comparison = comparisons.many(groups=20)
    frame = result(comparison).to_frame()
    for group in comparison.groups:
        for metric, statistic in group.metrics.items():
            row = frame.loc[group.name]
            assert row[metric] == statistic.mean
            assert row[f"{metric}_n"] == statistic.n
            for what in ("sd", "ci_low", "ci_high"):
                value = getattr(statistic, what)
                assert row[f"{metric}_{what}"] == value or value is None
    assert frame["test_accuracy_n"].dtype == "Int64"
    assert frame["test_accuracy_sd"].dtype == "float64"


def test_what_was_not_measured_is_missing() -> None:
    whole, bare = comparisons.group("cnn"), comparisons.group("mlp")
    metrics = dict(bare.metrics)
    del metrics[keys.SIZE_H5]
    frame = result(comparisons.comparison(whole, replace(bare, metrics=metrics))).to_frame()
    columns = [keys.SIZE_H5, f"{keys.SIZE_H5}_n", f"{keys.SIZE_H5}_sd"]
    assert frame.loc[bare.name, columns].isna().all()
    assert frame.loc[whole.name, columns].notna().all()


def test_a_comparison_of_nothing_has_the_columns_and_no_row() -> None:
    frame = result(comparisons.empty()).to_frame()
    assert len(frame) == 0
    assert frame["best"].dtype == "bool"


def test_metrics_called_as_other_columns_are_not_lost() -> None:
    made = comparisons.group("cnn")
    one = Statistic(1, 1.5, None, None, None, (1.5,))
    metrics = {
        **made.metrics,
        "runs": one,
        "loss": replace(one, sd=0.1),
        "loss_sd": replace(one, mean=2.5),
    }
    frame = result(comparisons.comparison(replace(made, metrics=metrics))).to_frame()
    row = frame.loc[made.name]
    assert (row["runs"], row["metrics.runs"]) == (len(made.runs), 1.5)
    assert (row["loss"], row["loss_sd"]) == (1.5, 2.5)


@pytest.mark.parametrize(
    ("made", "plain"),
    [
        (
            PredictResult(None, "models:/m", "p.csv", 4, 2.0, {"Bag": 4}),
            {"run_id": None, "counts": {"Bag": 4}, "images_per_second": 2.0},
        ),
        (
            ReconcileResult([], [RunningRun("r", "n", Verdict.DEAD, "gone", 1)], [], []),
            {
                "closed": [
                    {
                        "run_id": "r",
                        "name": "n",
                        "verdict": "dead",
                        "reason": "gone",
                        "last_seen": 1,
                    }
                ]
            },
        ),
    ],
)
def test_results_are_plain_values(made: Any, plain: dict[str, Any]) -> None:
    found = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert found.items() >= plain.items()


def test_what_is_no_finite_number_is_null() -> None:
    made = PredictResult(None, "models:/m", "p.csv", 4, float("inf"), {})
    assert made.to_dict()["seconds"] is None
