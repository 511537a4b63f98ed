"""Bounds and the comparison with the champion, on chosen figures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fm_mlflow import keys
from fm_mlflow.config import RegisterConfig
from fm_mlflow.registration.gates import (
    Contender,
    accuracy_difference,
    check_bounds,
    check_champion,
)
from fm_mlflow.results.register import Gate

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
    cheaper = replace(CNN, accuracy=0.8860, cost=1e6)
    assert against(cheaper, CNN) == [True, True]
    assert against(replace(cheaper, cost=CNN.cost), CNN) == [True, False]
    assert against(replace(cheaper, cost=None), CNN) == [True, False]


def test_less_accurate_than_the_tolerance_allows() -> None:
    assert against(MLP, CNN) == [False, True]
    assert against(MLP, CNN, tolerance=0.02) == [True, True]


def test_with_several_seeds_the_interval_decides() -> None:
    champion = replace(CNN, seed_accuracies=(0.8904, 0.8880, 0.8912))
    # By hand: means 0.88987 and 0.88867, standard errors 0.000962 and 0.001167, Welch's 3.86
    # degrees of freedom, t 2.817: -0.0012 +- 0.00426.
    candidate = replace(CNN, seed_accuracies=(0.8890, 0.8865, 0.8905), cost=1e6)
    found = accuracy_difference(candidate, champion)
    assert found.value == pytest.approx(-0.0012)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((-0.00546, 0.00306), abs=2e-5)
    assert against(candidate, champion, tolerance=0.005) == [False, True]
    assert against(candidate, champion, tolerance=0.006) == [True, True]


def test_what_other_runs_logged_does_not_make_up_for_the_model_itself() -> None:
    champion = replace(CNN, seed_accuracies=(0.8904, 0.8880, 0.8912))
    candidate = replace(CNN, accuracy=0.3, seed_accuracies=(0.3, *[1.0] * 200))
    accuracy, _ = check_champion(
        candidate, champion, version=3, tolerance=0.005, cost=keys.FLOPS_INFERENCE
    )
    assert not accuracy.passed
    assert accuracy.figure.endswith("(201 v 3 seeds); these two: -59.04 points")


def test_seeds_of_one_configuration_are_single_runs() -> None:
    seeds = (0.8904, 0.8880, 0.8912)
    champion, candidate = (
        replace(CNN, accuracy=accuracy, seed_accuracies=seeds) for accuracy in (0.8904, 0.8912)
    )
    found = accuracy_difference(candidate, champion)
    assert found.value == pytest.approx(0.0008)
    assert (found.interval, found.basis) == (None, "one run each")
    assert against(candidate, champion) == [True, True]


def test_other_data_cannot_be_compared() -> None:
    assert against(CNN, replace(MLP, data_digest="other")) == [False]
    assert against(CNN, replace(MLP, accuracy=None)) == [False]
