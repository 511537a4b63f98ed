"""Which groups are ranked by accuracy, which are looked at closely, and which a bound excludes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Group
from fm_mlflow.analysis.costs import COSTS
from fm_mlflow.analysis.prose.words import figure
from fm_mlflow.config import Bounds


def select_groups(
    groups: Sequence[Group], top: int, bounds: Bounds | None = None
) -> tuple[Group, ...]:
    """Mark the groups that are ranked and, of them, the most accurate as detailed.

    Ranked are those with a test accuracy on the data that most runs were tested on.

    Args:
        groups: In any order.
        top: How many to mark as detailed; as many again where bounds exclude some of these.
        bounds: What the best may cost.

    Returns:
        The groups, most accurate first, unranked ones last.
    """
    main = _main_digest(groups)
    ranked = sorted(
        (g for g in groups if keys.TEST_ACCURACY in g.metrics and g.data_digest == main),
        key=_most_accurate_first,
    )
    affordable = [g for g in ranked if bounds is None or not exceeded(g, bounds)]
    detailed = {g.name for g in (*ranked[:top], *affordable[:top])}
    names = {g.name for g in ranked}
    others = sorted((g for g in groups if g.name not in names), key=_most_accurate_first)
    return (
        *(replace(g, ranked=True, detailed=g.name in detailed) for g in ranked),
        *(replace(g, ranked=False, detailed=False) for g in others),
    )


def _most_accurate_first(group: Group) -> tuple[float, str]:
    """Sort key: by mean test accuracy, those without one last; equals by name."""
    accuracy = group.metrics.get(keys.TEST_ACCURACY)
    return (-accuracy.mean if accuracy else float("inf"), group.name)


def _main_digest(groups: Sequence[Group]) -> str | None:
    """Return the digest of the data that most runs with a test accuracy share."""
    runs: Counter[str | None] = Counter()
    for group in groups:
        if keys.TEST_ACCURACY in group.metrics:
            runs[group.data_digest] += len(group.runs)
    # Among equals a known one, then any that does not depend on the order.
    return max(
        runs, key=lambda digest: (runs[digest], digest is not None, digest or ""), default=None
    )


def exceeded(group: Group, bounds: Bounds) -> str:
    """Say which bounds a group exceeds with the mean over its runs; empty if none."""
    reasons = []
    for cost in COSTS:
        bound = getattr(bounds, cost.option)
        if bound is None:
            continue
        statistic = group.metrics.get(cost.key)
        limit = f"{cost.option} is {figure(cost.key, bound)}"
        if statistic is None:
            reasons.append(f"{cost.title} not measured, {limit}")
        elif statistic.mean > bound:
            reasons.append(f"{cost.title} {figure(cost.key, statistic.mean)}, {limit}")
    return "; ".join(reasons)
