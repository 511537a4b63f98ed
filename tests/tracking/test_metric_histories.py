"""Histories of metrics of many runs: the same in bulk as run by run, by few requests."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
import requests
import sqlalchemy as sql
from mlflow.entities import Metric
from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND, INTERNAL_ERROR, PERMISSION_DENIED
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.tracking import MlflowClient

from fm_mlflow.settings.selection import Choice
from fm_mlflow.tracking import metric_histories
from fm_mlflow.tracking.find_runs import find_runs
from fm_mlflow.tracking.metric_histories import RUNS_AT_ONCE, read_histories
from fm_mlflow.tracking.run_details import load_details
from fm_mlflow.tracking.store import StoreDeniedError
from tests.simulated import Simulated, log_run
from tests.stores import Store

SEEDS = 6
MANY = 10_000


def log_odd_runs(client: MlflowClient, experiment_id: str) -> list[str]:
    """Runs with a step logged twice, one that is no number, many steps, and without the metric."""
    points: tuple[list[tuple[int, float]], ...] = (
        [(1, 0.5), (1, 0.25), (2, 0.1)],
        [(1, math.nan), (2, 0.5)],
        [(step, step / 10) for step in range(9)],
        [],
    )
    run_ids = []
    for each in points:
        run_id = client.create_run(experiment_id).info.run_id
        metrics = [Metric("loss", value, 7, step) for step, value in each]
        client.log_batch(run_id, metrics=[*metrics, Metric("other", 1.0, 7, 0)])
        run_ids.append(run_id)
    return run_ids


def plain(history: list[Metric]) -> list[tuple[int, int, str]]:
    """As a later value of a step takes the place of an earlier: by step, in order of time."""
    return sorted((each.step, each.timestamp, str(each.value)) for each in history)


@contextmanager
def counted_statements() -> Iterator[Counter[str]]:
    """Count what SQLAlchemy executes by the table that it reads first."""
    counts: Counter[str] = Counter()

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FROM " in statement:
            counts[statement.split("FROM ")[1].split()[0]] += 1

    sql.event.listen(sql.Engine, "before_cursor_execute", count)
    try:
        yield counts
    finally:
        sql.event.remove(sql.Engine, "before_cursor_execute", count)


@contextmanager
def counted_requests() -> Iterator[Counter[str]]:
    """Count requests of HTTP by the end of their paths."""
    counts: Counter[str] = Counter()
    send = requests.Session.send

    def count(session: requests.Session, request: Any, **more: Any) -> requests.Response:
        counts[request.path_url.partition("?")[0].rpartition("/")[2]] += 1
        return send(session, request, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests.Session, "send", count)
        yield counts


def histories(client: MlflowClient, run_ids: list[str]) -> dict[str, list[tuple[int, int, str]]]:
    found = read_histories(client, run_ids, "loss", MANY)
    return {run_id: plain(found.get(run_id, [])) for run_id in run_ids}


@pytest.mark.parametrize("remote", [False, True], ids=["SQLite", "server"])
@pytest.mark.parametrize("limit", [MANY, 3], ids=["whole", "in parts"])
def test_bulk_reads_what_single_requests_read(
    store: Store, server: Store, remote: bool, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = (server if remote else store).client
    experiment = client.create_experiment(f"histories, {remote}, {limit}")
    run_ids = log_odd_runs(client, experiment)
    expected = {run_id: plain(client.get_metric_history(run_id, "loss")) for run_id in run_ids}
    assert [len(each) for each in expected.values()] == [3, 2, 9, 0]
    if limit < MANY:
        monkeypatch.setattr(metric_histories, "_MOST_OF_ALL", limit)
        monkeypatch.setattr(metric_histories, "_MOST_OF_A_RUN", limit)
    assert histories(client, run_ids) == expected


def test_a_choice_of_the_steps_of_all_runs_is_not_taken_for_all(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As servers choose of files, and older ones of a database."""
    run_ids = [store.client.create_run("0").info.run_id for _ in range(3)]
    for number, run_id in enumerate(run_ids):
        steps = range(number, 12, 3)
        store.client.log_batch(run_id, metrics=[Metric("loss", 0.5, 7, step) for step in steps])
    database = store.client._tracking_client.store
    expected = histories(store.client, run_ids)

    def call(_: Any, asked: str) -> Any:
        chosen = AbstractStore.get_metric_history_bulk_interval(
            database, run_ids, "loss", json.loads(asked)["max_results"], None, None
        )
        return SimpleNamespace(metrics=chosen)

    read = database.get_metric_history
    of_server = SimpleNamespace(_call_endpoint=call, get_metric_history=read)
    client: Any = SimpleNamespace(_tracking_client=SimpleNamespace(store=of_server))
    for limit in (MANY, 6):
        monkeypatch.setattr(metric_histories, "_MOST_OF_A_RUN", limit)
        assert histories(client, run_ids) == expected


def test_a_request_fits_in_the_line_that_gunicorn_takes(
    server: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = server.client.create_run("0").info.run_id
    paths: list[str] = []
    send = requests.Session.send

    def kept(session: requests.Session, request: Any, **more: Any) -> requests.Response:
        paths.append(request.path_url)
        return send(session, request, **more)

    monkeypatch.setattr(requests.Session, "send", kept)
    read_histories(server.client, [run_id] * RUNS_AT_ONCE, "m" * 250, MANY)
    (path,) = paths
    assert path.count(run_id) == RUNS_AT_ONCE
    assert len(f"GET {path} HTTP/1.1\r\n") <= 4094


def test_who_may_not_read_is_told_so(server: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*_: Any, **__: Any) -> None:
        raise mlflow.MlflowException("403", error_code=PERMISSION_DENIED)

    monkeypatch.setattr(type(server.client._tracking_client.store), "_call_endpoint", call)
    with pytest.raises(StoreDeniedError):
        read_histories(server.client, ["a", "b"], "loss", MANY)


@pytest.mark.parametrize(
    ("said", "code"),
    [("404", ENDPOINT_NOT_FOUND), ("failed with error code 414 != 200.", INTERNAL_ERROR)],
)
def test_a_server_that_refuses_bulk_requests_is_read_run_by_run(
    server: Store, said: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = server.client
    run_ids = log_odd_runs(client, client.create_experiment(f"bulk: {said}"))
    expected = histories(client, run_ids)
    tracking = client._tracking_client.store

    def call(*_: Any, **__: Any) -> None:
        raise mlflow.MlflowException(said, error_code=code)

    endpoint = tracking._call_endpoint
    monkeypatch.setattr(
        type(tracking),
        "_call_endpoint",
        lambda _, api, *more, **named: (
            call() if "Bulk" in api.DESCRIPTOR.name else endpoint(api, *more, **named)
        ),
    )
    assert histories(client, run_ids) == expected


def test_without_the_private_name_the_client_is_asked(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = store.client
    run_ids = log_odd_runs(client, "0")
    expected = histories(client, run_ids)
    of_client = client.get_metric_history
    monkeypatch.setattr(client, "get_metric_history", of_client)
    reads = {run_id: of_client(run_id, "loss") for run_id in run_ids}
    monkeypatch.setattr(client, "get_metric_history", lambda run_id, _: reads[run_id])
    monkeypatch.delattr(client, "_tracking_client")
    assert histories(client, run_ids) == expected


def test_queries_of_a_database_do_not_grow_with_the_seeds(store: Store) -> None:
    for seed in range(SEEDS):
        log_run(store.client, Simulated("mlp", seed))
    runs = find_runs(Choice()).runs
    asked = []
    for some in (runs[:2], runs):
        with counted_statements() as counts:
            details = load_details(some)
        assert all(set(each.curves) > {"loss", "val_accuracy"} for each in details.values())
        asked.append(counts["metrics"])
    assert asked[0] == asked[1] == 5  # a query a metric


def test_requests_to_a_server_do_not_grow_with_the_seeds(
    server: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = server.client.create_experiment("requests")
    for seed in range(3):
        log_run(server.client, Simulated("mlp", seed), experiment)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(server.uri)
    try:
        runs = find_runs(Choice(experiment="requests")).runs
        with counted_requests() as counts:
            details = load_details(runs)
    finally:
        mlflow.set_tracking_uri(before)
    assert all(each.predictions is not None and each.layer_types for each in details.values())
    assert counts["get-history-bulk-interval"] == 5
    assert counts["get-history"] == 0
    assert counts["layers.csv"] == 1  # of one seed: they are the same
    assert counts["test.npz"] == counts["measurements.json"] == 3
