"""Faults at the points at which a run touches disk and store, and whether the oracle can fail."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks import fault_commands
from benchmarks.fault_campaign import chosen
from benchmarks.fault_oracle import DATABASE, contents, differences
from benchmarks.fault_points import FAULTS, Points, install
from fm_mlflow import keys
from fm_mlflow.process.atomic_file import atomic_file
from fm_mlflow.tracking.outbox import records
from fm_mlflow.tracking.outbox.journal import Journal
from tests.processes import PROJECT, START_SECONDS
from tests.stores import Store, copy_store
from tests.trained import Finished

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and fork")


def test_a_sample(tmp_path: Path) -> None:
    """A fixed one; benchmarks/faults.py has all of them."""
    command = [sys.executable, "-m", "benchmarks.faults", "points", "--command", "log"]
    done = subprocess.run(
        [*command, "--fault", "all", "--sample", "8", "--seed", "1"],
        env={**os.environ, "PYTHONPATH": str(PROJECT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=START_SECONDS * 2,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["log"]
    assert found["points"] > 80
    assert found["struck"] >= 6
    assert found["recovered"] == found["struck"], found["broken"]


def test_a_run_that_said_all_is_delivered_and_not_begun_anew(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle would leave the run out that is lost; the recovery has to see it."""
    (tmp_path / "journals").mkdir(mode=0o700)
    monkeypatch.setenv("FM_MLFLOW_JOURNAL_DIR", str(tmp_path / "journals"))
    monkeypatch.setattr(fault_commands, "_log", lambda: pytest.fail("it is begun anew"))
    tags = {str(keys.KIND): str(keys.KIND_TRAINING)}
    header = records.RunStart(store.uri, None, True, "a run", 1, "0", None, tags)
    journal = Journal.create("j-1", header)
    journal.append(records.End(keys.FINISHED, 2), durable=True)
    journal.close()
    with monkeypatch.context() as lost:
        lost.setattr(fault_commands, "_sync", lambda: None)
        with pytest.raises(RuntimeError, match="the journal said all"):
            fault_commands._recover_log()
    fault_commands._recover_log()
    assert [run.info.status for run in store.client.search_runs(["0"])] == [keys.FINISHED]
    store.client.create_run("0", tags=tags)  # the ghost of a request that was not acknowledged
    with pytest.raises(RuntimeError, match="leaves runs"):
        fault_commands._recover_log()


def passed(root: Path, work: Callable[[], None], at: str = "", fault: str = "") -> list[str]:
    """Do something in a fork that passes its points; return them, and how it ended."""
    log = root.parent / "points"
    if not (pid := os.fork()):
        install(Points(root, os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), at, fault))
        try:
            work()
        except BaseException as error:
            os._exit(len(type(error).__name__))
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return [*log.read_text().splitlines(), str(code)]


def test_points_are_where_files_are_touched(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()

    def work() -> None:
        with atomic_file(root / "a.txt", durable=True) as part:
            part.write_text("whole")
        (tmp_path / "elsewhere").write_text("does not count")

    *points, code = passed(root, work)
    assert code == "0"
    assert [point.partition(" process")[0] for point in points] == [
        *("open .a.*.*.part.txt elsewhere#1", "write .a.*.*.part.txt elsewhere#1"),
        *("fsync .a.*.*.part.txt", "rename a.txt", "unlink .a.*.*.part.txt"),
    ]
    write = points[1]
    for fault, expected in {"kill": "-9", "enospc": "7", "memory": "11", "clock": "0"}.items():
        (root / "a.txt").write_text("before")
        *_, code = passed(root, work, write, fault)
        assert code == expected, fault
        assert (root / "a.txt").read_text() == ("before" if code != "0" else "whole")
    assert not list(root.glob(".a.*"))  # the next one removed what SIGKILL had left
    *_, code = passed(root, work, write, "torn")
    (left,) = root.glob(".a.*")
    assert (code, left.read_text()) == ("-9", "wh")


def test_the_choice_of_points() -> None:
    points = [f"write x y:z#{number}" for number in (1, 2, 3, 4)] + ["open x y:z#1"]
    assert chosen(points, 2) == [points[0], points[3], points[4]]
    assert chosen(points, 1) == [points[0], points[4]]
    assert chosen(points, 0) == points
    assert all(set(kinds) for kinds in FAULTS.values())


@pytest.mark.parametrize("finished", ["mlp"], indirect=True)
def test_the_oracle_can_fail(finished: Finished, tmp_path: Path) -> None:
    """It finds whatever is missing, doubled, changed or left over, and nothing where nothing is."""
    folder = tmp_path / "store"
    folder.mkdir()
    copy_store(finished.store, folder)
    expected = contents(folder)
    run_id = finished.result.run_id
    assert differences(expected, contents(folder)) == []

    def changed(sql: str) -> list[str]:
        copy = tmp_path / "copy"
        copy.mkdir(exist_ok=True)
        copy_store(Store("", folder), copy)
        with closing(sqlite3.connect(copy / DATABASE)) as database, database:
            assert database.execute(sql).rowcount == 1, sql
        return differences(contents(folder), contents(copy))

    metric = f"run_uuid = '{run_id}' AND key = 'loss' AND step = 1"
    tag = f"run_uuid = '{run_id}' AND key ="
    for sql in (
        f"DELETE FROM metrics WHERE {metric}",
        f"UPDATE metrics SET value = value + 1e-15 WHERE {metric}",
        f"UPDATE metrics SET step = 7 WHERE {metric}",
        "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) SELECT key, value, "
        f"timestamp + 1, run_uuid, step, is_nan FROM metrics WHERE {metric}",
        f"DELETE FROM tags WHERE {tag} 'fm_mlflow.compiler'",
        f"UPDATE params SET value = '9' WHERE run_uuid = '{run_id}' AND key = 'seed'",
        f"UPDATE runs SET status = 'RUNNING' WHERE run_uuid = '{run_id}'",
        f"UPDATE runs SET end_time = NULL WHERE run_uuid = '{run_id}'",
        f"INSERT INTO tags VALUES ('fm_mlflow.error', 'killed', '{run_id}')",
        f"UPDATE logged_models SET status = 1 WHERE source_run_id = '{run_id}'",
    ):
        assert changed(sql), sql
    (artifacts,) = folder.rglob("predictions")
    for path, text in {
        folder / "journals" / ".run-x.lock": "",
        artifacts / "test.npz": "damaged",
        artifacts / "more.npz": "too much",
    }.items():
        before = path.read_bytes() if path.exists() else None
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        assert differences(expected, contents(folder)), path
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)
    (folder / "journals").rmdir()
    assert differences(expected, contents(folder)) == []
