"""A tracking server behind TLS that wants certificates of its clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from fm_mlflow import keys
from fm_mlflow.tracking.run import TrackedRun
from fm_mlflow.tracking.store import StoreDeniedError, check_reachable
from tests.certificates import Authority
from tests.outages import Line
from tests.stores import Store, active_store

CLIENT, SERVER = "MLFLOW_TRACKING_CLIENT_CERT_PATH", "MLFLOW_TRACKING_SERVER_CERT_PATH"


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    monkeypatch.setenv("FM_MLFLOW_JOURNAL_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return Authority(tmp_path)


@pytest.fixture
def secure(server: Store, authority: Authority) -> Iterator[Line]:
    line = Line(server, authority.server_context())
    with active_store(line.store(server)):
        yield line
    line.close()


def test_a_run_over_tls(
    secure: Line, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SERVER, str(authority.file))
    monkeypatch.setenv(CLIENT, str(authority.sign("ann")))
    with TrackedRun("training", "a run") as run:
        run.log_metrics({keys.LOSS: 0.5}, step=1)
        with run.artifacts() as folder:
            (folder / "a.txt").write_text("text")
    assert run.pending == ""
    stored = MlflowClient().get_run(run.run_id)
    assert stored.info.status == "FINISHED"
    assert stored.data.metrics[keys.LOSS] == 0.5


@pytest.mark.parametrize("trust", [SERVER, "REQUESTS_CA_BUNDLE", "MLFLOW_TRACKING_INSECURE_TLS"])
def test_every_way_to_trust_a_server(
    trust: str, secure: Line, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CLIENT, str(authority.sign("ann")))
    monkeypatch.setenv(trust, "true" if trust.endswith("TLS") else str(authority.file))
    check_reachable()


def test_what_is_not_trusted(
    secure: Line, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SERVER, str(authority.file))
    hint = rf"or does not trust us \(.*\); check {SERVER} .*{CLIENT} "
    for ours in ("", str(Authority(tmp_path, "stranger").sign("mallory")), __file__):
        monkeypatch.setenv(CLIENT, ours)
        with pytest.raises(StoreDeniedError, match=hint):
            check_reachable()
    monkeypatch.setenv(CLIENT, str(authority.sign("ann")))
    check_reachable()
    monkeypatch.setenv(SERVER, str(Authority(tmp_path, "another").file))
    with pytest.raises(StoreDeniedError, match=r"is not trusted.*certificate verify failed"):
        check_reachable()


@pytest.mark.parametrize("name", [CLIENT, SERVER])
def test_a_file_that_is_missing(
    name: str, secure: Line, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "nowhere.pem")
    with pytest.raises(StoreDeniedError, match=r"cannot be asked: .*nowhere\.pem; check MLFLOW_"):
        check_reachable()
