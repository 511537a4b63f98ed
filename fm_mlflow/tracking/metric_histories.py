"""Logged values of a metric over time, of many runs with few requests."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from fm_mlflow.tracking.store import StoreRefusedError, store_errors

RUNS_AT_ONCE = 80
"""A server takes 100, but gunicorn no line of a request that is longer than 4,094 bytes."""

_MOST_OF_A_RUN = 2_500
"""Points of a run, and steps, that a server gives at most."""

_MOST_OF_ALL = 25_000

_Found = Mapping[str, list[Metric]]
_Bulk = Callable[[Sequence[str], str], _Found]


def read_histories(
    client: MlflowClient, run_ids: Sequence[str], name: str, most: int
) -> dict[str, list[Metric]]:
    """Read what runs logged of a metric: of all in one request, where the store has a way.

    Args:
        client: Of the store.
        run_ids: At most `RUNS_AT_ONCE`.
        name: Of the metric.
        most: Points of a run that are wanted.

    Returns:
        Points by run id; of one value only the first where a run has more than `most` of them,
        and none of a run that has none.
    """
    try:
        store: Any = client._tracking_client.store
    except AttributeError:  # the client itself gets all there are, however many
        return {run_id: list(client.get_metric_history(run_id, name)) for run_id in run_ids}
    found: dict[str, list[Metric]] = {}
    bulk = _bulk_of(store)
    left = list(run_ids)
    while bulk and len(left) > 1:
        complete = bulk(left, name)
        found |= complete
        left = [run_id for run_id in left if run_id not in found]
        if not complete:
            break
    for run_id in left:
        found[run_id] = list(store.get_metric_history(run_id, name, max_results=most + 1))
    return found


def _bulk_of(store: Any) -> _Bulk | None:
    """Return a function that reads of several runs; it gives those of which it has all points."""
    if hasattr(store, "get_metric_history_bulk"):
        return partial(_from_database, store)
    if hasattr(store, "_call_endpoint"):
        return partial(_from_server, store)
    return None


def _from_database(store: Any, run_ids: Sequence[str], name: str) -> _Found:
    found: dict[str, list[Metric]] = defaultdict(list)
    rows = store.get_metric_history_bulk(run_ids, name, _MOST_OF_ALL)
    for row in rows:
        found[row.run_id].append(Metric(name, row.value, row.timestamp, row.step))
    if len(rows) < _MOST_OF_ALL:
        return {run_id: found[run_id] for run_id in run_ids}
    found.popitem()  # they are in order of runs, and the last may be cut off
    return found


def _from_server(store: Any, run_ids: Sequence[str], name: str) -> _Found:
    from mlflow.protos.service_pb2 import GetMetricHistoryBulkInterval

    asked = {"run_ids": list(run_ids), "metric_key": name, "max_results": _MOST_OF_A_RUN}
    try:
        with store_errors("read metrics"):
            answer = store._call_endpoint(GetMetricHistoryBulkInterval, json.dumps(asked))
    except StoreRefusedError:  # an older server, or one of other limits
        return {}
    found: dict[str, list[Metric]] = {run_id: [] for run_id in run_ids}
    for each in answer.metrics:
        found[each.run_id].append(Metric(name, each.value, each.timestamp, each.step))
    # Of more points of a run a server gives a choice; some servers, of more steps of all together.
    if len({each.step for each in answer.metrics}) >= _MOST_OF_A_RUN:
        return {}
    return {run_id: points for run_id, points in found.items() if len(points) < _MOST_OF_A_RUN}
