"""A team's server as `deploy/` starts it, on PostgreSQL and an S3 endpoint of this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dotenv
import pytest
import yaml

from tests.processes import PROJECT, free_port, wait_until_it_answers
from tests.stores import NO_JOBS

DEPLOY = PROJECT / "deploy"
SERVICES = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]

# Each has what a URI, a shell or the file of settings might take for something else.
ADMIN_PASSWORD = "correct:horse@battery/staple %41?"
DATABASE_PASSWORD = """p@ss:w/rd %2F #1 "two" it's $HOME é"""
BUCKET = "mlflow"
S3_SECRET = """s3 @secret/key+$1%20#'"""


@dataclass(frozen=True)
class TeamServer:
    """A running server.

    Attributes:
        uri: Its tracking URI.
        s3: A client of its object store.
        log: What it wrote.
    """

    uri: str
    s3: Any
    log: Path

    def credentials(self, password: str = ADMIN_PASSWORD, user: str = "admin") -> dict[str, str]:
        """The environment of a client."""
        return {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}


def postgres_programs() -> Path | None:
    """Return the folder of PostgreSQL's programs; Debian keeps it off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server of its own, on a free port; gives its URI, without the password."""
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
            env={**os.environ, "PGPASSWORD": DATABASE_PASSWORD},
            check=True,
            stdout=subprocess.DEVNULL,
            **user,
        )

    (folder / "password").write_text(DATABASE_PASSWORD, encoding="utf-8")
    data = str(folder / "data")
    options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
    try:
        auth = ("--auth=scram-sha-256", f"--pwfile={folder / 'password'}")
        run("initdb", "-D", data, "-U", "mlflow", *auth, "--no-sync", "-E", "UTF8")
        run("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow")
            uri = SERVICES["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"]
            yield uri.replace("postgres:5432", f"127.0.0.1:{port}")
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
            aws_secret_access_key=S3_SECRET,
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
        settings = {
            **dotenv.dotenv_values(DEPLOY / "example.env"),
            **_as_written(
                folder / "deploy.env",
                POSTGRES_PASSWORD=DATABASE_PASSWORD,
                MLFLOW_ADMIN_PASSWORD=ADMIN_PASSWORD,
                FLASK_SECRET_KEY="flask-secret-key",
                S3_ENDPOINT_URL=s3_address,
                S3_ACCESS_KEY_ID="key",
                S3_SECRET_ACCESS_KEY=S3_SECRET,
                ALLOWED_HOSTS="localhost:*,127.0.0.1:*",
            ),
        }
        ours = interpolated(SERVICES["mlflow"]["environment"], settings)
        ours["MLFLOW_BACKEND_STORE_URI"] = database
        auth = (DEPLOY / "auth.ini").read_text().replace("/var/lib/mlflow/", f"{folder}/")
        (folder / "auth.ini").write_text(auth)
        ours["MLFLOW_AUTH_CONFIG_PATH"] = str(folder / "auth.ini")
        command = [sys.executable, "-m", *_here(SERVICES["mlflow"]["command"], port)]
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
            yield TeamServer(uri, s3, log)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            process.wait(timeout=30)


def interpolated(
    environment: Mapping[str, str], settings: Mapping[str, str | None]
) -> dict[str, str]:
    """Fill in `${NAME:?}` and `${NAME:-default}` as Docker Compose does: once, literally."""

    def value(found: re.Match[str]) -> str:
        name, otherwise, default = found.groups()
        given = settings.get(name) or ""
        assert given or otherwise == ":-", f"{name} must be set"
        return given or default

    pattern = re.compile(r"\$\{(\w+)(:[?-])([^}]*)\}")
    return {name: pattern.sub(value, text) for name, text in environment.items()}


def _as_written(path: Path, **settings: str) -> dict[str, str | None]:
    """Return settings as they are read from a file that is written as `example.env` says."""
    quoted = {name: value.replace("'", r"\'") for name, value in settings.items()}
    lines = [f"{name}='{value}'" for name, value in quoted.items()]
    path.write_text("\n".join(lines), encoding="utf-8")
    return dotenv.dotenv_values(path, interpolate=False)


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
