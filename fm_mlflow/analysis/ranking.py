"""Which of several groups leads, and whether the best are equivalent."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fm_mlflow.analysis.comparison import Group, Verdict


def leading(groups: Sequence[Group], verdicts: Sequence[Verdict]) -> Group:
    """Return the first of groups, the best first, that is not shown to be worse than another.

    Where groups have different seeds, a mean can be above that of a group that is shown to be
    better: by the seeds that both have.
    """
    worse = shown_worse(groups, verdicts)
    return next((group for group in groups if group.name not in worse), groups[0])


def shown_worse(groups: Sequence[Group], verdicts: Sequence[Verdict]) -> set[str]:
    """Return the names of those groups that another of them is shown to be better than."""
    names = {group.name for group in groups}
    return {
        verdict.b if verdict.verdict == "a_better" else verdict.a
        for verdict in verdicts
        if verdict.is_shown and {verdict.a, verdict.b} <= names
    }


def are_equivalent(names: Collection[str], verdicts: Sequence[Verdict], metric: str) -> bool:
    """Return whether all pairs of groups are equivalent by a metric; of one group, False."""
    words = [
        verdict.verdict
        for verdict in verdicts
        if verdict.metric == metric and {verdict.a, verdict.b} <= set(names)
    ]
    return bool(words) and set(words) == {"equivalent"}
