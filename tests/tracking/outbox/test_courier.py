"""The thread that delivers: whatever it meets, and what it does not ask for."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import mlflow
import pytest

from fm_mlflow import sync
from fm_mlflow.process.file_lock import FileLock
from fm_mlflow.tracking.outbox import remote_run
from fm_mlflow.tracking.outbox.courier import Courier
from fm_mlflow.tracking.outbox.delivery import Delivery
from fm_mlflow.tracking.outbox.journal import Journal
from fm_mlflow.tracking.outbox.records import (
    Artifacts,
    Batch,
    Checkpoint,
    End,
    LinkedModels,
    Point,
    Record,
)
from fm_mlflow.tracking.run import TrackedRun
from fm_mlflow.tracking.store import StoreFailedError, StoreUnavailableError
from tests.processes import wait_for
from tests.stores import Store
from tests.tracking.outbox.test_damage import new, numbered, run_of


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FM_MLFLOW_JOURNAL_DIR", str(tmp_path / "journals"))
    return tmp_path / "journals"


class TestCourier:
    """What the delivering thread meets."""

    def start(self, store: Store, journal: Journal, notices: list[str]) -> Courier:
        courier = Courier(journal, store.uri, notices.append)
        courier.start()
        return courier

    def test_an_error_of_a_library_that_nobody_knows(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of an artifact store: told at the end; of the run: noted at once, and all arrives."""

        class StrangeError(Exception):
            pass

        def fail(*_: object, **__: object) -> None:
            raise StrangeError("a strange\nfailure")

        journal = new(store)
        (journal.folder / "artifacts" / "1").mkdir(parents=True)
        monkeypatch.setattr(mlflow.MlflowClient, "log_artifacts", fail)
        journal.append(Artifacts("artifacts/1"))
        journal.append(End("FINISHED", 9))
        notices: list[str] = []
        pending = self.start(store, journal, notices).finish(3)
        assert "cannot log artifacts in" in pending
        assert "StrangeError: a strange" in pending
        assert "\n" not in pending
        assert run_of(store, "j-1").info.status == "FINISHED"

    @pytest.mark.parametrize("method", ["log_batch", "create_run", "set_terminated"])
    def test_one_that_goes_away(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, method: str
    ) -> None:
        journal = new(store)
        journal.append(End("FINISHED", 9))
        original = getattr(mlflow.MlflowClient, method)
        failures = iter([True, True])

        def fail_at_first(*arguments: Any, **more: Any) -> Any:
            if next(failures, False):
                raise ZeroDivisionError
            return original(*arguments, **more)

        monkeypatch.setattr(mlflow.MlflowClient, method, fail_at_first)
        notices: list[str] = []
        courier = self.start(store, journal, notices)
        assert courier.finish(20) == ""
        assert run_of(store, "j-1").data.metrics["m5"] == 5
        assert run_of(store, "j-1").info.status == "FINISHED"
        assert not journal.folder.exists()

    def test_the_store_does_not_answer_when_the_thread_is_dead(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def die(_: Delivery) -> None:
            raise SystemExit("torn out")

        monkeypatch.setattr(Delivery, "deliver", die)
        notices: list[str] = []
        journal = new(store)
        courier = self.start(store, journal, notices)
        wait_for(lambda: not courier.answers, "the thread's end", 10)
        assert "SystemExit: torn out" in notices[0]
        assert "torn out" in courier.finish(1)
        assert not FileLock(journal.folder / "lock").is_held()
        assert journal.folder.exists()

    def test_a_notice_that_cannot_be_shown_ends_nothing(self, store: Store) -> None:
        def closed_pipe(_: str) -> None:
            raise SystemExit(1)

        journal = new(store)
        courier = Courier(journal, store.uri, closed_pipe)
        courier.start(StoreUnavailableError("not yet"))
        assert courier.finish(10) == ""
        assert not journal.folder.exists()

    def test_a_store_that_answers_after_the_flush_timeout(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        is_slow, may_go_on = threading.Event(), threading.Event()
        original = mlflow.MlflowClient.log_batch

        def slow(*arguments: Any, **more: Any) -> Any:
            is_slow.set()
            may_go_on.wait(30)
            return original(*arguments, **more)

        monkeypatch.setattr(mlflow.MlflowClient, "log_batch", slow)
        with TrackedRun("training", "a run", flush_timeout=0) as run:
            run.log_metrics({"loss": 1.0}, step=1)
            folder = run.checkpoint_folder.parent
            is_slow.wait(30)
        assert "are not in the store yet" in run.pending
        assert FileLock(folder / "lock").is_held()
        may_go_on.set()
        wait_for(lambda: not folder.exists(), "the removal of the journal", 20)
        assert store.only_run().info.status == "FINISHED"

    def test_a_failing_record_does_not_hold_up_the_others(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise StoreFailedError("internal error")

        journal = new(store, batches=1)
        journal.append(LinkedModels(("m-1",)))
        journal.append(numbered(2))
        journal.append(End("FINISHED", 9))
        with monkeypatch.context() as patched:
            patched.setattr(LinkedModels, "deliver", fail)
            pending = self.start(store, journal, []).finish(20)
        assert "were refused by the store, first record 2: internal error" in pending
        assert run_of(store, "j-1").data.metrics["m2"] == 2
        assert run_of(store, "j-1").info.status == "FINISHED"
        assert sync().complete  # tried again
        assert not journal.folder.exists()


def test_it_tries_again_soon_while_something_arrives(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = new(store)
    waited: list[float] = []
    courier = Courier(journal, store.uri, print)

    def deliver(delivery: Delivery) -> None:
        if len(waited) == 7:  # a record arrives
            journal.state.position += 1
        delivery.final = len(waited) > 9
        raise StoreUnavailableError("not yet")

    def sleep(_: Courier, seconds: float, *, for_news: bool) -> None:
        waited.append(seconds)
        courier._stopping = len(waited) == 12

    monkeypatch.setattr(Delivery, "deliver", deliver)
    monkeypatch.setattr(Courier, "_sleep", sleep)
    courier._deliver_until_stopped()
    assert waited == [0.5, 1, 2, 4, 8, 15, 15, 0.5, 1, 2, 2, 2]
    journal.close()


def test_the_epochs_of_an_outage_are_delivered_in_few_requests(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = new(store, batches=0)
    (journal.folder / "checkpoint").mkdir()
    (journal.folder / "checkpoint" / "even.npz").write_text("even")
    for epoch in range(1, 51):
        journal.append(Batch(metrics=(Point("loss", 1 / epoch, 1, epoch),)))
        journal.append(Checkpoint("checkpoint/even.npz"))
    delivery = Delivery(journal, store.uri)
    requests: list[int] = []
    original = delivery.run.log

    def log(items: list[remote_run.Item]) -> None:
        requests.append(len(items))
        original(items)

    monkeypatch.setattr(delivery.run, "log", log)
    delivery.deliver()
    assert delivery.complete
    assert len(requests) <= 2
    run_id = str(journal.state.run_id)
    assert len(store.client.get_metric_history(run_id, "loss")) == 50
    assert [each.path for each in store.client.list_artifacts(run_id, "checkpoint")]
    journal.close()


@pytest.mark.parametrize("before", [0, 1])
def test_a_batch_of_several_requests_between_checkpoints(store: Store, before: int) -> None:
    journal = new(store, batches=0)
    (journal.folder / "checkpoint").mkdir()
    (journal.folder / "checkpoint" / "even.npz").write_text("even")
    checkpoint = Checkpoint("checkpoint/even.npz")
    many = Batch(metrics=tuple(Point(f"many{number}", 1.0, 1, 1) for number in range(1_100)))
    later: list[Record] = [many, checkpoint, numbered(2), checkpoint]
    for record in [*[checkpoint] * before, *later]:
        journal.append(record)
    delivery = Delivery(journal, store.uri)
    delivery.deliver()
    assert delivery.complete
    metrics = run_of(store, "j-1").data.metrics
    assert metrics == {f"many{number}": 1.0 for number in range(1_100)} | {"m2": 2.0}
    journal.close()


class TestCheckpointsThatWait:
    """A checkpoint comes each epoch, and goes into the store once in --checkpoint-seconds."""

    @pytest.fixture
    def requests(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        asked: list[str] = []
        monkeypatch.setattr(remote_run, "check_reachable", asked.append)
        return asked

    def test_meanwhile_nothing_is_asked_or_written(
        self, store: Store, requests: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = new(store)
        (journal.folder / "checkpoint").mkdir()
        for name in ("even.npz", "odd.npz"):
            (journal.folder / "checkpoint" / name).write_text(name)
        delivery = Delivery(journal, store.uri, checkpoint_seconds=50)
        journal.append(Checkpoint("checkpoint/even.npz"))
        delivery.deliver()
        journal.append(Checkpoint("checkpoint/odd.npz"))
        delivery.deliver()
        assert delivery.pending == 1
        assert 40 < delivery.retry_seconds(2) <= 50
        asked, written = len(requests), (journal.folder / "state.json").stat()
        for _ in range(3):
            delivery.deliver()
        assert len(requests) == asked
        after = (journal.folder / "state.json").stat()
        assert (after.st_ino, after.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
        delivery._next_checkpoint = 0.0  # its time is over
        assert delivery.retry_seconds(2) == 2
        delivery.deliver()
        assert delivery.pending == 0
        assert delivery.retry_seconds(2) == float("inf")
        names = [
            each.path
            for each in store.client.list_artifacts(str(journal.state.run_id), "checkpoint")
        ]
        assert names == ["checkpoint/even.npz", "checkpoint/odd.npz"]
        # What the store has takes no memory, however many epochs there are.
        assert not any(isinstance(each, Checkpoint) for each in journal.records)
        journal.close()
