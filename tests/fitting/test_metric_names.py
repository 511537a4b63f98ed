"""What the metrics of users' models are called, and that a store takes each of these names."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from mlflow.entities import Metric

from fm_mlflow.fitting import MetricNames
from tests.stores import Store

HOSTILE = [
    *("map@1", "map#1", "a//b", "../x", "/abs", "b/", ".", "x" * 300, "x" * 299 + "y", ""),
    *("a\nb", "Größe", "\ud800", "user/loss", "a\x1b[31m", "%s", "tab\t"),
]
OURS = [
    *("test_accuracy", "flops/inference", "learning_rate", "epoch_seconds", "memory/rss_mib"),
    *("test_loss", "latency/p50_ms", "val_loss"),
]


def both(*names: str) -> dict[str, float]:
    """The logs of an epoch that was validated."""
    return {"loss": 1.0} | dict.fromkeys(names, 2.0) | {f"val_{name}": 3.0 for name in names}


def test_what_keras_logs_keeps_its_name() -> None:
    logs = {**both("sparse_categorical_accuracy", "auc"), "val_loss": 4.0, "learning_rate": 0.1}
    assert MetricNames().logged(logs) == {
        "loss": 1.0,
        "accuracy": 2.0,
        "auc": 2.0,
        "val_accuracy": 3.0,
        "val_auc": 3.0,
        "val_loss": 4.0,
    }


@pytest.mark.parametrize("name", OURS)
def test_our_names_are_reserved(name: str, caplog: pytest.LogCaptureFixture) -> None:
    names = MetricNames()
    logs = {"loss": 1.0, name: 2.0, f"val_{name}": 3.0} if name != "val_loss" else both("val_loss")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            logged = names.logged(logs)
    assert 3.0 in logged.values()
    assert logged.keys() & set(OURS) <= {"val_loss"}
    assert len([record for record in caplog.records if "user/" in record.message]) == 1


def test_names_are_taken_by_mlflow_and_differ(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    names = MetricNames()
    with caplog.at_level(logging.WARNING):
        logged = names.logged(both(*HOSTILE))
    assert len(logged) == 1 + 2 * len(HOSTILE)
    run = store.client.create_run("0")
    metrics = [Metric(name, value, 0, 1) for name, value in logged.items()]
    store.client.log_batch(run.info.run_id, metrics)
    assert store.client.get_run(run.info.run_id).data.metrics == logged
    assert {"map_1", "map_1_2", "val_map_1", "val_map_1_2", "a/_/b", "_/x", "_/abs"} <= set(logged)
    assert names.logged(both(*HOSTILE)) == logged
    assert all(record.message.isprintable() for record in caplog.records)


def test_a_vector_is_a_metric_an_element(caplog: pytest.LogCaptureFixture) -> None:
    names = MetricNames(["T-shirt/top", "bag", "b@g", "b#g"])
    logged = names.logged({"recall": np.arange(4), "matrix": np.eye(2), "val_recall": np.ones(4)})
    assert logged == {
        "recall/T-shirt/top": 0.0,
        "recall/bag": 1.0,
        "recall/b_g": 2.0,
        "recall/b_g_2": 3.0,
        **{f"matrix/{i}/{j}": float(i == j) for i in range(2) for j in range(2)},
        **{f"val_recall/{name}": 1.0 for name in ("T-shirt/top", "bag", "b_g", "b_g_2")},
    }
    assert not caplog.records


@pytest.mark.parametrize("value", ["text", None, np.zeros(5000), [1, [2]]])
def test_what_is_no_number_is_left_out(value: object, caplog: pytest.LogCaptureFixture) -> None:
    names = MetricNames()
    assert names.logged({"loss": 1.0, "other": value}) == {"loss": 1.0}
    names.logged({"other": value})
    assert len(caplog.records) == 1
    assert "'other' is left out" in caplog.text
