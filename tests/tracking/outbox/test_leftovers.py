"""What killed processes left beside journals goes with `sync`; what is in use stays."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from fm_mlflow import keys, sync
from fm_mlflow.process.atomic_file import durable_folder
from fm_mlflow.process.file_lock import FileLock
from fm_mlflow.tracking.outbox import leftovers, records
from fm_mlflow.tracking.outbox.journal import Journal
from tests.stores import Store

ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "journals"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("FM_MLFLOW_JOURNAL_DIR", str(folder))
    return folder


def header(uri: str = "sqlite:///x.db", run_id: str | None = None) -> records.RunStart:
    return records.RunStart(uri, run_id, True, "n", 1, None, None, {})


def test_locks_that_nobody_holds_and_journals_without_a_record(root: Path) -> None:
    empty = root / f"j-{ID}"
    empty.mkdir(mode=0o700)
    (empty / "lock").write_text("17")
    (empty / ".journal.part.jsonl").write_text("half")
    removed = root / f".j-{ID}.removed"
    removed.mkdir()
    (removed / "journal.jsonl").write_text("delivered")
    stale = [root / f".run-{ID}.lock", root / f".store-{ID[:16]}.lock"]
    for path in stale:
        path.touch(mode=0o600)
    users_own = [root / "notes.lock", root / "j-notes"]
    users_own[0].touch()
    users_own[1].mkdir(mode=0o700)
    assert sync().journals == []
    assert sorted(root.iterdir()) == sorted(users_own)


def test_what_is_in_use_stays(root: Path) -> None:
    making = root / f"j-{ID}"
    making.mkdir(mode=0o700)
    held = [FileLock(making / "lock"), FileLock(root / f".run-{ID}.lock")]
    for lock in held:
        lock.acquire()
    sync()
    assert len(list(root.iterdir())) == 2
    assert all(lock.is_held() for lock in held)
    for lock in held:
        lock.release()


@pytest.mark.parametrize("owner", ["another", "this", "nobody"])
def test_one_whose_process_was_killed_before_it_took_the_run_over(
    store: Store, root: Path, owner: str
) -> None:
    name = f"j-{ID}"
    owners = {"another": "j-another", "this": name}
    tags = {str(keys.JOURNAL): owners[owner]} if owner in owners else {}
    run = store.client.create_run("0", tags=tags)
    store.client.set_terminated(run.info.run_id, keys.FINISHED)
    before = {**run.data.tags}
    Journal.create(name, header(store.uri, run.info.run_id)).close()
    (told,) = sync().journals
    assert told.pending == ""
    assert not list(root.iterdir())
    if owner == "another":
        after = store.client.get_run(run.info.run_id)
        assert (after.data.tags, after.info.status) == (before, keys.FINISHED)


def test_a_journal_that_lost_its_records_keeps_its_files(root: Path) -> None:
    (root / f"j-{ID}" / "artifacts").mkdir(parents=True)
    sync()
    assert [path.name for path in root.iterdir()] == [f"j-{ID}"]


def test_one_that_is_just_being_made(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    acquire = FileLock.acquire
    struck: list[Any] = []

    def acquire_later(self: FileLock, *, wait: bool = False) -> None:
        if not struck:
            struck.append(self)
            leftovers.remove_leftovers()  # of another process, between folder and lock
        acquire(self, wait=wait)

    monkeypatch.setattr(FileLock, "acquire", acquire_later)
    journal = Journal.create(f"j-{ID}", header())
    assert struck
    assert (journal.folder / "journal.jsonl").exists()
    journal.remove()
    assert not list(root.iterdir())


def test_one_that_a_slow_sync_looks_at_as_it_is_made(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_and_look(folder: Path, *given: Any, **more: Any) -> None:
        durable_folder(folder, *given, **more)
        if folder.parent == root:
            lock = FileLock(folder / "lock")
            lock.acquire()
            threading.Timer(0.3, lock.release).start()

    monkeypatch.setattr("fm_mlflow.tracking.outbox.journal.durable_folder", make_and_look)
    Journal.create(f"j-{ID}", header()).remove()
    assert not list(root.iterdir())


def test_an_odd_entry_holds_up_no_other_and_no_lock(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd, empty = root / f"j-{ID}", root / f"j-{ID[::-1]}"
    looks: list[Path] = []

    def is_none(folder: Path) -> bool:
        looks.append(folder)
        if folder == odd and looks.count(odd) == 2:
            raise OSError("it cannot be looked into any more")
        return True

    for folder in (odd, empty):
        folder.mkdir(mode=0o700)
        (folder / "lock").touch(mode=0o600)
    monkeypatch.setattr(leftovers, "_is_none", is_none)
    leftovers.remove_leftovers()
    assert [path.name for path in root.iterdir()] == [odd.name]
    assert not FileLock(odd / "lock").is_held()
