"""One owner a run: a process that another one has taken its run from adds nothing to it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import pytest

from fm_mlflow import TrackingError, keys, resume, sync, train
from fm_mlflow.errors import Interrupted
from fm_mlflow.process.signals import guard
from fm_mlflow.tracking import run as tracked_run
from fm_mlflow.tracking.outbox import heartbeat, remote_run
from fm_mlflow.tracking.outbox.lease import Lease
from fm_mlflow.tracking.outbox.records import Batch, Reopen, RunStart
from fm_mlflow.tracking.outbox.remote_run import LeaseLostError
from fm_mlflow.tracking.resumption import resumable
from fm_mlflow.tracking.run import TrackedRun
from fm_mlflow.tracking.store import StoreUnavailableError
from tests import forked
from tests.commands.test_resume import StopsAt
from tests.processes import START_SECONDS, wait_for
from tests.stores import Store
from tests.trained import DIGITS, SMALL

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
        client.set_tag(run_id, keys.JOURNAL, "j-another")
        run.log_metrics({"loss": 0.5}, step=2)
        wait_for(lambda: bool(told), "the loss of the lease", 10)
        with pytest.raises(LeaseLostError, match="was taken over by another process") as error:
            run.log_metrics({"loss": 0.25}, step=3)
        # Whatever it was at: when it did not log, a signal stops it.
        assert error.value.exit_code == Interrupted(signal.SIGTERM).exit_code == 143
    found = client.get_run(run_id)
    assert (found.info.status, found.data.metrics) == ("RUNNING", {"loss": 1.0})
    assert keys.ERROR not in found.data.tags
    assert "this one stops" in run.pending
    assert told[0] == run.pending
    # Nor does `sync` deliver it later.
    (journal,) = sync().journals
    assert "the run was resumed with the journal 'j-another'" in journal.pending
    assert client.get_run(run_id).data.metrics == {"loss": 1.0}


@contextmanager
def outage() -> Iterator[None]:
    def is_away(*_: object) -> None:
        raise StoreUnavailableError("it is away")

    with pytest.MonkeyPatch.context() as patch:
        for module in (remote_run, tracked_run):
            patch.setattr(module, "check_reachable", is_away)
        yield


def steps(store: Store, run_id: str) -> list[int]:
    return [point.step for point in store.client.get_metric_history(run_id, "loss")]


def test_who_resumes_it_here_leaves_the_journal_of_the_one_that_lost_it(store: Store) -> None:
    with outage(), joined(store) as run:
        run_id = store.only_run().info.run_id
        run.log_metrics({"loss": 0.5}, step=1)
        # Another machine trains the same epoch, and is lost, too.
        tags = {keys.KIND: "training", keys.LEASE: str(ANOTHER), keys.JOURNAL: "j-another"}
        for name, value in tags.items():
            store.client.set_tag(run_id, name, value)
        store.client.log_metric(run_id, "loss", 0.5, step=1)
    assert run.pending
    with resumable(run_id, take_over=True) as found:
        assert found.resumption.journal is None
        with TrackedRun("training", "a run", resumption=found.resumption) as again:
            assert found.resumption.points == {("loss", 1)}
            with pytest.raises(TrackingError, match="is in use"), resumable(run_id):
                pass
            again.log_metrics({"loss": 0.5}, step=2)
    assert steps(store, run_id) == [1, 2]


def test_who_takes_a_run_over_does_not_wait_for_its_journal(store: Store) -> None:
    with TrackedRun("training", "a run") as run:
        with pytest.raises(TrackingError, match="is in use"), resumable(run.run_id):
            pass
        with resumable(run.run_id, take_over=True) as found:
            assert found.resumption.journal is None


@contextmanager
def joined(store: Store) -> Iterator[TrackedRun]:
    """Join a run that a benchmark has created, for as long as it takes to log something."""
    child = store.client.create_run("0", tags={keys.JOURNAL: "abc/mlp-0", keys.JOBS: "1"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_RUN_ID", child.info.run_id)
        with TrackedRun("training", "a run", flush_timeout=0.1) as run:
            yield run


def test_sync_delivers_a_run_that_was_joined_while_the_store_did_not_answer(store: Store) -> None:
    with outage(), joined(store) as run:
        run.log_metrics({"loss": 0.5}, step=1)
    run_id = store.only_run().info.run_id
    (journal,) = sync([run_id]).journals
    assert (journal.pending, steps(store, run_id)) == ("", [1])


def test_sync_delivers_what_was_left_by_a_process_killed_while_it_took_the_run_over(
    store: Store,
) -> None:
    with TrackedRun("training", "a run", flush_timeout=0.1) as run:
        run_id = run.run_id
        with outage():
            run.log_metrics({"loss": 0.5}, step=1)
            run._flush(0)
    store.client.set_tag(run_id, keys.LEASE, str(ANOTHER))  # and its journal is this very one
    (journal,) = sync().journals
    assert (journal.pending, steps(store, run_id)) == ("", [1])


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
        train(SMALL, callbacks=[Slow()], checkpoint_seconds=0, **{**DIGITS, "epochs": 1000})


def test_a_process_that_was_cut_off_stops_when_it_is_back(
    store: Store, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = store.folder / "log"
    cut_off = forked.start(train_slowly, environment=store.environment(), output=log)
    try:
        wait_for(lambda: len(store.client.search_runs(["0"])) == 1, "the run")
        wait_for(lambda: "loss" in store.only_run().data.metrics, "the first epoch")
        run_id = store.only_run().info.run_id

        def stored() -> bool:
            return bool(store.client.list_artifacts(run_id, keys.CHECKPOINT_FOLDER))

        wait_for(stored, "a checkpoint")
        # Just after a delivery: what is on its way to the store as the process stops may arrive.
        there = len(store.client.get_metric_history(run_id, "loss"))
        wait_for(lambda: len(store.client.get_metric_history(run_id, "loss")) > there, "an epoch")
        os.kill(cut_off.pid, signal.SIGSTOP)
        monkeypatch.setenv("FM_MLFLOW_JOURNAL_DIR", str(tmp_path / "of another machine"))
        with pytest.raises(TrackingError, match="is in use: process"):
            resume(run_id)
        done = len(store.client.get_metric_history(run_id, "loss"))
        with pytest.raises(KeyboardInterrupt):
            resume(run_id, take_over=True, progress=StopsAt(done + 3))
        before = store.client.get_run(run_id)
        steps = [point.step for point in store.client.get_metric_history(run_id, "loss")]
        assert steps == list(range(1, done + 3))
        os.kill(cut_off.pid, signal.SIGCONT)
        cut_off.wait(30)
        assert cut_off.returncode != 0, log.read_text()
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
        train(SMALL, progress=StopsAt(1), **{**DIGITS, "epochs": 2, "batch_size": 32})
    run = store.only_run()
    assert run.data.metrics == {}
    done = resume(run.info.run_id)
    assert (done.run_id, done.config.batch_size) == (run.info.run_id, 32)
    assert store.only_run().info.status == "FINISHED"
