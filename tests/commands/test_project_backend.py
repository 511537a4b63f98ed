"""`mlflow run -b fm-mlflow`: one training of the project on an executor."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint
from typing import Any

import mlflow
import pytest
from mlflow.projects.backend import loader

from fm_mlflow import InputError, keys
from fm_mlflow.commands import project_backend
from tests.cluster import Cluster
from tests.processes import PROJECT
from tests.stores import Store


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The executor of the backend; MLflow finds the backend as an installed package's."""
    made = Cluster({("mlp", 7): "fails"}, losses={("cnn", 3): 1, ("mlp", 1): 9})
    monkeypatch.setattr(project_backend, "executor_of", lambda _placement: made)
    found = EntryPoint(
        "fm-mlflow", "fm_mlflow.commands.project_backend:project_backend", "mlflow.project_backend"
    )
    monkeypatch.setattr(loader, "get_entry_points", lambda _group: [found])
    return made


def run(entry_point: str = "main", config: Mapping[str, Any] | None = None, **params: str) -> Any:
    return mlflow.projects.run(  # type: ignore[no-untyped-call]
        str(PROJECT),
        entry_point,
        parameters=params,
        backend="fm-mlflow",
        backend_config=dict(config or {}),
    )


def test_a_training_is_one_run_and_continued_when_it_is_lost(
    store: Store, cluster: Cluster
) -> None:
    submitted = run(config={"executor": "ray", "cpus": 2}, model="cnn", seed="3")
    assert [job.arguments[0] for job in cluster.jobs] == ["train", "resume"]
    found = store.only_run()
    assert submitted.run_id == found.info.run_id
    assert (submitted.wait(), submitted.get_status()) == (True, "FINISHED")
    assert found.info.status == "FINISHED"
    assert found.data.tags["mlflow.project.backend"] == "fm-mlflow"
    assert found.data.tags["mlflow.project.entryPoint"] == "main"


@pytest.mark.parametrize(
    ("seed", "cause", "jobs"), [("7", "the loss is nan", 1), ("1", "its machine is gone", 2)]
)
def test_one_that_fails_or_is_lost_too_often_says_why(
    store: Store, cluster: Cluster, seed: str, cause: str, jobs: int
) -> None:
    with pytest.raises(mlflow.exceptions.ExecutionException):
        run(config={"retries": 1}, model="mlp", seed=seed)
    found = store.only_run()
    assert (found.info.status, found.data.tags[keys.ERROR]) == ("FAILED", cause)
    assert len(cluster.jobs) == jobs


@pytest.mark.parametrize(
    ("entry_point", "config", "params", "says"),
    [
        ("benchmark", {}, {}, "entry_point: received 'benchmark', accepted: main"),
        ("main", {"cpu": 2}, {}, "cpu: received 'cpu', accepted: one of the parameters executor"),
        ("main", {}, {"epochs": "0"}, "epochs: received '0', accepted"),
    ],
)
def test_what_is_refused_makes_no_run(
    store: Store,
    cluster: Cluster,
    entry_point: str,
    config: dict[str, Any],
    params: dict[str, str],
    says: str,
) -> None:
    with pytest.raises(InputError) as refused:
        run(entry_point, config, **params)
    assert says in str(refused.value)
    assert store.client.search_runs(["0"]) == []
