"""Real SQLite stores whose runs hold what nobody should log, and artifacts to match."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fm_mlflow import FmMlflowError, keys
from fm_mlflow.analysis.records import TrainingRun
from fm_mlflow.process.identity import _OLD_TAGS
from fm_mlflow.settings.selection import Choice
from fm_mlflow.tracking.find_runs import find_runs
from fm_mlflow.tracking.run_details import load_details
from tests.hostile_files import DIGITS, KINDS, mutated
from tests.simulated import Simulated, log_run
from tests.stores import Store, active_store, copy_store, make_store, make_template

_REPORTED = "reported"
_SHARE_REPORTED = 0.2
"""Of the stores; drawing a report takes five times as long as reading and analysing."""

_ARTIFACTS = ("predictions", "measurements", "layers", "model")

TEXTS = (
    *(DIGITS, "9" * 300, "9" * 16, "-1", "0", "1e999", "nan", "inf", "0x10", "1_0", "٣", "1e-400"),
    *("", " ", "\n", "\0", "a\0b", "'", '"', "'a", "''", "a,b", "`", "{", "{{ 1 }}", "%s", "../.."),
    *(
        "\x1b[31m",
        "\x1b]8;;http://x\x07",
        "\u202e",
        "[bold]",
        "<script>",
        "=1+1",
        "\ud7ff",
        "\U0010ffff",
    ),
    *("x" * 8000, "é" * 250, "[" * 3000, "true", "None", "2020-01-01", "0001-01-01T00:00:00"),
    *("9999-12-31T23:59:59+00:00", "mlp", "cnn:build", "file.py:f", ":", "digits", "1.7e308"),
)
NUMBERS = (
    *(0.0, -0.0, -1.0, 1.0, 2.0, 0.5, 1e-320, 1e150, 1e149, -1e149, 1.7976931348623157e308),
    *(-1.7976931348623157e308, 9007199254740993.0, 1e15, 1e16, 5e-324),
)
WHOLES = (0, -1, 1, 2**31, 2**53, 2**62, 2**63 - 1, -(2**63), 10**12, -(10**12))
URIS = (
    *("", "relative", "/nowhere", "file:///nowhere", "file://host/x", "/proc/self", "/dev", "/etc"),
    *(
        "s3://bucket/x",
        "gs://bucket/x",
        "dbfs:/x",
        "mlflow-artifacts:/0/x",
        "unknown://x",
        "runs:/x",
    ),
    *("models:/m-1", "http://127.0.0.1:1/x", "%00", "..", "x" * 5000, "hdfs://h/x", "::", "file:"),
)


def write_artifact(folder: Path, kind: str, content: bytes) -> None:
    path = folder / KINDS[kind].name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_bytes(content)


@contextmanager
def one_run(template: Path, folder: Path) -> Iterator[TrainingRun]:
    """Give a run whose artifacts and model are in one folder, valid where they are missing."""
    store = template / "one" / "mlflow.db"
    if not store.exists():
        (template / "one").mkdir(parents=True)
        made = make_store(make_template(template), template / "one")
        with active_store(made):
            made.client.create_logged_model("0", name="m")
    with sqlite3.connect(store) as database:
        database.execute("UPDATE logged_models SET artifact_location = ?", [str(folder)])
        ((model,),) = database.execute("SELECT model_id FROM logged_models").fetchall()
    for kind in _ARTIFACTS:
        if not os.path.lexists(folder / KINDS[kind].name):
            write_artifact(folder, kind, KINDS[kind].valid)
    with active_store(Store(f"sqlite:///{store}", store.parent)):
        yield TrainingRun(
            run_id="0" * 32,
            name="hostile",
            model="mlp",
            config={},
            seed=0,
            metrics={keys.FLOPS_TRAINING: 1.0},
            version="0",
            artifact_uri=str(folder),
            model_uri=f"models:/{model}",
        )


class HostileStores:
    """Stores of six runs, some of them hostile.

    Args:
        folder: Where the store is that all are copied from.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "valid").mkdir()
        self._template = make_store(make_template(folder), folder / "valid")
        with active_store(self._template):
            client = self._template.client
            for seed in range(3):
                for model in ("mlp", "cnn"):
                    run_id = log_run(client, Simulated(model, seed, 0.88 + seed / 100))
                    logged = client.create_logged_model("0", name="m", source_run_id=run_id)
                    place = Path(logged.artifact_location)
                    place.mkdir(parents=True)
                    (place / "MLmodel").write_bytes(KINDS["model"].valid)
                    client.log_outputs(run_id, [_output(logged.model_id)])

    def make(self, folder: Path, draw: random.Random) -> None:
        """Make a store: every third run or so gets one to three hostile values or files."""
        copy_store(self._template, folder)
        if draw.random() < _SHARE_REPORTED:
            (folder / _REPORTED).touch()
        with sqlite3.connect(folder / "mlflow.db") as database:
            database.execute("PRAGMA ignore_check_constraints = ON")
            rows = database.execute("SELECT run_uuid, artifact_uri FROM runs").fetchall()
            for run_id, artifacts in rows:
                if draw.random() < 0.4:
                    for _ in range(draw.choice([1, 2, 3])):
                        _spoil(database, draw, run_id, Path(artifacts))

    def read(self, folder: Path) -> bool:
        """Read and analyse a store, one in five with its report; True if anything was refused."""
        import fm_mlflow
        from fm_mlflow.commands.compare import choose

        with active_store(Store(f"sqlite:///{folder / 'mlflow.db'}", folder)):
            os.chdir(folder)
            try:
                fm_mlflow.runs()
                found = find_runs(Choice())
                problems = [load.problems for load in load_details(found.runs).values()]
                choose(Choice())
                if (folder / _REPORTED).exists():
                    fm_mlflow.compare(output=str(folder / "report"))
            except FmMlflowError:
                return True
            return bool(found.skipped) or any(problems)


def _output(model_id: str) -> Any:
    from mlflow.entities import LoggedModelOutput

    return LoggedModelOutput(model_id, step=0)


def _spoil(database: sqlite3.Connection, draw: random.Random, run_id: str, folder: Path) -> None:
    """Put one hostile thing into a run."""
    match draw.randrange(9):
        case 0 | 1:
            kind = draw.choice(_ARTIFACTS)
            found = KINDS[kind]
            case = draw.choice([*found.cases.values()])
            content = case() if draw.random() < 0.5 else mutated(draw, found.valid)
            place = folder if kind != "model" else _model_folder(database, run_id)
            write_artifact(place, kind, content)
        case 2:
            _odd_file(draw, folder / KINDS[draw.choice(_ARTIFACTS[:3])].name)
        case 3 | 4:
            table = draw.choice(["tags", "params"])
            names = [row[0] for row in database.execute(f"SELECT DISTINCT key FROM {table}")]
            name = draw.choice([*names, *_OUR_TAGS, *TEXTS])
            _put(database, table, run_id, name, draw.choice(TEXTS))
        case 5:
            names = [row[0] for row in database.execute("SELECT DISTINCT key FROM latest_metrics")]
            name = draw.choice([*names, *TEXTS])
            for step in range(draw.choice([1, 1, 3, 200])):
                _point(database, draw, run_id, name, step)
        case 6:
            column = draw.choice(["start_time", "end_time", "name", "status", "artifact_uri"])
            texts = {"name": TEXTS, "status": (*TEXTS, "RUNNING", "FAILED"), "artifact_uri": URIS}
            value = draw.choice([None, *texts.get(column, WHOLES)])
            if not (value is None and column in ("status", "artifact_uri")):
                database.execute(
                    f"UPDATE runs SET {column} = ? WHERE run_uuid = ?", [value, run_id]
                )
        case 7:
            database.execute("UPDATE runs SET status = 'RUNNING' WHERE run_uuid = ?", [run_id])
            for name in _OUR_TAGS:
                if draw.random() < 0.7:
                    _put(database, "tags", run_id, name, draw.choice(TEXTS))
        case _:
            _many(database, draw, run_id)


_OUR_TAGS = [
    *(keys.KIND, keys.JOBS, keys.VERSION, keys.ERROR, keys.HEARTBEAT, keys.EXTENDED_EPOCHS),
    *(
        keys.PROCESS,
        keys.MACHINE,
        *_OLD_TAGS,
    ),
    *(keys.MACHINE_CORES, keys.MACHINE_LOAD, keys.MODEL, "seed", "epochs", "validation_split"),
]


def _many(database: sqlite3.Connection, draw: random.Random, run_id: str) -> None:
    """Log too much: many values, long ones, or many points."""
    match draw.randrange(4):
        case 0:
            for number in range(1500):
                _put(database, "params", run_id, f"p{number}", "1")
        case 1:
            _put(database, "tags", run_id, "long", "x" * 2_000_000)
        case 2:
            for number in range(900):
                _point(database, draw, run_id, f"m{number}", 1)
        case _:
            points = [(keys.VAL_LOSS, 0.5, n, run_id, n, 0) for n in range(60_000)]
            statement = "INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?, ?, ?)"
            database.executemany(statement, points)


def _put(database: sqlite3.Connection, table: str, run_id: str, name: str, value: str) -> None:
    database.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)", [name, value, run_id])


def _point(
    database: sqlite3.Connection, draw: random.Random, run_id: str, name: str, step: int
) -> None:
    value, is_nan = draw.choice(NUMBERS), int(draw.random() < 0.1)
    when, at = draw.choice([1000, *WHOLES]), draw.choice([step, step, *WHOLES])
    database.execute(
        "INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?, ?, ?)",
        [name, value, when, run_id, at, is_nan],
    )
    database.execute(
        "INSERT OR REPLACE INTO latest_metrics VALUES (?, ?, ?, ?, ?, ?)",
        [name, value, when, at, is_nan, run_id],
    )


def _model_folder(database: sqlite3.Connection, run_id: str) -> Path:
    found = database.execute(
        "SELECT artifact_location FROM logged_models WHERE source_run_id = ?", [run_id]
    ).fetchone()
    return Path(found[0])


def _odd_file(draw: random.Random, path: Path) -> None:
    """Put what is no regular file where an artifact was."""
    if path.is_dir() and not path.is_symlink():
        return
    path.unlink(missing_ok=True)
    match draw.randrange(6):
        case 0:
            os.mkfifo(path)
        case 1:
            path.symlink_to(path.name)
        case 2:
            path.symlink_to(draw.choice(["/dev/zero", "/dev/stdin", "/proc/kmsg", "/etc/passwd"]))
        case 3:
            path.mkdir()
        case 4:
            with path.open("wb") as file:
                file.truncate(1 << 40)
        case _:
            path.symlink_to("/nowhere")
