"""A team's server from the outside: PostgreSQL, S3 and passwords, as `deploy/` starts it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from fm_mlflow import TrackingError, compare, reconcile, register, train
from tests.stores import Store, active_store
from tests.team_server import ADMIN_PASSWORD, BUCKET, TeamServer, team_server
from tests.trained import DIGITS


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamServer]:
    with team_server(tmp_path_factory.mktemp("team")) as server:
        yield server


@pytest.fixture
def client(
    team: TeamServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MlflowClient]:
    """A user with the right password."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FM_MLFLOW_JOURNAL_DIR", str(tmp_path / "journals"))
    for name, value in team.credentials().items():
        monkeypatch.setenv(name, value)
    with active_store(Store(team.uri, tmp_path)):
        yield MlflowClient()


def test_train_compare_and_register(
    team: TeamServer, client: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    results = [train("mlp", seed=seed, **{**DIGITS, "epochs": 1}) for seed in (0, 1)]
    for result in results:
        assert result.pending == ""
        run = client.get_run(result.run_id)
        assert run.info.status == "FINISHED"
        assert run.info.artifact_uri.startswith("mlflow-artifacts:/")  # through the server
        assert len(client.get_metric_history(result.run_id, "loss")) == 1
    objects = team.s3.list_objects_v2(Bucket=BUCKET)["Contents"]
    assert any(each["Key"].endswith("predictions/test.npz") for each in objects)
    assert any(each["Key"].endswith("artifacts/MLmodel") for each in objects)

    comparison = compare(output="report").comparison
    assert comparison.best.run_id in {result.run_id for result in results}
    registration = register(run_id=comparison.best.run_id)  # verified by a process of its own
    assert (registration.outcome, registration.champion) == ("registered", 1)
    loaded = mlflow.tensorflow.load_model(f"models:/{registration.name}@champion")
    assert loaded.count_params() == 235_146
    assert reconcile().closed == []

    texts = [caplog.text, team.log.read_text()]
    texts += [path.read_text(errors="replace") for path in tmp_path.rglob("*.json*")]
    assert all(ADMIN_PASSWORD not in text for text in texts)
    assert all("s3-secret-key" not in text for text in texts)


def test_a_wrong_password(
    team: TeamServer,
    client: MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    runs = client.search_runs(["0"])
    for name, value in team.credentials("wrong-password").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TrackingError) as refused:
        train("mlp", **DIGITS)
    message = str(refused.value)
    assert f"cannot open a run in {team.uri}: not allowed (UNAUTHENTICATED)" in message
    assert "check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in message
    assert "wrong-password" not in message + caplog.text
    assert not list((tmp_path / "journals").glob("j-*"))  # nothing was started
    for name, value in team.credentials().items():
        monkeypatch.setenv(name, value)
    assert len(client.search_runs(["0"])) == len(runs)
