"""Points, parameters and tags, as many as a store takes in one request."""

from __future__ import annotations

from itertools import islice
from typing import TypeVar

from mlflow.entities import Metric, Param, RunTag

# MLflow's limits of one request.
_MAX_METRICS = 1000
_MAX_OTHERS = 100

Item = Metric | Param | RunTag
ItemT = TypeVar("ItemT", Metric, Param, RunTag)


def only(items: list[Item], kind: type[ItemT]) -> list[ItemT]:
    """Return those of one kind."""
    return [item for item in items if isinstance(item, kind)]


def fits(items: list[Item]) -> bool:
    """Tell whether a store takes them in one request, and keeps what came last."""
    metrics, params, tags = only(items, Metric), only(items, Param), only(items, RunTag)
    names = {param.key for param in params}
    return (
        len(metrics) <= _MAX_METRICS
        and len(params) <= _MAX_OTHERS
        and len(tags) <= _MAX_OTHERS
        and len(items) <= _MAX_METRICS
        and len(names) == len(params)
        # Of one tag set twice, the store might keep the earlier value.
        and len({tag.key for tag in tags}) == len(tags)
    )


def first_request(items: list[Item]) -> list[Item]:
    """Return the first of them, as many as fit into a request."""
    return items if fits(items) else list(islice(items, _MAX_OTHERS))
