"""What a sweep recommends: a change only where the proof of fresh seeds gives a reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Comparison
from fm_mlflow.jobs.recommendation import compared_with_default, recommend
from fm_mlflow.results.sweep import Finalist
from fm_mlflow.settings.sweep import SweepConfig
from tests.analysis.simulated import compared, correctness, hardness, runs, with_predictions

FLOPS = str(keys.FLOPS_INFERENCE)
CONFIG = SweepConfig()


def proof(
    seeds: int = 5, /, **accuracies_and_costs: tuple[float, float]
) -> tuple[list[Finalist], Comparison]:
    """Return finalists by name, `default` the default, with the comparison of their seeds."""
    made: list[Any] = []
    for name, (accuracy, cost) in accuracies_and_costs.items():
        drawn = [accuracy + seed / 1000 for seed in range(seeds)]
        made += runs(name, drawn, metrics={FLOPS: cost})
    comparison = compared(made)
    finalists = [
        Finalist(
            *(name, None, name == "default", name, None, accuracy + 0.002, None, None, cost),
        )
        for name, (accuracy, cost) in accuracies_and_costs.items()
    ]
    return list(compared_with_default(finalists, comparison)), comparison


@pytest.mark.parametrize(
    ("finalists", "recommended", "said"),
    [
        ({"wide": (0.95, 200.0)}, "wide", "wide"),
        ({"wide": (0.95, 200.0), "wider": (0.97, 400.0)}, "wider", "wider"),
        ({"small": (0.90, 50.0)}, "small", "at 50% of the"),
        ({"small": (0.90, 50.0), "tiny": (0.90, 20.0)}, "tiny", "at 20% of the"),
        ({"small": (0.80, 50.0)}, "", "no finalist is better than the default"),
        ({"same": (0.90, 96.0)}, "", "none is as good at 5% less"),
    ],
)
def test_a_change_takes_a_reason(
    finalists: dict[str, tuple[float, float]], recommended: str, said: str
) -> None:
    found = recommend(*proof(default=(0.90, 100.0), **finalists), CONFIG)
    assert found[0] == recommended
    assert said in found[1]


def test_of_finalists_that_beat_a_default_beyond_its_bounds_the_best_is_taken() -> None:
    config = SweepConfig(max_flops=60.0)
    finalists = proof(default=(0.90, 100.0), small=(0.85, 50.0), tiny=(0.80, 20.0))
    recommended, reason = recommend(*finalists, config)
    assert recommended == "small"
    assert "the default exceeds a bound (FLOPs per prediction 100, at most 60)" in reason


def test_seeds_that_can_tell_nothing_apart_are_no_reason() -> None:
    finalists = proof(2, default=(0.90, 100.0), tiny=(0.70, 20.0))
    assert recommend(*finalists, CONFIG)[0] == ""


def test_without_a_default_the_comparison_chooses() -> None:
    recommended, _ = recommend(*proof(wide=(0.95, 200.0), small=(0.90, 50.0)), CONFIG)
    assert recommended == "wide"
    assert recommend([], proof(wide=(0.9, 1.0))[1], CONFIG)[0] == ""


def test_each_finalist_has_the_verdict_on_it_and_the_default() -> None:
    default, small = proof(default=(0.90, 100.0), small=(0.80, 50.0))[0]
    assert default.against_default == ""
    assert "default" in small.against_default
    assert small.flattered is None


def test_chance_alone_is_seldom_recommended() -> None:
    """Models that are the same: at most one change in eight, of which chance gives 1 in 20."""
    changes = 0
    generator = np.random.default_rng(7)
    for _ in range(8):
        level = 3.0 + hardness(generator, 500)
        tables = {
            name: correctness(generator, level, seeds=5, images=500)
            for name in ("default", "found")
        }
        everything, details = with_predictions(tables, metrics={FLOPS: 100.0})
        comparison = compared(everything, details)
        finalists = [
            Finalist(*(name, None, name == "default", name, None, 0.9, None, None, 100.0))
            for name in tables
        ]
        changes += bool(recommend(finalists, comparison, CONFIG)[0])
    assert changes <= 1
