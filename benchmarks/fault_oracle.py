"""What a folder with a store, its artifacts, journals and outputs holds, in a form to be compared.

Two folders that hold the same give the same, whenever and by however many processes it came to be.
What is left out depends on time or chance, and is named here: columns and figures of time, what
says which process it was, ids (each run is called by its kind and name instead).
"""

from __future__ import annotations

import hashlib
import io
import re
import sqlite3
import zipfile
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

from fm_mlflow import keys

DATABASE = "mlflow.db"
TIMED_METRICS: set[str] = {
    *(keys.EPOCH_SECONDS, keys.MEMORY_RSS, keys.FIT_SECONDS, keys.TOTAL_SECONDS),
    *(keys.THROUGHPUT_TRAINING, keys.SEARCH_SECONDS),
}
TIMED_METRICS |= {
    keys.OF_RECOMMENDED.replace("*", name.replace("/", "_")) for name in TIMED_METRICS
}
"""Their points count, with their steps; their values do not."""

OF_A_PROCESS = {
    *(keys.HEARTBEAT, keys.LEASE, keys.JOURNAL, keys.PROCESS),
    *(keys.PARTS, keys.SAVED_DIGEST, "mlflow.source.git.commit"),
}
"""Tags that say which process it was; the files of a model have the time in them."""

_TIMED_TEXTS = {keys.MLFLOW_RUN_NOTE, keys.VERIFIED_AT}
_TIMED_PREFIXES = ("latency/", "memory/", "throughput/", "fm_mlflow.check")
_OF_LIBRARIES = re.compile(r"tmp$|tmp/tmp[a-z0-9_]{8}(/|$)|.*/\.artifact\.uploading\.\w+$")
"""Temporary files and folders of Keras and MLflow, which a process that is killed leaves."""
_WRITTEN = "/artifacts/output.log"
"""What a job wrote: a benchmark that is killed as the job ends has no more of it."""
_OF_TENSORFLOW = "__autograph_generated_file"
"""Temporary files that TensorFlow leaves in a process that does not end by itself."""
_TIMED_FILES = {
    *("measurements.json", "trainings.json", "timeline.csv", "memory.png"),
}
_TIMED_LINES = re.compile(r"^ *(utc_time_created|model_uuid|model_size_bytes):.*$", re.M)
_LOAD = re.compile(r', "load": "[^"]*"')
_TIME_COLUMN = re.compile("time|timestamp")
_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
_SERIAL = {"experiment_tags", "alembic_version"}

Contents = dict[str, list[str]]


def contents(folder: Path, *, once: bool = False, timed: frozenset[str] = frozenset()) -> Contents:
    """Return what a folder holds, by table of the store and kind of file.

    Args:
        folder: With `mlflow.db`; all else in it counts as well.
        once: Of runs of one kind and name, leave out all but the newest, and of one kind those that
            were killed or failed before one that finished: a command that was repeated has made
            another one. What has not ended counts.
        timed: Names of more files whose contents depend on time.
    """
    found: Contents = defaultdict(list)
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        database.row_factory = sqlite3.Row
        names, dropped = _names(database, once)
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
            for row in database.execute(f'SELECT * FROM "{table}"'):
                values = dict(row)
                if (
                    table not in _SERIAL
                    and values.get("key", values.get("tag_key")) not in OF_A_PROCESS
                    and dropped.isdisjoint(map(str, values.values()))
                ):
                    found[table].append(_named(_row(table, values), names))
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if _OF_LIBRARIES.match(name) or name.endswith(_WRITTEN):
            continue
        if path.is_dir() or name.startswith(DATABASE) or any(each in name for each in dropped):
            if path.is_dir() and not any(path.iterdir()):
                found["empty folders"].append(_named(name, names))
            continue
        if "/artifacts/checkpoint/" not in name and not path.name.startswith(_OF_TENSORFLOW):
            digest = "" if path.name in timed | _TIMED_FILES else _digest(path, names)
            found["files"].append(f"{_named(name, names)} {digest}")
    return {area: sorted(lines) for area, lines in found.items()}


def differences(expected: Contents, found: Contents) -> list[str]:
    """Say what is missing and what is too much, a line each; empty where nothing is."""
    lines = []
    for area in sorted({*expected, *found}):
        left = list(found.get(area, []))
        for line in expected.get(area, []):
            if line in left:
                left.remove(line)
            else:
                lines.append(f"{area}: missing: {line}")
        lines += [f"{area}: too much: {line}" for line in left]
    return lines


def _names(database: sqlite3.Connection, once: bool) -> tuple[dict[str, str], set[str]]:
    """Return what ids are called, and the ids of what is left out."""
    tags = database.execute("SELECT run_uuid, value FROM tags WHERE key = ?", [keys.KIND])
    kinds = dict(tags.fetchall())
    rows = database.execute("SELECT run_uuid, name, status FROM runs ORDER BY start_time")
    names: dict[str, str] = {}
    newest: dict[str, str] = {}
    dropped: set[str] = set()
    runs = rows.fetchall()
    last = {
        kinds.get(run_id): at
        for at, (run_id, _, status) in enumerate(runs)
        if status == keys.FINISHED
    }
    for at, (run_id, name, status) in enumerate(runs):
        is_early = at < last.get(kinds.get(run_id), 0)
        if once and is_early and status not in (keys.FINISHED, keys.RUNNING):
            dropped.add(run_id)
        names[run_id] = f"<{kinds.get(run_id, 'run')} {name}>"
        earlier = newest.get(names[run_id])
        if once and earlier is not None:
            dropped.add(earlier)
        if status != keys.RUNNING:
            newest[names[run_id]] = run_id
    models = database.execute("SELECT model_id, source_run_id FROM logged_models")
    for model_id, run_id in models.fetchall():
        names[model_id] = f"<model of {names.get(run_id, run_id)}>"
        if run_id in dropped:
            dropped.add(model_id)
    inputs = database.execute("SELECT input_uuid, destination_id FROM inputs")
    dropped |= {input_id for input_id, run_id in inputs.fetchall() if run_id in dropped}
    names |= dict.fromkeys(dropped, "")  # where something that is compared names them
    return names, dropped


def _named(text: str, names: dict[str, str]) -> str:
    def name(found: re.Match[str]) -> str:
        return names.get(found[0], names.get(f"m-{found[0]}", "<id>"))

    return _ID.sub(name, text).replace(",,", ",").replace("',", "'").replace(",'", "'")


def _row(table: str, values: dict[str, Any]) -> str:
    key = values.get("key") or values.get("metric_name") or values.get("tag_key")
    if key in _TIMED_TEXTS:
        return f"{values.get('run_uuid', '')} {key}"
    is_timed = str(key).startswith(_TIMED_PREFIXES) and table.startswith("model_version")
    if key in TIMED_METRICS or is_timed:
        values = {**values, "value": "", "metric_value": ""}
    kept = {
        name: value is not None if _TIME_COLUMN.search(name) else value
        for name, value in values.items()
    }
    if key == keys.MACHINE:
        kept["value"] = _LOAD.sub("", str(kept["value"]))
    if table == "model_versions":
        kept["description"] = ""  # the model card has figures of time
    return " ".join(f"{name}={value!r}" for name, value in kept.items())


def _digest(path: Path, names: dict[str, str]) -> str:
    if path.suffix == ".keras":
        return _weights(path)
    data = path.read_bytes()
    try:
        text = _TIMED_LINES.sub("", data.decode())
    except UnicodeDecodeError:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha256(_named(text, names).encode()).hexdigest()


def _weights(path: Path) -> str:
    """Return a digest of all weights in a saved Keras model, the optimizer's included."""
    import h5py

    digest = hashlib.sha256()
    with zipfile.ZipFile(path) as archive:
        data = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(data) as file:

        def add(name: str, each: Any) -> None:
            if isinstance(each, h5py.Dataset):
                digest.update(name.encode() + each[()].tobytes())

        file.visititems(add)
    return digest.hexdigest()
