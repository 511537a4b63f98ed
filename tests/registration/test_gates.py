"""Bounds and the comparison with the champion, on chosen figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fm_mlflow import keys
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.statistics.differences import DifferenceInterval
from fm_mlflow.analysis.statistics.intervals import Interval
from fm_mlflow.registration.gates import (
    Contender,
    check_bounds,
    check_champion,
    metric_difference,
)
from fm_mlflow.results.register import Gate
from fm_mlflow.settings.registered import RegisterConfig

MLP = Contender(0.8705, 469_948, (), "d")
CNN = Contender(0.8904, 1_442_332, (), "d")


def passed(gates: list[Gate]) -> dict[str, bool]:
    return {gate.name: gate.passed for gate in gates}


def test_no_bound_no_gate() -> None:
    assert check_bounds(RegisterConfig(), {}) == []


@pytest.mark.parametrize(
    ("bound", "metric", "holds", "breaks"),
    [
        ("min_accuracy", keys.TEST_ACCURACY, 0.9, 0.8999),
        ("max_flops", keys.FLOPS_INFERENCE, 0.9, 0.9001),
        ("max_peak_rss_mib", keys.MEMORY_PEAK, 0.9, 0.9001),
        ("max_latency_ms", keys.LATENCY_P50, 0.9, 0.9001),
        ("max_size_mib", keys.SIZE_INFERENCE, 0.9, 0.9001),
    ],
)
def test_each_bound(bound: str, metric: str, holds: float, breaks: float) -> None:
    config = RegisterConfig(**{bound: 0.9})
    option = f"--{bound.replace('_', '-')}"
    assert passed(check_bounds(config, {metric: holds})) == {option: True}
    assert passed(check_bounds(config, {metric: breaks})) == {option: False}
    (missing,) = check_bounds(config, {})
    assert (missing.passed, missing.figure) == (False, "not measured")
    asked = metric not in (keys.TEST_ACCURACY, keys.MEMORY_PEAK)
    assert missing.by == ("model" if asked else "us")


def against(candidate: Contender, champion: Contender, tolerance: float = 0.005) -> list[bool]:
    """Whether the accuracy and the gain pass."""
    gates = check_champion(
        candidate, champion, version=3, tolerance=tolerance, cost=keys.FLOPS_INFERENCE
    )
    return [gate.passed for gate in gates]


def test_more_accurate_is_enough_and_so_is_cheaper() -> None:
    assert against(CNN, MLP) == [True, True]
    cheaper = replace(CNN, value=0.8860, cost=1e6)
    assert against(cheaper, CNN) == [True, True]
    assert against(replace(cheaper, cost=CNN.cost), CNN) == [True, False]
    assert against(replace(cheaper, cost=None), CNN) == [True, False]


def test_less_accurate_than_the_tolerance_allows() -> None:
    assert against(MLP, CNN) == [False, True]
    assert against(MLP, CNN, tolerance=0.02) == [True, True]


def test_with_several_seeds_the_interval_decides() -> None:
    champion = replace(CNN, seed_values=(0.8904, 0.8880, 0.8912))
    # By hand: means 0.88987 and 0.88867, standard errors 0.000962 and 0.001167, Welch's 3.86
    # degrees of freedom, t 2.817: -0.0012 +- 0.00426.
    candidate = replace(CNN, seed_values=(0.8890, 0.8865, 0.8905), cost=1e6)
    found = metric_difference(candidate, champion)
    assert found.value == pytest.approx(-0.0012)
    assert found.interval is not None
    assert (found.interval.interval.low, found.interval.interval.high) == pytest.approx(
        (-0.00546, 0.00306), abs=2e-5
    )
    assert against(candidate, champion, tolerance=0.005) == [False, True]
    assert against(candidate, champion, tolerance=0.006) == [True, True]


def test_where_test_images_count_the_gate_is_stricter() -> None:
    champion = replace(CNN, seed_values=(0.8904, 0.8880, 0.8912))
    candidate = replace(CNN, seed_values=(0.8890, 0.8865, 0.8905), cost=1e6)
    wider = DifferenceInterval(Interval(-0.02, 0.018), "", 0.9, True, -0.0012, 0.008, 20.0)
    accuracy, _ = check_champion(
        candidate,
        champion,
        version=3,
        tolerance=0.006,
        cost=keys.FLOPS_INFERENCE,
        over_examples=wider,
    )
    assert not accuracy.passed
    assert "95% -2.00 to +1.80 (3 v 3 seeds)" in accuracy.figure


def test_what_other_runs_logged_does_not_make_up_for_the_model_itself() -> None:
    champion = replace(CNN, seed_values=(0.8904, 0.8880, 0.8912))
    candidate = replace(CNN, value=0.3, seed_values=(0.3, *[1.0] * 200))
    accuracy, _ = check_champion(
        candidate, champion, version=3, tolerance=0.005, cost=keys.FLOPS_INFERENCE
    )
    assert not accuracy.passed
    assert accuracy.figure.endswith("(201 v 3 seeds); these two: -59.04 points")


def test_seeds_of_one_configuration_are_single_runs() -> None:
    seeds = (0.8904, 0.8880, 0.8912)
    champion, candidate = (
        replace(CNN, value=accuracy, seed_values=seeds) for accuracy in (0.8904, 0.8912)
    )
    found = metric_difference(candidate, champion)
    assert found.value == pytest.approx(0.0008)
    assert (found.interval, found.basis) == (None, "one run each")
    assert against(candidate, champion) == [True, True]


def needed(candidate: Contender, champion: Contender, **more: Any) -> list[str]:
    """What each gate would pass with."""
    gates = check_champion(
        *(candidate, champion),
        **{"version": 3, "tolerance": 0.005, "cost": keys.FLOPS_INFERENCE, **more},
    )
    assert [bool(gate.needed) for gate in gates] == [not gate.passed for gate in gates]
    return [gate.needed for gate in gates]


def test_what_two_seeds_cannot_show_is_not_asked_of_them() -> None:
    champion = replace(CNN, value=0.9, seed_values=(0.9, 0.5))
    few = replace(CNN, value=0.9, seed_values=(0.9, 0.6))
    accuracy, _ = check_champion(
        few, champion, version=3, tolerance=0.005, cost=keys.FLOPS_INFERENCE
    )
    assert "+5.00 points, 95% -100.00 to +100.00 (2 v 2 seeds)" in accuracy.figure
    assert accuracy.needed == "more seeds, which narrow the interval"
    worse = replace(few, seed_values=(0.9, 0.1))
    assert needed(worse, champion)[0] == (
        "a more accurate mean over seeds, and more seeds, which narrow the interval"
    )


def test_a_change_that_is_to_change_no_result_need_not_gain() -> None:
    same = replace(CNN, value=0.8890)
    assert needed(same, CNN)[1].startswith(
        "test accuracy above 0.8904, or flops/inference below 1,442,332; a change that is to change"
    )
    assert needed(same, CNN, has_to_gain=False) == [""]
    worse = replace(CNN, value=0.8800)
    assert needed(worse, CNN, has_to_gain=False) == [
        "test accuracy of this run at least 0.8854 (it is 0.8800)"
    ]


def test_what_seeds_would_have_to_show() -> None:
    champion = replace(CNN, seed_values=(0.8904, 0.8880, 0.8912))
    candidate = replace(CNN, value=0.8890, seed_values=(0.8890, 0.8865, 0.8905))
    # By hand: the lower end of the interval is -0.00546, so the mean of 0.8887 lacks 0.00046.
    accuracy, gain = needed(candidate, champion)
    assert accuracy == (
        "a mean over seeds of at least 0.8891, as they vary (it is 0.8887), or more seeds, which "
        "narrow the interval"
    )
    assert gain == "a mean test accuracy above 0.8899, or flops/inference below 1,442,332"
    # More seeds do not help what is worse by more than the tolerance.
    poor = replace(candidate, value=0.8790, seed_values=(0.8790, 0.8765, 0.8805))
    assert needed(poor, champion)[0] == (
        "a mean over seeds of at least 0.8891, as they vary (it is 0.8787); and test accuracy of "
        "this run at least 0.8854 (it is 0.8790)"
    )


def test_what_an_error_would_have_to_be() -> None:
    worse = replace(GOOD, value=2.1)
    assert needed(worse, GOOD, objective=MAE) == [
        "val_mae of this run at most 2.010 (it is 2.100)",
        "val_mae below 2.000, or flops/inference below 10",  # not-worse would refuse it, too
    ]


def test_what_a_bound_asks_for() -> None:
    config = RegisterConfig(min_accuracy=0.9, max_flops=1000)
    gates = check_bounds(config, {keys.TEST_ACCURACY: 0.88})
    assert [gate.needed for gate in gates] == [
        "test accuracy at least 0.9 (it is 0.8800)",
        "FLOPs per prediction at most 1,000 (it is not measured)",
    ]
    kept = check_bounds(config, {keys.TEST_ACCURACY: 0.9, keys.FLOPS_INFERENCE: 1000})
    assert [gate.needed for gate in kept] == ["", ""]


def test_other_data_cannot_be_compared() -> None:
    assert against(CNN, replace(MLP, data_digest="other")) == [False]
    assert against(CNN, replace(MLP, value=None)) == [False]


MAE = Objective("val_mae", smaller_is_better=True)
GOOD, BAD = Contender(2.0, 10.0, (), "d"), Contender(3.0, 5.0, (), "d")


@pytest.mark.parametrize(
    ("metric", "smaller", "bound", "holds", "breaks", "demanded"),
    [
        ("val_mae", False, 0.5, 0.5, 0.5001, "at most 0.5"),  # its name says so
        ("profit", False, 0.5, 0.5, 0.4999, "at least 0.5"),
        ("profit", True, -0.5, -0.5, -0.4999, "at most -0.5"),
    ],
)
def test_the_bound_of_a_metric(
    metric: str, smaller: bool, bound: float, holds: float, breaks: float, demanded: str
) -> None:
    config = RegisterConfig(metric=metric, smaller_is_better=smaller, min_metric=bound)
    objective = Objective.of(config)
    (gate,) = check_bounds(config, {metric: holds}, objective)
    name = f"{metric} (--min-metric)"
    assert (gate.name, gate.bound, gate.passed) == (name, demanded, True)
    assert passed(check_bounds(config, {metric: breaks}, objective)) == {name: False}
    assert passed(check_bounds(config, {}, objective)) == {name: False}


def by_mae(candidate: Contender, champion: Contender, tolerance: float = 0.005) -> list[Gate]:
    return check_champion(
        *(candidate, champion),
        version=3,
        tolerance=tolerance,
        cost=keys.FLOPS_INFERENCE,
        objective=MAE,
    )


def test_less_error_is_better_than_the_champion() -> None:
    better, gain = by_mae(GOOD, BAD)
    assert (better.passed, gain.passed) == (True, True)
    assert (better.name, better.bound) == (
        "val_mae v version 3",
        "not above it by more than 0.5% of it",
    )
    assert better.figure == "-1.000 (one run each)"
    assert gain.bound == "better, or lower flops/inference"
    assert [gate.passed for gate in by_mae(BAD, GOOD)] == [False, True]
    assert [gate.passed for gate in by_mae(replace(BAD, cost=20.0), GOOD)] == [False, False]


def test_the_tolerance_is_a_share_of_the_champions_error() -> None:
    worse = replace(GOOD, value=2.01, cost=1.0)
    assert [gate.passed for gate in by_mae(worse, GOOD, tolerance=0.006)] == [True, True]
    assert [gate.passed for gate in by_mae(worse, GOOD, tolerance=0.004)] == [False, True]


def test_of_several_seeds_the_worse_end_decides() -> None:
    champion = replace(GOOD, seed_values=(2.0, 2.1, 1.9))
    candidate = replace(GOOD, value=1.9, seed_values=(1.9, 2.0, 1.8), cost=1.0)
    # Welch: -0.1 +- 2.776 x 0.0816.
    assert [gate.passed for gate in by_mae(candidate, champion, tolerance=0.05)] == [False, True]
    assert [gate.passed for gate in by_mae(candidate, champion, tolerance=0.07)] == [True, True]
    (gate, _) = by_mae(candidate, champion)
    assert gate.figure.endswith("95% -0.3267 to +0.1267 (3 v 3 seeds)")
