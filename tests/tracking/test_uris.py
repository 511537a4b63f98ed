"""Which place a tracking URI or a path names, read as MLflow reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.tracking import MlflowClient

from fm_mlflow import keys
from fm_mlflow.errors import InputError
from fm_mlflow.tracking import artifacts
from fm_mlflow.tracking.artifacts import sync_stored
from fm_mlflow.tracking.load_model import load_model
from fm_mlflow.tracking.run import TrackedRun
from fm_mlflow.tracking.store import prepare
from fm_mlflow.tracking.uris import absolute_uri, check_literal

ODD = "a b#c?d é+x&'y"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / ODD
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("given", "means"),
    [
        ("file:rel", "{here}/rel"),
        ("file:rel%20it", "{here}/rel it"),
        ("file:///abs/mlruns", "/abs/mlruns"),
        ("file:/abs/mlruns", "/abs/mlruns"),
        ("file://localhost/abs/mlruns", "/abs/mlruns"),
        ("./rel", "{here}/rel"),
        ("/abs/ml%20runs", "/abs/ml runs"),  # MLflow decodes plain paths too
        ("C:rel", "{here}/C:rel"),
    ],
)
def test_folders(here: Path, given: str, means: str) -> None:
    assert absolute_uri(given) == Path(means.format(here=here)).as_uri()


def test_a_relative_database(here: Path) -> None:
    """SQLAlchemy finds the very file, whatever its folder is called."""
    uri = absolute_uri("sqlite:///sub/rel.db?timeout=30")
    assert uri == absolute_uri(uri)
    prepare(uri, here)
    assert (here / "sub" / "rel.db").is_file()


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:////abs/a.db",
        "sqlite:///:memory:",
        "sqlite:///C:/a.db",
        "sqlite:///file:a.db?uri=true",
        "postgresql+psycopg2://ann:p%40ss@db/mlflow",
        "https://ann:p%40ss@server/mlflow",
        "databricks",
        "databricks://profile",
        "uc",
        "arn:aws:sagemaker:eu-west-1:1:mlflow-tracking-server/a",
        "plugin://a/b",
    ],
)
def test_what_is_absolute_already(uri: str) -> None:
    assert absolute_uri(uri) == uri


def test_a_host_is_refused() -> None:
    with pytest.raises(InputError, match=r"tracking URI: received 'file://./rel', accepted: file:"):
        absolute_uri("file://./rel")  # MLflow would take /rel


@pytest.mark.parametrize("name", ["x%20y", "x%2Fy", "x%41"])
def test_a_folder_that_mlflow_takes_for_another(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its artifacts would be kept in `x y`."""
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FM_MLFLOW_JOURNAL_DIR", str(tmp_path / "journals"))
    with pytest.raises(InputError, match=r"^working directory: received '.*x%.*would take it for"):
        with TrackedRun("training", "a run"):
            pytest.fail("it began")
    assert list(folder.iterdir()) == []
    assert list((tmp_path / "journals").iterdir()) == []
    assert {each.name for each in tmp_path.iterdir()} == {name, "journals"}


def test_a_model_in_such_a_folder(tmp_path: Path) -> None:
    for name in ("x y", "x%20y"):
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=r"^model: received '.*x%20y'.*would take it for '.*x y'"):
        load_model(str(tmp_path / "x%20y"))


def test_other_characters_are_literal() -> None:
    for name in (ODD, "100%", "%zz", "5%-10%"):
        check_literal("folder", Path("/tmp") / name)


@pytest.mark.parametrize("uri", ["file:stores/mlruns", "file:///{absolute}"])
def test_a_run_in_a_folder(
    here: Path, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("FM_MLFLOW_JOURNAL_DIR", str(tmp_path / "j%20k"))
    place = here / "stores" / "mlruns"
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri.replace("{absolute}", place.as_uri().removeprefix("file:///")))
    try:
        with TrackedRun("training", "a run") as run:
            run.log_metrics({keys.LOSS: 0.5}, step=1)
            with run.artifacts() as folder:
                (folder / "a%20b.txt").write_text("text")
        stored = MlflowClient().get_run(run.run_id)
    finally:
        mlflow.set_tracking_uri(before)
    assert stored.info.status == "FINISHED"
    assert run.pending == ""
    assert (place / "0" / run.run_id / "artifacts" / "a%20b.txt").read_text() == "text"
    assert [each.name for each in here.iterdir()] == ["stores"]


@pytest.mark.parametrize("root", ["file://node7{here}/a", "file:///{here}/a", "x%20y/a", "file:a"])
def test_stored_artifacts_are_synced_where_mlflow_put_them(
    here: Path, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = root.replace("{here}", here.as_uri().removeprefix("file://"))
    sent = here / "sent"
    (sent / "deeper").mkdir(parents=True)
    (sent / "deeper" / "a.txt").write_text("text")
    repository: Any = LocalArtifactRepository(root)
    repository.log_artifacts(str(sent))
    synced: list[Path] = []
    monkeypatch.setattr(artifacts, "sync_to_disk", synced.append)
    sync_stored(root, sent)
    assert synced == [Path(repository.artifact_dir).absolute() / "deeper" / "a.txt"]
    assert synced[0].read_text() == "text"
    sync_stored(root, here / "missing")  # the store has it: nothing here may hold it up
    sync_stored("file://node7/\0", sent)
