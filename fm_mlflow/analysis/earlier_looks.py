"""How often groups were compared before with fewer seeds: looking until it is significant."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence

from fm_mlflow.analysis.comparison import Comparison, Group
from fm_mlflow.analysis.prose.words import counted

_DIGITS = 12
_MOST_NAMED = 50
"""Of the groups in a tag, which holds a few thousand characters at most."""
_NAMED = re.compile(rf"\b([0-9a-f]{{{_DIGITS}}}):(\d{{1,6}})\b")


def identity(group: Group) -> str:
    """Return what tells a group from others in every comparison: a digest."""
    parts = [group.model, sorted(group.config.items()), group.data_digest]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_DIGITS]


def compared_groups(groups: Sequence[Group]) -> str:
    """Return the tag of a comparison: its groups that were compared pair by pair."""
    detailed = [group for group in groups if group.detailed]
    return " ".join(f"{identity(group)}:{len(group.runs)}" for group in detailed[:_MOST_NAMED])


def read_groups(tag: str) -> dict[str, int]:
    """Return the number of runs of each group that a comparison's tag names."""
    return {name: int(count) for name, count in _NAMED.findall(tag)}


def looked_before(comparison: Comparison, earlier: Iterable[Mapping[str, int]]) -> str | None:
    """Warn where groups of a comparison were compared before with fewer seeds; else None.

    Groups whose benchmark has a design that allows for every look do not count.

    Args:
        comparison: The present one.
        earlier: Groups of earlier comparisons, as `read_groups` gives them.
    """
    designed = {
        name
        for verdict in comparison.verdicts
        if verdict.looked_at_seeds is not None
        for name in (verdict.a, verdict.b)
    }
    now = {
        identity(group): len(group.runs)
        for group in comparison.groups
        if group.detailed and group.name not in designed
    }
    looks = set()
    for groups in earlier:
        shared = {name: count for name, count in groups.items() if name in now}
        fewer = all(count <= now[name] for name, count in shared.items())
        if len(shared) > 1 and fewer and any(now[name] > n for name, n in shared.items()):
            looks.add(tuple(sorted(shared.items())))
    if not looks:
        return None
    return (
        f"These models were compared before with fewer seeds, in {counted(len(looks), 'way')}: who "
        "adds seeds until a difference is significant finds one too often, where there is none; "
        "the verdicts do not allow for that, those of `benchmark --seeds auto` do."
    )
