"""Points, parameters and tags, as many as a store takes in one request."""

from __future__ import annotations

from itertools import islice
from typing import TypeVar

from mlflow.entities import Metric, Param, RunTag

from fm_mlflow.tracking.outbox.journal import Record

# MLflow's limits of one request.
_MAX_METRICS = 1000
_MAX_OTHERS = 100

Item = Metric | Param | RunTag
ItemT = TypeVar("ItemT", Metric, Param, RunTag)


def items_of(record: Record, run_id: str | None, model_id: str | None) -> list[Item]:
    """Return what a record of the type `batch` wants logged.

    Args:
        record: From the journal.
        run_id: Of the run in the store.
        model_id: Of the logged model that was the run's newest when it was recorded.
    """
    metrics = [
        Metric(
            point["key"],
            point["value"],
            point["timestamp"],
            point["step"],
            model_id=model_id if point.get("of_model") else None,
            dataset_name=point.get("dataset_name"),
            dataset_digest=point.get("dataset_digest"),
            run_id=run_id,
        )
        for point in record.get("metrics", [])
    ]
    params = [Param(key, value) for key, value in record.get("params", {}).items()]
    tags = [RunTag(key, value) for key, value in record.get("tags", {}).items()]
    return [*metrics, *params, *tags]


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
