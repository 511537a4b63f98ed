"""Runs and their stores, in good and in bad days: what is in the store in the end."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from fm_mlflow import InputError, TrackingError, keys, reconcile, sync
from fm_mlflow.data.dataset import Subset
from fm_mlflow.process.file_lock import LockedError
from fm_mlflow.process.identity import (
    ProcessIdentity,
    kernel_killed_for_memory,
    this_process,
)
from fm_mlflow.settings.selection import Choice
from fm_mlflow.tracking.find_runs import find_runs
from fm_mlflow.tracking.outbox import heartbeat
from fm_mlflow.tracking.outbox.journal import Journal
from fm_mlflow.tracking.outbox.records import Batch, Point, RunStart
from fm_mlflow.tracking.outbox.remote_run import utc_now
from fm_mlflow.tracking.ownership import Resumption
from fm_mlflow.tracking.run import TrackedRun
from tests import forked
from tests.outages import Line, Way
from tests.processes import START_SECONDS, wait_for
from tests.stores import Store, active_store

EPOCHS = 6


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Journals of a test's own, and no patience with stores that fail on purpose."""
    folder = tmp_path / "journals"
    monkeypatch.setenv("FM_MLFLOW_JOURNAL_DIR", str(folder))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    return folder


@pytest.fixture
def line(server: Store) -> Iterator[Line]:
    made = Line(server)
    with active_store(made.store(server)):
        yield made
    made.close()


def log_epoch(run: TrackedRun, epoch: int) -> None:
    run.log_metrics({"loss": 1 / epoch, "odd": math.nan if epoch == 2 else math.inf}, step=epoch)


def log_everything(run: TrackedRun, outage: Line | None = None, way: Way = Way.CUT) -> None:
    """Log one of each kind; in the middle of it, the store goes and maybe comes back."""
    run.log_params({"epochs": EPOCHS, "naïve ü": "x" * 10_000, "sql": "'; DROP TABLE runs; --"})
    images = np.zeros((4, 28, 28), np.uint8)
    subset = Subset(images, np.zeros(4, np.uint8))
    run.log_dataset("zeros", subset, "training", "here")
    with run.artifacts() as folder:
        (folder / "first.txt").write_text("first")
    for epoch in range(1, EPOCHS + 1):
        log_epoch(run, epoch)
        if outage and epoch == 2:
            time.sleep(0.5)  # some is delivered, some is not
            outage.set(way)
    with run.artifacts() as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "second ☃.txt").write_text("second")
    run.log_metrics({"test_loss": 0.5})


def contents(store: Store, run_id: str, folder: Path) -> dict[str, Any]:
    """All that a store knows of a run, but for times and ids."""
    client = store.client
    run = client.get_run(run_id)
    own = {keys.JOURNAL, keys.HEARTBEAT, keys.LEASE, *this_process().tags()}
    downloaded = Path(client.download_artifacts(run_id, "", str(folder)))
    return {
        "status": run.info.status,
        "name": run.info.run_name,
        "params": run.data.params,
        "tags": {key: value for key, value in run.data.tags.items() if key not in own},
        "points": {
            key: [
                (point.step, repr(point.value)) for point in client.get_metric_history(run_id, key)
            ]
            for key in run.data.metrics
        },
        "artifacts": {
            str(path.relative_to(downloaded)): path.read_bytes()
            for path in downloaded.rglob("*")
            if path.is_file()
        },
        "inputs": [
            (each.dataset.name, each.dataset.digest, [tag.value for tag in each.tags])
            for each in (run.inputs.dataset_inputs if run.inputs else [])
        ],
    }


@pytest.fixture(scope="session")
def undisturbed(server: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with active_store(server), TrackedRun("training", "a run") as run:
        log_everything(run)
    assert run.pending == ""
    return contents(server, run.run_id, tmp_path_factory.mktemp("undisturbed"))


def test_what_is_logged_is_in_the_store(undisturbed: dict[str, Any]) -> None:
    assert undisturbed["status"] == "FINISHED"
    assert undisturbed["params"]["sql"] == "'; DROP TABLE runs; --"
    assert undisturbed["params"]["naïve ü"] == "x" * 6000
    assert b"x" * 10_000 in undisturbed["artifacts"]["params.json"]
    assert [step for step, _ in undisturbed["points"]["loss"]] == [*range(1, EPOCHS + 1)]
    assert undisturbed["points"]["odd"][1] == (2, "nan")
    assert float(undisturbed["points"]["odd"][0][1]) >= 1.79e308  # SQL stores' infinity
    assert undisturbed["artifacts"]["deep/second ☃.txt"] == b"second"
    assert [name for name, _, _ in undisturbed["inputs"]] == ["zeros"]


def test_the_journal_of_a_delivered_run_is_gone(store: Store, root: Path) -> None:
    with TrackedRun("training", "a run") as run:
        log_everything(run)
        assert list(root.iterdir())
        assert mlflow.active_run() is not None
    assert list(root.iterdir()) == []
    assert mlflow.active_run() is None
    last = mlflow.last_active_run()
    assert last is not None
    assert last.info.run_id == run.run_id


def test_a_parameter_that_is_hidden_is_named(store: Store) -> None:
    notices: list[str] = []
    with TrackedRun("training", "a run", notice=notices.append) as run:
        run.log_params({"model.token": "abc123", "model.token_dim": "1024", "seed": "0"})
        run.log_params({"model": "my.py:build?password=7&width=3"})
    assert notices == [
        "the parameter model.token looks like a secret: it is logged as ***",
        "a part of the parameter model looks like a secret: it is logged as ***",
    ]
    params = store.only_run().data.params
    assert params.pop("model") == "my.py:build?password=***&width=3"
    assert params == {"model.token": "***", "model.token_dim": "1024", "seed": "0"}


def test_settings_are_json_whatever_is_hidden_of_them(store: Store) -> None:
    model = 'it says password=abc"def; Cookie: a=1; b="2" api_key=c\\'
    with TrackedRun("training", "a run", settings={"model": model, "epochs": 3}):
        pass
    settings = json.loads(store.only_run().data.tags[keys.SETTINGS])
    assert settings["epochs"] == 3
    assert "abc" not in settings["model"]


@pytest.mark.parametrize("way", [Way.CUT, Way.SILENT, Way.ILL], ids=lambda way: way.name)
def test_a_store_that_goes_and_comes_back(
    line: Line, server: Store, undisturbed: dict[str, Any], tmp_path: Path, way: Way
) -> None:
    notices: list[str] = []
    started = time.monotonic()
    with TrackedRun("training", "a run", notice=notices.append) as run:
        log_everything(run, line, way)
        assert time.monotonic() - started < 3  # logging waits for nobody
        threading.Timer(1, line.set, [Way.OPEN]).start()
    assert run.pending == ""
    assert contents(server, run.run_id, tmp_path / "got") == undisturbed
    assert notices[-1] == "the tracking store answers again"
    assert len(notices) == 2


def test_a_store_that_stays_away_and_sync(
    line: Line, server: Store, undisturbed: dict[str, Any], tmp_path: Path, root: Path
) -> None:
    notices: list[str] = []
    with TrackedRun("training", "a run", flush_timeout=0.5, notice=notices.append) as run:
        log_everything(run, line)
    ended = time.time() * 1000
    (folder,) = root.iterdir()
    assert run.pending == notices[-1]
    assert f"records of run {run.run_id} are not in the store yet" in run.pending
    assert f"`fm-mlflow sync` delivers them from {folder}" in run.pending
    (failed,) = sync().journals  # still away
    assert failed.pending
    time.sleep(0.5)
    line.set(Way.OPEN)
    (done,) = sync([run.run_id]).journals
    assert (done.run_id, done.pending) == (run.run_id, "")
    assert contents(server, run.run_id, tmp_path / "got") == undisturbed
    end_time = server.client.get_run(run.run_id).info.end_time
    assert ended - 2000 < end_time <= ended  # when it ended, not when it was delivered
    assert list(root.iterdir()) == []
    assert sync().journals == []


def test_a_store_that_was_never_there(
    line: Line, server: Store, undisturbed: dict[str, Any], tmp_path: Path, root: Path
) -> None:
    line.set(Way.CUT)
    notices: list[str] = []
    with TrackedRun("training", "a run", flush_timeout=0, notice=notices.append) as run:
        log_everything(run)
    assert "goes on offline" in notices[0]
    assert run.run_id == next(root.iterdir()).name
    line.set(Way.OPEN)
    (done,) = sync([run.run_id]).journals
    assert contents(server, done.run_id, tmp_path / "got") == undisturbed
    stored = server.client.get_run(done.run_id)
    assert stored.data.tags[keys.JOURNAL] == run.run_id
    assert stored.info.start_time < stored.info.end_time


def test_delivering_again_changes_nothing(
    line: Line, server: Store, undisturbed: dict[str, Any], tmp_path: Path, root: Path
) -> None:
    with TrackedRun("training", "a run", flush_timeout=0.5) as run:
        log_everything(run, line)
    line.set(Way.OPEN)
    (folder,) = root.iterdir()
    copy = (folder / "journal.jsonl").read_bytes()
    states = [b'{"position": 0}', f'{{"run_id": "{run.run_id}", "position": 0}}'.encode()]
    for number, state in enumerate(states):  # as if the process had died before it noted anything
        folder.mkdir(exist_ok=True)
        artifacts = [("1", "first.txt", "first"), ("2", "deep/second ☃.txt", "second")]
        for artifact, name, text in artifacts:
            path = folder / "artifacts" / artifact / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        long_params = folder / "artifacts" / "3" / "params.json"
        long_params.parent.mkdir(exist_ok=True)
        long_params.write_bytes(undisturbed["artifacts"]["params.json"])
        (folder / "journal.jsonl").write_bytes(copy)
        (folder / "state.json").write_bytes(state)
        (done,) = sync().journals
        assert (done.run_id, done.pending) == (run.run_id, "")  # found by its tag: no ghost
        assert contents(server, run.run_id, tmp_path / str(number)) == undisturbed


def test_the_store_refuses_one_value(store: Store, root: Path) -> None:
    with TrackedRun("training", "a run", flush_timeout=5) as run:
        run.log_metrics({"bad\nname": 1.0, "good": 2.0})
        run.log_params({"": "no name", "fine": 1})
        run.log_metrics({"after": 3.0})
    data = store.only_run().data
    assert (data.metrics, data.params) == ({"good": 2.0, "after": 3.0}, {"fine": "1"})
    assert store.only_run().info.status == "FINISHED"
    assert "2 records of run" in run.pending
    assert "refused by the store, first record" in run.pending
    assert "Invalid value" in run.pending or "bad" in run.pending
    assert len(list(root.iterdir())) == 1  # kept: it is nowhere else


def test_the_run_is_deleted_meanwhile(store: Store, root: Path) -> None:
    notices: list[str] = []
    with TrackedRun("training", "a run", notice=notices.append) as run:
        log_epoch(run, 1)
        wait_for(lambda: bool(store.only_run().data.metrics), "the first epoch", 10)
        store.client.delete_run(run.run_id)
        log_epoch(run, 2)
    assert notices[0].startswith(f"run {run.run_id} was deleted in the store")
    assert "not in the store" in run.pending
    assert len(list(root.iterdir())) == 1


def test_an_artifact_store_that_cannot_be_written(store: Store, root: Path) -> None:
    (store.folder / "mlruns").write_text("a file where the artifacts' folder should be")
    with TrackedRun("training", "a run", flush_timeout=5) as run:
        log_everything(run)
    stored = store.only_run()
    assert stored.info.status == "FINISHED"
    assert len(store.client.get_metric_history(run.run_id, "loss")) == EPOCHS
    assert "refused by the store" in run.pending
    (store.folder / "mlruns").unlink()
    (done,) = sync().journals
    assert done.pending == ""
    assert store.client.download_artifacts(run.run_id, "deep/second ☃.txt")


def test_a_proxy_that_takes_no_large_files(
    line: Line, server: Store, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    line.set(Way.TOO_LARGE)
    with TrackedRun("training", "a run", flush_timeout=5) as run:
        log_everything(run)
    assert "413" in run.pending
    stored = server.client.get_run(run.run_id)
    assert stored.info.status == "FINISHED"
    line.set(Way.OPEN)
    assert sync().complete
    assert contents(server, run.run_id, tmp_path / "got") == undisturbed


def test_a_locked_database(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with TrackedRun("training", "a run") as run:
        other = sqlite3.connect(store.folder / "mlflow.db", check_same_thread=False)
        other.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        for epoch in range(1, EPOCHS + 1):
            log_epoch(run, epoch)
        assert time.monotonic() - started < 1
        threading.Timer(1, other.rollback).start()
    assert run.pending == ""
    assert len(store.client.get_metric_history(run.run_id, "loss")) == EPOCHS
    other.close()


def test_a_clock_that_jumps_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with TrackedRun("training", "a run") as run:
        log_epoch(run, 1)
        monkeypatch.setattr(time, "time_ns", lambda: 0)
        monkeypatch.setattr(time, "time", lambda: 0.0)
        log_epoch(run, 2)
        monkeypatch.undo()
    first, second = store.client.get_metric_history(run.run_id, "loss")
    assert first.timestamp <= second.timestamp
    stored = store.only_run()
    assert stored.info.start_time <= first.timestamp
    assert second.timestamp <= stored.info.end_time


def test_a_password_is_not_in_the_journal(line: Line, server: Store, root: Path) -> None:
    line.set(Way.CUT)
    secret = Store(line.uri.replace("//", "//ann:longsecret@"), server.folder)
    with active_store(secret), TrackedRun("training", "a run", flush_timeout=0) as run:
        log_epoch(run, 1)
    assert "longsecret" not in run.pending
    (folder,) = root.iterdir()
    assert all(b"longsecret" not in path.read_bytes() for path in folder.iterdir())
    line.set(Way.OPEN)
    (refused,) = sync().journals
    assert "set MLFLOW_TRACKING_URI to it, with its password" in refused.pending
    with active_store(secret):
        (done,) = sync().journals
    assert done.pending == ""


def test_sync_of_what_is_not_there_or_in_use(store: Store, root: Path) -> None:
    with TrackedRun("training", "a run") as run:
        assert sync().in_use == [next(root.iterdir()).name]
        with pytest.raises(LockedError, match=f"process {os.getpid()} holds"):
            sync([run.run_id])
    with pytest.raises(InputError, match="there is none, all is delivered"):
        sync(["nothing"])


def one_of_many(number: int) -> None:
    """Log a run when all are ready."""
    Path(f"{number}.ready").touch()
    wait_for(Path("go").exists, "the others")
    with TrackedRun("training", f"run {number}") as run:
        for epoch in range(1, 21):
            run.log_metrics({"loss": 1 / epoch, "number": float(number)}, step=epoch)
    assert run.pending == ""


@pytest.mark.parametrize("where", ["a new database", "a server"])
def test_many_at_once_on_a_store_that_does_not_exist_yet(
    where: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The first start of all: MLflow's own migration would have all but one of them fail.

    So would its making of the experiment, on a server.
    """
    is_new = where == "a new database"
    store = (
        Store(f"sqlite:///{tmp_path / 'new.db'}", tmp_path)
        if is_new
        else request.getfixturevalue("server")
    )
    environment = store.environment(MLFLOW_EXPERIMENT_NAME=f"of {tmp_path.name}")
    del environment["MLFLOW_EXPERIMENT_ID"]
    outputs = [tmp_path / f"{number}.log" for number in range(3)]
    processes = [
        forked.start(
            one_of_many,
            number,
            environment=environment,
            output=output,
        )
        for number, output in enumerate(outputs)
    ]
    wait_for(lambda: len(list(tmp_path.glob("*.ready"))) == 3, "the processes")
    (tmp_path / "go").touch()
    for process in processes:
        process.wait(START_SECONDS)
    said = [output.read_text() for output in outputs]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    if is_new:
        assert sum("Creating initial MLflow database" in each for each in said) == 1
    experiment = store.client.get_experiment_by_name(environment["MLFLOW_EXPERIMENT_NAME"])
    assert experiment is not None
    runs = store.client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == [f"run {number}" for number in range(3)]
    for run in runs:
        assert run.info.status == "FINISHED"
        points = store.client.get_metric_history(run.info.run_id, "loss")
        assert [(each.step, each.value) for each in points] == [
            (epoch, 1 / epoch) for epoch in range(1, 21)
        ]


@pytest.fixture
def little_memory() -> Iterator[Path]:
    """The file that puts a process into a control group of 64 MiB."""
    found = re.search(
        r"^\d+:(memory|):/?(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE
    )
    if found is None:
        pytest.skip("there are no control groups here")
    group = Path("/sys/fs/cgroup") / found[1] / found[2] / f"fm_mlflow-{os.getpid()}"
    limit = "memory.limit_in_bytes" if found[1] else "memory.max"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        if not (group / limit).exists():
            pytest.skip("control groups do not limit memory here")
        (group / limit).write_text(str(64 * 1024**2))
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


def die(signum: int) -> None:
    """Die of a signal amid a run."""
    with TrackedRun("training", "a run") as run:
        run.log_metrics({"loss": 1.0}, step=1)
        os.kill(os.getpid(), signum)


def take_memory(group: Path) -> None:
    """Take more memory than a control group has."""
    with TrackedRun("training", "a run"):
        group.write_text(str(os.getpid()))
        bytearray(os.urandom(1024)) * 1024 * 512


class TestReconcile:
    """Runs that the store calls RUNNING."""

    def test_a_living_run_is_left_alone(self, store: Store) -> None:
        with TrackedRun("training", "a run") as run:
            result = reconcile()
            assert [each.run_id for each in result.running] == [run.run_id]
            assert f"process {os.getpid()} on" in result.running[0].reason
            assert (result.closed, result.unknown, result.delivered) == ([], [], [])

    def test_the_heartbeat(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(heartbeat, "SECONDS", 0.2)
        with TrackedRun("training", "a run"):
            first = store.only_run().data.tags[keys.HEARTBEAT]
            wait_for(lambda: store.only_run().data.tags[keys.HEARTBEAT] > first, "a heartbeat", 10)

    @pytest.mark.parametrize("way", ["SIGKILL", "SIGSEGV"])
    def test_a_killed_run_is_closed_with_its_cause(
        self, store: Store, root: Path, way: str
    ) -> None:
        signum = signal.Signals[way]
        died = forked.start(
            die, signum, environment=store.environment(), output=store.folder / "log"
        )
        died.wait(START_SECONDS)
        assert died.returncode == -signum
        ended = time.time() * 1000
        time.sleep(0.2)
        assert store.only_run().info.status == "RUNNING"
        (journal_folder,) = root.iterdir()
        dry = reconcile(dry_run=True)
        assert [run.name for run in dry.closed] == ["a run"]
        assert store.only_run().info.status == "RUNNING"
        (done,) = reconcile().delivered
        run = store.only_run()
        assert (done.run_id, done.pending) == (run.info.run_id, "")
        if way == "SIGKILL":
            assert run.info.status == "KILLED"
            assert "is gone without a word: killed by SIGKILL" in run.data.tags[keys.ERROR]
        else:
            assert run.info.status == "FAILED"
            assert run.data.tags[keys.ERROR] == "the process crashed: Segmentation fault"
        assert run.data.metrics == {"loss": 1.0}
        assert run.info.end_time <= ended
        assert not journal_folder.exists()

    def test_the_kernel_wanted_its_memory(self, store: Store, little_memory: Path) -> None:
        died = forked.start(
            take_memory, little_memory, environment=store.environment(), output=store.folder / "log"
        )
        died.wait(START_SECONDS)
        assert died.returncode == -signal.SIGKILL
        (done,) = reconcile().delivered
        assert done.pending == ""
        reason = self.reason(store, store.only_run().info.run_id)
        assert "out of memory: the kernel killed" in reason or "for want of memory" in reason
        killed = ProcessIdentity.from_tags(store.only_run().data.tags)
        assert killed is not None  # its pid may be another process's soon
        assert not kernel_killed_for_memory(dataclasses.replace(killed, start=str(10**12)))

    def make_run(
        self,
        store: Store,
        start_time: int | None = None,
        heartbeat: str = "",
        **changes: str,
    ) -> str:
        """Make a RUNNING run of a process that differs from this one."""
        process = dataclasses.replace(this_process(), **changes)  # type: ignore[arg-type]
        tags: dict[str, Any] = {keys.KIND: "training", **process.tags()}
        if heartbeat:
            tags[keys.HEARTBEAT] = heartbeat
        return str(store.client.create_run("0", start_time, tags).info.run_id)

    def reason(self, store: Store, run_id: str) -> str:
        run = store.client.get_run(run_id)
        assert run.info.status == "KILLED"
        return run.data.tags[keys.ERROR]

    def test_a_process_that_is_gone(self, store: Store) -> None:
        run_id = self.make_run(store, start="1")  # its pid is used again
        (closed,) = reconcile().closed
        assert closed.run_id == run_id
        assert "is gone without a word" in self.reason(store, run_id)

    def test_a_run_that_was_resumed_elsewhere_meanwhile(self, store: Store) -> None:
        """It was finished there, and its first journal closed it as KILLED."""
        gone = dataclasses.replace(this_process(), start="1").tags()
        journal = Journal.create("j-1", RunStart(store.uri, None, True, "a", 1, None, None, gone))
        tags: dict[str, Any] = {keys.KIND: "training", keys.JOURNAL: "j-1"}
        run = store.client.create_run("0", tags=tags)
        journal.state.bind(run)
        journal.save_state()
        journal.append(Batch((Point("loss", 0.5, 5, 1),)))
        journal.close()
        run_id = run.info.run_id
        again = Resumption(run_id, None, "a", {}, {}, set())
        with TrackedRun("training", "a", resumption=again) as resumed:
            resumed.log_metrics({"loss": 0.25}, step=1)
        (told,) = reconcile().delivered
        assert "the run was resumed with the journal 'j-" in told.pending
        assert f"delete {journal.folder} unless you need it" in told.pending
        found = store.client.get_run(run_id)
        assert found.info.status == "FINISHED"
        assert keys.ERROR not in found.data.tags
        assert len(store.client.get_metric_history(run_id, "loss")) == 1
        assert journal.folder.exists()

    def test_a_reboot(self, store: Store) -> None:
        boot = this_process().boot.partition(" ")[2]
        other = f"another {boot}"
        fresh, old = self.make_run(store, boot=other), self.make_run(store, 1, boot=other)
        result = reconcile()
        assert [each.run_id for each in result.unknown] == [fresh]
        assert [each.run_id for each in result.closed] == [old]
        assert "was rebooted" in self.reason(store, old)

    def test_another_host(self, store: Store) -> None:
        long_ago = "2026-01-01T00:00:00+00:00"
        silent = self.make_run(store, 1, heartbeat=long_ago, host="elsewhere")
        lively = self.make_run(store, 1, heartbeat=utc_now(), host="elsewhere")
        result = reconcile()
        assert [each.run_id for each in result.closed] == [silent]
        assert [each.run_id for each in result.unknown] == [lively]
        assert "no sign of life for" in self.reason(store, silent)
        assert "on elsewhere" in self.reason(store, silent)
        assert store.client.get_run(lively).info.status == "RUNNING"

    def test_runs_of_others_are_left_alone(self, store: Store) -> None:
        run_id = store.client.create_run("0", start_time=1).info.run_id
        result = reconcile()
        assert (result.closed, result.running, result.unknown) == ([], [], [])
        assert store.client.get_run(run_id).info.status == "RUNNING"


class TestRefusedAtTheStart:
    """What no waiting would mend ends the command before anything is started."""

    def test_an_experiment_that_is_not_there(
        self, store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "77")
        with pytest.raises(TrackingError, match="77"), TrackedRun("training", "a run"):
            pytest.fail("it began")
        assert list(root.iterdir()) == []

    def test_a_database_that_cannot_be_written(
        self, store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        database = store.folder / "mlflow.db"
        database.chmod(0o444)
        # As the kernel answers an owner who is not root.
        monkeypatch.setattr(os, "access", lambda path, _: bool(os.stat(path).st_mode & 0o200))
        with pytest.raises(TrackingError) as refused, TrackedRun("training", "a run"):
            pytest.fail("it began")
        assert str(refused.value) == f"{database} cannot be written: no run can be stored there"
        assert list(root.glob("j-*")) == []
        assert find_runs(Choice()).runs == []  # it can still be read

    def test_a_certificate_that_is_not_trusted(self, line: Line, root: Path) -> None:
        secure = Store(line.uri.replace("http:", "https:"), root)
        with active_store(secure), pytest.raises(TrackingError, match="is not trusted"):
            with TrackedRun("training", "a run"):
                pytest.fail("it began")
