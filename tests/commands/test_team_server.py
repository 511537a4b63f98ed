"""A team's server from the outside: PostgreSQL, S3, passwords and permissions, as deployed."""

from __future__ import annotations

import builtins
import getpass
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client
from mlflow.tracking import MlflowClient

from fm_mlflow import TrackingError, TrainResult, compare, reconcile, register, train
from fm_mlflow.settings.registered import REGISTERED_MODEL as MODEL
from fm_mlflow.tracking.registry import Registry
from tests.processes import PROJECT
from tests.stores import Store, active_store
from tests.team_server import (
    ADMIN_PASSWORD,
    BUCKET,
    DATABASE_PASSWORD,
    S3_SECRET,
    TeamServer,
    team_server,
)
from tests.trained import DIGITS
from tests.verified import in_this_process as in_this_process  # a fixture

PASSWORD = """a colleague's: @/%41 #"$HOME"?"""


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamServer]:
    """The server, with the users whom the commands of its page create."""
    with team_server(tmp_path_factory.mktemp("team")) as server, pytest.MonkeyPatch.context() as m:
        for name, value in server.credentials().items():
            m.setenv(name, value)
        m.setattr(getpass, "getpass", lambda _prompt: PASSWORD)
        (commands,) = re.findall(
            r"```python\n(.*?)```", (PROJECT / "docs" / "team-server.md").read_text(), re.S
        )
        exec(commands.replace("http://localhost:5000", server.uri), {"__builtins__": builtins})
        yield server


@pytest.fixture
def user(
    team: TeamServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., MlflowClient]]:
    """Log in as somebody, with an experiment of the user's name; gives a client."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FM_MLFLOW_JOURNAL_DIR", str(tmp_path / "journals"))
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")

    def log_in(name: str, password: str = PASSWORD) -> MlflowClient:
        for variable, value in team.credentials(password, name).items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
        return MlflowClient()

    with active_store(Store(team.uri, tmp_path)):
        yield log_in


@contextmanager
def forbidden() -> Iterator[None]:
    """The server says no."""
    with pytest.raises((MlflowException, requests.HTTPError), match="403"):
        yield


def artifacts(client: MlflowClient, result: TrainResult) -> dict[str, Any]:
    """Return what a run has, by path: sizes of its files."""
    return {each.path: each.file_size for each in client.list_artifacts(result.run_id)}


@pytest.mark.usefixtures("in_this_process")
def test_a_team(
    team: TeamServer,
    user: Callable[..., MlflowClient],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ann trains, Bob may compare and no more, Eve promotes."""
    caplog.set_level(logging.DEBUG)
    client = user("ann")
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

    bob = user("bob")
    compared = compare(experiment="ann", output="report")
    (comparison,) = bob.search_runs([compared.experiment_id])
    assert bob.get_experiment(compared.experiment_id).name == "bob"
    assert comparison.info.status == "FINISHED"  # though Ann's models may not be linked by Bob
    assert compared.comparison.best.run_id in {result.run_id for result in results}
    assert not list((tmp_path / "journals").glob("j-*"))
    changes_nothing_of_others(bob, results[0], tmp_path)

    eve = user("eve")
    registration = register(experiment="ann", name=MODEL)
    assert (registration.outcome, registration.champion) == ("registered", 1)
    moves_no_champion(user("bob"), results)
    loaded = mlflow.tensorflow.load_model(f"models:/{MODEL}@champion")  # but may use it
    assert loaded.count_params() == 235_146
    assert eve.get_registered_model(MODEL).aliases == {"champion": "1"}
    assert reconcile().closed == []

    texts = [caplog.text, team.log.read_text()]
    texts += [path.read_text(errors="replace") for path in tmp_path.rglob("*.json*")]
    for secret in (ADMIN_PASSWORD, DATABASE_PASSWORD, S3_SECRET, PASSWORD):
        assert all(secret not in text for text in texts)


def changes_nothing_of_others(bob: MlflowClient, of_ann: TrainResult, folder: Path) -> None:
    """Bob tries to change what Ann logged."""
    before = artifacts(bob, of_ann)
    run, model = of_ann.run_id, (of_ann.model_uri or "").removeprefix("models:/")
    (folder / "model_summary.txt").write_text("not Ann's")
    attempts: list[Callable[[], object]] = [
        lambda: bob.create_run(of_ann.experiment_id),
        lambda: bob.set_tag(run, "note", "not Ann's"),
        lambda: bob.log_metric(run, "test_accuracy", 1.0),
        lambda: bob.set_terminated(run, "FAILED"),
        lambda: bob.delete_run(run),
        lambda: bob.log_artifact(run, str(folder / "model_summary.txt")),
        lambda: bob.log_model_artifacts(model, str(folder)),
        lambda: bob.set_logged_model_tags(model, {"note": "not Ann's"}),
        lambda: bob.delete_logged_model(model),
        lambda: bob.rename_experiment(of_ann.experiment_id, "bob's"),
        lambda: bob.delete_experiment(of_ann.experiment_id),
        lambda: bob.create_run("0"),  # nor in the administrator's
    ]
    for attempt in attempts:
        with forbidden():
            attempt()
    routes = f"{mlflow.get_tracking_uri()}/api/2.0/mlflow-artifacts/artifacts"
    own = bob.get_experiment_by_name("bob")
    assert own is not None
    for path in (
        f"{of_ann.experiment_id}/{run}",
        f"{own.experiment_id}/../{of_ann.experiment_id}/{run}",
        f"{own.experiment_id}%2F..%2F{of_ann.experiment_id}/{run}",
        f"%2F{of_ann.experiment_id}/{run}",
    ):
        for method in ("PUT", "DELETE"):
            answer = requests.request(
                method,
                f"{routes}/{path}/artifacts/model_summary.txt",
                auth=("bob", PASSWORD),
                data=b"not Ann's",
                timeout=30,
            )
            assert answer.status_code == 403, path
    assert artifacts(bob, of_ann) == before


def moves_no_champion(bob: MlflowClient, results: list[TrainResult]) -> None:
    """Bob tries to promote, by hand and by the product."""
    before = dict(bob.get_registered_model(MODEL))
    (version,) = bob.search_model_versions(f"name='{MODEL}'")
    uri = next(each.model_uri for each in results if each.run_id != version.run_id) or ""
    attempts: list[Callable[[], object]] = [
        lambda: bob.create_model_version(MODEL, uri),
        lambda: bob.set_registered_model_alias(MODEL, "champion", version.version),
        lambda: bob.delete_registered_model_alias(MODEL, "champion"),
        lambda: bob.set_model_version_tag(MODEL, version.version, "test_accuracy", "1.0"),
        lambda: bob.update_model_version(MODEL, version.version, "not Eve's"),
        lambda: bob.delete_model_version(MODEL, version.version),
        lambda: bob.rename_registered_model(MODEL, "bobs"),
        lambda: bob.delete_registered_model(MODEL),
        lambda: get_app_client("basic-auth", mlflow.get_tracking_uri()).grant_user_permission(
            "bob", "registered_model", MODEL, "EDIT"
        ),
    ]
    for attempt in attempts:
        with forbidden():
            attempt()
    with pytest.raises(TrackingError) as refused:  # what `register` does once it has verified
        Registry(MODEL).promote(uri, "card", {}, expected=1)
    message = str(refused.value)
    assert message.startswith("cannot promote (model registry) in http://127.0.0.1:")
    assert "not allowed (PERMISSION_DENIED)" in message
    assert dict(bob.get_registered_model(MODEL)) == before


def test_an_experiment_of_somebody_else(
    user: Callable[..., MlflowClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = user("bob")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "Default")
    with pytest.raises(TrackingError) as refused:
        train("mlp", **DIGITS)
    assert "not allowed (PERMISSION_DENIED)" in str(refused.value)
    assert "MLFLOW_EXPERIMENT_NAME names an experiment of one's own" in str(refused.value)
    assert not list((tmp_path / "journals").glob("j-*"))  # nothing was started
    assert client.search_runs(["0"]) == []


def test_a_wrong_password(
    team: TeamServer,
    user: Callable[..., MlflowClient],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    user("ann", "wrong-password")
    with pytest.raises(TrackingError) as refused:
        train("mlp", **DIGITS)
    message = str(refused.value)
    assert f"cannot open a run in {team.uri}: not allowed (UNAUTHENTICATED)" in message
    assert "check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in message
    assert "wrong-password" not in message + caplog.text
    assert not list((tmp_path / "journals").glob("j-*"))  # nothing was started
