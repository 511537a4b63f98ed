"""Tracking stores of a test's own: SQLite files, a real server, and the command that logs there."""

from __future__ import annotations

import functools
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.store.db import utils as mlflow_schema
from mlflow.tracking import MlflowClient

from tests import forked
from tests.processes import START_SECONDS, free_port, wait_until_it_answers

# MLflow reads its 67 migrations for each store that is opened, to know which is the last.
mlflow_schema._get_latest_schema_revision = functools.cache(
    mlflow_schema._get_latest_schema_revision
)

SERVER = """
import os, runpy, signal, threading
def end_with_the_tests():
    with open("alive") as pipe:
        pipe.read()
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=end_with_the_tests, daemon=True).start()
runpy.run_module("mlflow", run_name="__main__", alter_sys=True)
"""
"""By SIGKILL, to the whole group: a server ends slowly, and nothing of it is to last."""

NO_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""For servers: their queues of language-model jobs would be seven processes more."""


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


def make_template(folder: Path) -> Path:
    """Make an empty, migrated store: migrating takes seconds, copying nothing."""
    path = folder / "template.db"
    if not path.exists():
        MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


def make_store(template: Path, folder: Path) -> Store:
    database = folder / "mlflow.db"
    shutil.copy(template, database)
    with sqlite3.connect(database) as connection:
        artifacts = str(folder / "mlruns" / "0")
        connection.execute("UPDATE experiments SET artifact_location = ?", [artifacts])
    return Store(f"sqlite:///{database}", folder)


def copy_store(original: Store, folder: Path) -> Store:
    """Copy a store with all its runs, models and artifacts: training them again takes seconds."""
    shutil.copytree(original.folder, folder, dirs_exist_ok=True)
    places = [
        ("experiments", "artifact_location"),
        ("runs", "artifact_uri"),
        ("logged_models", "artifact_location"),
    ]
    with sqlite3.connect(folder / "mlflow.db") as connection:
        for table, column in places:
            connection.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)",
                [str(original.folder), str(folder)],
            )
    return Store(f"sqlite:///{folder / 'mlflow.db'}", folder)


@contextmanager
def active_store(store: Store) -> Iterator[Store]:
    """Make a store the one that this process logs to."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(store.uri)
    try:
        yield store
    finally:
        mlflow.set_tracking_uri(before)


def tracking_server(template: Path, folder: Path) -> Store:
    """Return the real MLflow tracking server of a folder, on a port of 127.0.0.1.

    The first call starts it. It ends when nobody holds the folder's pipe `alive` open any more.
    """
    address = folder / "server.address"
    if address.exists():
        return Store(address.read_text(), folder)
    backend = make_store(template, folder)
    with sqlite3.connect(folder / "mlflow.db") as connection:
        # Artifacts through the server, as a team's clients see them.
        connection.execute("UPDATE experiments SET artifact_location = 'mlflow-artifacts:/0'")
    port = free_port()
    command = [
        *(sys.executable, "-c", SERVER, "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", backend.uri, "--workers", "1"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    log = folder / "server.log"
    with log.open("w") as output:
        process = forked.Popen(
            command,
            cwd=folder,
            env={**os.environ, **NO_JOBS},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    wait_until_it_answers(f"{url}/health", process, log)
    address.write_text(url)
    return Store(url, folder)


def fm_mlflow(
    *arguments: str, store: Store, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end in a process of its own."""
    return forked.run(
        [sys.executable, "-m", "fm_mlflow", *arguments],
        cwd=cwd or store.folder,
        env=store.environment(**environment),
        timeout=START_SECONDS * 2,
    )
