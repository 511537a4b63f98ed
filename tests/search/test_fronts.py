"""Fronts of metric and cost, finalists, hypervolume."""

from __future__ import annotations

import math
import random

import pytest

from fm_mlflow.search.fronts import dominates, front, hypervolume, ranks, thinned
from fm_mlflow.search.trials import Trial


def trial(number: int, value: float | None, cost: float | None) -> Trial:
    return Trial(number, {}, cost, {} if value is None else {1: value})


def test_ranks_peel_off_fronts() -> None:
    points = [(0.9, 10.0), (0.8, 5.0), (0.7, 7.0), (0.6, 8.0), (0.9, 10.0), (0.95, 20.0)]
    assert ranks(points) == [0, 0, 1, 2, 0, 0]


def test_the_front_holds_what_nothing_dominates_once() -> None:
    draw = random.Random(1)
    trials = [trial(at, draw.randrange(20) / 20, draw.randrange(1, 20)) for at in range(60)]
    found = front([*trials, trial(60, None, 1.0), trial(61, 0.5, None)])
    points = {(each.value, each.cost) for each in found}
    assert len(points) == len(found)
    for each in trials:
        assert each.value is not None
        assert each.cost is not None
        beaten = [other for other in points if dominates(other, (each.value, each.cost))]  # type: ignore[arg-type]
        assert bool(beaten) != ((each.value, each.cost) in points)
    assert [each.value for each in found] == sorted((p[0] for p in points), reverse=True)  # type: ignore[type-var]


def test_finalists_differ_or_are_cheaper() -> None:
    on_front = [trial(0, 0.90, 100), trial(1, 0.899, 97), trial(2, 0.898, 94), trial(3, 0.7, 93)]
    chosen = thinned(on_front, 4, lambda one, other: abs(one - other) > 0.05)
    assert [each.number for each in chosen] == [0, 2, 3]
    assert thinned(on_front, 0, lambda *_: True) == []


def test_of_too_many_finalists_the_best_and_the_widest_stay() -> None:
    on_front = [trial(at, 0.9 - at * 0.01, 100 / 2**at) for at in range(8)]
    chosen = [each.number for each in thinned(on_front, 3, lambda *_: True)]
    assert chosen[0] == 0
    assert len(chosen) == 3
    assert chosen[-1] >= 4


@pytest.mark.parametrize("points", [[], [(0.4, 5.0)], [(0.6, 20.0)]])
def test_what_is_worse_than_the_corner_covers_nothing(points: list[tuple[float, float]]) -> None:
    assert hypervolume(points, (0.5, 10.0)) == 0


def test_hypervolume_adds_what_each_covers() -> None:
    corner = (0.5, 10.0)
    assert hypervolume([(0.6, 1.0)], corner) == pytest.approx(0.1 * math.log(10))
    both = hypervolume([(0.6, 1.0), (0.7, 5.0), (0.55, 6.0)], corner)
    assert both == pytest.approx(0.1 * math.log(10) + 0.1 * math.log(2))
