"""Fronts of a metric and a cost: ranks, the front, its spread, the hypervolume."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from fm_mlflow.search.trials import Trial

Point = tuple[float, float]
"""A metric of which more is better, and a cost of which less is better."""

_WORTH_WHILE = 0.05
"""By what share a finalist must be cheaper than another that is as good."""


def dominates(one: Point, other: Point) -> bool:
    """Tell whether one is as good and as cheap as the other, and not the same."""
    return one[0] >= other[0] and one[1] <= other[1] and one != other


def ranks(points: Sequence[Point]) -> list[int]:
    """Return 0 for points on the front, 1 for those on the front of the others, and so on."""
    found = [-1] * len(points)
    rank = 0
    while left := [at for at, each in enumerate(found) if each < 0]:
        for at in left:
            if not any(dominates(points[other], points[at]) for other in left):
                found[at] = rank
        rank += 1
    return found


def front(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that no other dominates, the best metric first; of equals the first."""
    known = [(trial, point_of(trial)) for trial in trials]
    points = {trial.number: point for trial, point in known if point is not None}
    kept: dict[Point, Trial] = {}
    for trial in trials:
        point = points.get(trial.number)
        if point and not any(dominates(other, point) for other in points.values()):
            kept.setdefault(point, trial)
    return [kept[point] for point in sorted(kept, key=lambda point: (-point[0], point[1]))]


def point_of(trial: Trial) -> Point | None:
    """Return the metric and the cost of a trial; None where one is not known."""
    if trial.value is None or trial.cost is None:
        return None
    return trial.value, trial.cost


def thinned(
    trials: Sequence[Trial], most: int, is_distinguishable: Callable[[float, float], bool]
) -> list[Trial]:
    """Return the finalists of a front: few, each of which could win.

    From the best metric on, the next one counts if it is distinguishable from the last that
    counted, or at least 5% cheaper. Of too many, those that cover the most hypervolume stay.

    Args:
        trials: A front, the best metric first.
        most: How many at most.
        is_distinguishable: Whether two values of the metric are apart by more than chance.
    """
    kept: list[tuple[Trial, Point]] = []
    for trial in trials:
        point = point_of(trial)
        if point is None:
            continue
        if not kept or (
            point[1] <= (1 - _WORTH_WHILE) * kept[-1][1][1]
            or is_distinguishable(kept[-1][1][0], point[0])
        ):
            kept.append((trial, point))
    chosen, rest = kept[: min(1, most)], kept[1:]
    if not kept:
        return []
    worst = (min(point[0] for _, point in kept), max(point[1] for _, point in kept) * 1.1)
    while rest and len(chosen) < most:
        covered = [hypervolume([point for _, point in [*chosen, each]], worst) for each in rest]
        chosen.append(rest.pop(covered.index(max(covered))))
    numbers = {trial.number for trial, _ in chosen}
    return [trial for trial, _ in kept if trial.number in numbers]


def hypervolume(points: Sequence[Point], worst: Point) -> float:
    """Return the area that points dominate: metric times the logarithm of the cost.

    Args:
        points: Any.
        worst: The corner from which it is reckoned: a metric and a cost above 0.
    """
    area, best = 0.0, worst[0]
    inside = sorted(
        (max(cost, 1e-12), value) for value, cost in points if value > worst[0] and cost < worst[1]
    )
    for cost, value in inside:
        if value > best:
            area += (value - best) * math.log(worst[1] / cost)
            best = value
    return area
