"""One owner a run: a process that another one has taken its run from adds nothing to it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import keras
import pytest

from fm_mlflow import TrackingError, keys, resume, sync, train
from fm_mlflow.errors import Interrupted
from fm_mlflow.process.signals import guard
from fm_mlflow.tracking.outbox import heartbeat
from fm_mlflow.tracking.outbox.lease import Lease
from fm_mlflow.tracking.outbox.records import Batch, Reopen, RunStart
from fm_mlflow.tracking.outbox.remote_run import LeaseLostError
from fm_mlflow.tracking.run import TrackedRun
from tests import forked
from tests.commands.test_resume import StopsAt
from tests.processes import START_SECONDS, wait_for
from tests.stores import Store
from tests.trained import DIGITS

ANOTHER = Lease(2, "0123456789ab")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "journals"
    monkeypatch.setenv("FM_MLFLOW_JOURNAL_DIR", str(folder))
    return folder


@pytest.mark.parametrize(
    ("stored", "lost"),
    [
        (None, False),
        (Lease(2, "a" * 12), False),
        (Lease(2, "b" * 12), True),  # of two that took it at one moment, the one that stayed
        (Lease(3, "b" * 12), True),
        (Lease(1, "b" * 12), False),  # this one resumed the run offline
    ],
)
def test_whose_run_it_is(stored: Lease | None, lost: bool) -> None:
    assert Lease(2, "a" * 12).is_lost_to(stored) is lost


@pytest.mark.parametrize("text", ["", "1", "x 0123456789ab", "1 0123456789ab ", "9" * 5000 + " a"])
def test_a_tag_that_is_none(text: str) -> None:
    assert Lease.of({keys.LEASE: text}) is None


def test_a_journal_has_that_of_its_last_process() -> None:
    first, second = Lease.after(None), Lease.after(Lease(1, "a" * 12))
    assert (first.number, second.number) == (1, 2)
    start = RunStart("", None, True, "", 1, None, None, {keys.LEASE: str(first)})
    again = Reopen(1, {keys.LEASE: str(second)}, ())
    assert Lease.of_journal([start, Batch()]) == first
    assert Lease.of_journal([start, Batch(), again, Batch()]) == second
    assert Lease.of_journal([Batch()]) is None


def test_what_is_logged_after_another_took_it_over_is_not_delivered(store: Store) -> None:
    told: list[str] = []
    with TrackedRun("training", "a run", notice=told.append) as run:
        run.log_metrics({"loss": 1.0}, step=1)
        client, run_id = store.client, run.run_id
        wait_for(lambda: bool(client.get_run(run_id).data.metrics), "the first point", 10)
        client.set_tag(run_id, keys.LEASE, str(ANOTHER))
        run.log_metrics({"loss": 0.5}, step=2)
        wait_for(lambda: bool(told), "the loss of the lease", 10)
        with pytest.raises(LeaseLostError, match="was taken over by another process"):
            run.log_metrics({"loss": 0.25}, step=3)
    found = client.get_run(run_id)
    assert (found.info.status, found.data.metrics) == ("RUNNING", {"loss": 1.0})
    assert keys.ERROR not in found.data.tags
    assert "this one stops" in run.pending
    assert told[0] == run.pending
    # Nor does `sync` deliver it later.
    (journal,) = sync().journals
    assert "was taken over" in journal.pending
    assert client.get_run(run_id).data.metrics == {"loss": 1.0}


def test_a_process_that_logs_nothing_is_stopped_by_its_heartbeat(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "SECONDS", 0.2)
    with guard(), TrackedRun("training", "a run") as run:
        store.client.set_tag(run.run_id, keys.LEASE, str(ANOTHER))
        with pytest.raises(Interrupted, match="was taken over by another process"):
            time.sleep(START_SECONDS)  # within an epoch
    assert store.only_run().info.status == "RUNNING"


class Slow(keras.callbacks.Callback):  # type: ignore[misc]
    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        time.sleep(0.3)


def train_slowly() -> None:
    heartbeat.SECONDS = 1.0
    with guard():
        train("mlp", callbacks=[Slow()], checkpoint_seconds=0, **{**DIGITS, "epochs": 1000})


def test_a_process_that_was_cut_off_stops_when_it_is_back(
    store: Store, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = store.folder / "log"
    cut_off = forked.start(train_slowly, environment=store.environment(), output=log)
    assert cut_off.pid
    try:
        wait_for(lambda: len(store.client.search_runs(["0"])) == 1, "the run")
        wait_for(lambda: "loss" in store.only_run().data.metrics, "the first epoch")
        run_id = store.only_run().info.run_id

        def stored() -> bool:
            return bool(store.client.list_artifacts(run_id, keys.CHECKPOINT_FOLDER))

        wait_for(stored, "a checkpoint")
        os.kill(cut_off.pid, signal.SIGSTOP)
        monkeypatch.setenv("FM_MLFLOW_JOURNAL_DIR", str(tmp_path / "of another machine"))
        with pytest.raises(TrackingError, match="is in use: process"):
            resume(run_id)
        done = len(store.client.get_metric_history(run_id, "loss"))
        with pytest.raises(KeyboardInterrupt):
            resume(run_id, take_over=True, callbacks=[StopsAt(done + 3)])
        before = store.client.get_run(run_id)
        steps = [point.step for point in store.client.get_metric_history(run_id, "loss")]
        assert steps == list(range(1, done + 3))
        os.kill(cut_off.pid, signal.SIGCONT)
        cut_off.join(30)
        assert cut_off.exitcode not in (None, 0), log.read_text()
    finally:
        cut_off.kill()
    after = store.client.get_run(run_id)
    assert (after.info.status, after.data.tags) == ("KILLED", before.data.tags)
    assert after.data.metrics == before.data.metrics
    assert len(store.client.get_metric_history(run_id, "loss")) == len(steps)
    assert "was taken over by another process" in log.read_text()
    assert after.data.tags[keys.LEASE].startswith("2 ")


def test_a_run_without_a_checkpoint_starts_over_with_the_settings_of_its_tag(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt):
        train("mlp", callbacks=[StopsAt(1)], **{**DIGITS, "epochs": 2, "batch_size": 32})
    run = store.only_run()
    assert run.data.metrics == {}
    done = resume(run.info.run_id)
    assert (done.run_id, done.config.batch_size) == (run.info.run_id, 32)
    assert store.only_run().info.status == "FINISHED"
