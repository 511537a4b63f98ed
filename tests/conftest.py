"""What every test shares: real stores, real processes, real servers."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
import requests
from mlflow.tracking import MlflowClient

from fm_mlflow.data import fashion_mnist

pytest_plugins = ["tests.trained"]

PROJECT = Path(__file__).parents[1]
START_SECONDS = 120
"""How long a process may take until it shows that it works: TensorFlow imports slowly."""
NO_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""For servers: their queues of language-model jobs would be seven processes more."""


def pytest_configure() -> None:
    """Hear SIGINT, in the processes that tests start too.

    A shell starts its background jobs with SIGINT ignored; the command respects that, as every
    program should, but tests of Ctrl-C could then show nothing.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["FM_MLFLOW_JOURNAL_DIR"] = tempfile.mkdtemp(prefix="fm_mlflow-journals-")


def pytest_unconfigure() -> None:
    """Leave no journals behind."""
    shutil.rmtree(os.environ["FM_MLFLOW_JOURNAL_DIR"], ignore_errors=True)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's own MLflow reaches a test, and no test reaches it."""
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(autouse=True)
def _no_open_run() -> Iterator[None]:
    """Fail a test that leaves a run open: the next one would join it."""
    yield
    left = mlflow.active_run()
    if left is not None:
        while mlflow.active_run() is not None:
            mlflow.end_run()
        pytest.fail(f"the test left run {left.info.run_id} open")


@pytest.fixture(scope="session")
def store_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty, migrated store: migrating takes seconds, copying nothing."""
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@dataclass(frozen=True)
class Store:
    """A tracking store of a test's own."""

    uri: str
    folder: Path

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.uri)

    def only_run(self) -> mlflow.entities.Run:
        (run,) = self.client.search_runs(["0"])
        return run

    def environment(self, **more: str) -> dict[str, str]:
        """For a process that is to log here."""
        return {**os.environ, "MLFLOW_TRACKING_URI": self.uri, **more}


def make_store(template: Path, folder: Path) -> Store:
    database = folder / "mlflow.db"
    shutil.copy(template, database)
    with sqlite3.connect(database) as connection:
        artifacts = str(folder / "mlruns" / "0")
        connection.execute("UPDATE experiments SET artifact_location = ?", [artifacts])
    return Store(f"sqlite:///{database}", folder)


@pytest.fixture
def store(store_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A fresh SQLite store, active in this process; its folder is the working directory."""
    made = make_store(store_template, tmp_path)
    monkeypatch.chdir(tmp_path)
    with active_store(made):
        yield made


class active_store:  # noqa: N801 - used as a function
    """Make a store the one that this process logs to."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __enter__(self) -> Store:
        self._before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(self._store.uri)
        return self._store

    def __exit__(self, *_: object) -> None:
        mlflow.set_tracking_uri(self._before)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.1)
    pytest.fail(f"waited {seconds:.0f} s for {what}")


def wait_until_it_answers(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server that was started answers at an address; fail with its log if it ends."""

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return requests.get(address, timeout=1).ok
        except requests.RequestException:
            return False

    wait_for(answers, f"the server at {address}")


@pytest.fixture(scope="session")
def server(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A real MLflow tracking server on a free port of 127.0.0.1."""
    folder = tmp_path_factory.mktemp("server")
    backend = make_store(store_template, folder)
    with sqlite3.connect(folder / "mlflow.db") as connection:
        # Artifacts through the server, as a team's clients see them.
        connection.execute("UPDATE experiments SET artifact_location = 'mlflow-artifacts:/0'")
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", backend.uri, "--workers", "1"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **NO_JOBS},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_it_answers(f"{url}/health", process, log)
        yield Store(url, folder)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # nothing of it is to last; it ends slowly
        process.wait(timeout=30)


def fm_mlflow(
    *arguments: str, store: Store, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "fm_mlflow", *arguments],
        cwd=cwd or store.folder,
        env=store.environment(**environment),
        capture_output=True,
        text=True,
        timeout=START_SECONDS * 2,
        check=False,
    )


@pytest.fixture
def fashion_mnist_folder() -> Path:
    """The real data, where this machine has them (FM_MLFLOW_DATA_DIR names their folder)."""
    folder = next(
        (place for place in fashion_mnist.search_path() if not fashion_mnist.missing(place)), None
    )
    if folder is None:
        pytest.skip("Fashion-MNIST is not on this machine: set FM_MLFLOW_DATA_DIR to its folder")
    return folder
