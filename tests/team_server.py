"""A team's server as `deploy/` starts it, on PostgreSQL and an S3 endpoint of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.processes import PROJECT, free_port, wait_until_it_answers
from tests.stores import NO_JOBS

ADMIN_PASSWORD = "correct-horse-battery"
BUCKET = "mlflow"
COMPOSE = yaml.safe_load((PROJECT / "deploy" / "compose.yaml").read_text())["services"]["mlflow"]
DATABASE_SCHEME = COMPOSE["environment"]["MLFLOW_BACKEND_STORE_URI"].partition(":")[0]


@dataclass(frozen=True)
class TeamServer:
    """A running server.

    Attributes:
        uri: Its tracking URI.
        database: The URI of its database.
        s3: A client of its object store.
        log: What it wrote.
    """

    uri: str
    database: str
    s3: Any
    log: Path

    def credentials(self, password: str = ADMIN_PASSWORD) -> dict[str, str]:
        """The environment of a client."""
        return {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": password}


def postgres_programs() -> Path | None:
    """Return the folder of PostgreSQL's programs; Debian keeps it off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server of its own on a free port; gives the URI of an empty database."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not on this machine (Debian's package: postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="fm_mlflow-postgres-"))
    user: dict[str, Any] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        user = {"user": "postgres", "group": "postgres", "extra_groups": []}
    port = free_port()

    def run(*command: str) -> None:
        subprocess.run(
            [str(programs / command[0]), *command[1:]],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            **user,
        )

    data = str(folder / "data")
    options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
    try:
        run("initdb", "-D", data, "-U", "mlflow", "--auth=trust", "--no-sync", "-E", "UTF8")
        run("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow")
            yield f"{DATABASE_SCHEME}://mlflow@127.0.0.1:{port}/mlflow"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def object_store() -> Iterator[tuple[str, Any]]:
    """moto's S3 endpoint with one bucket; gives its address and a client."""
    import boto3
    from moto.server import ThreadedMotoServer

    port = free_port()
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    try:
        address = f"http://127.0.0.1:{port}"
        client = boto3.client(
            "s3",
            endpoint_url=address,
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="s3-secret-key",
        )
        client.create_bucket(Bucket=BUCKET)
        yield address, client
    finally:
        server.stop()


@contextmanager
def team_server(folder: Path) -> Iterator[TeamServer]:
    """The server that `deploy/compose.yaml` describes, on this machine's ports."""
    with postgres() as database, object_store() as (s3_address, s3):
        port = free_port()
        auth = (PROJECT / "deploy" / "auth.ini").read_text()
        users = auth.replace("/var/lib/mlflow/", f"{folder}/")
        (folder / "auth.ini").write_text(users)
        ours = {
            "MLFLOW_BACKEND_STORE_URI": database,
            "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}",
            "MLFLOW_S3_ENDPOINT_URL": s3_address,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "s3-secret-key",
            "AWS_DEFAULT_REGION": "us-east-1",
            "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
            "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN_PASSWORD,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "flask-secret-key",
            "MLFLOW_SERVER_ALLOWED_HOSTS": "localhost:*,127.0.0.1:*",
        }
        assert set(COMPOSE["environment"]) == set(ours), "the test is not of what is deployed"
        command = [sys.executable, "-m", *_here(COMPOSE["command"], port)]
        log = folder / "server.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=_environment({**ours, **NO_JOBS}),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        uri = f"http://127.0.0.1:{port}"
        try:
            wait_until_it_answers(f"{uri}/health", process, log)
            yield TeamServer(uri, database, s3, log)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            process.wait(timeout=30)


def _here(command: list[str], port: int) -> list[str]:
    """Return the deployed command for this machine: its port, and fewer processes."""
    changes = {"--host": "127.0.0.1", "--port": str(port), "--workers": "1"}
    options = dict(word.split("=") for word in command if "=" in word)
    assert set(changes) <= set(options)
    words = [word for word in command if "=" not in word]
    return [*words, *(f"{name}={value}" for name, value in {**options, **changes}.items())]


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    bin_folder = str(Path(sys.executable).parent)
    return {**os.environ, **ours, "PATH": os.pathsep.join([bin_folder, os.environ["PATH"]])}
