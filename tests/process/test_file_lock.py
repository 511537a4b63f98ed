"""Locks: one holder, no file of anybody else's touched, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fm_mlflow.errors import TrackingError
from fm_mlflow.process.file_lock import FileLock, LockedError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def test_one_holder_and_nothing_is_left(path: Path) -> None:
    lock = FileLock(path)
    lock.acquire()
    assert FileLock(path).is_held()
    with pytest.raises(LockedError, match=f"process {os.getpid()} holds"):
        FileLock(path).acquire()
    lock.release()
    assert not path.exists()
    assert not FileLock(path).is_held()
    lock.release()  # harmless
    FileLock(path).acquire()


def test_what_a_killed_holder_leaves_is_taken_over(path: Path) -> None:
    for left in ("", "1234", "12345678901234567890"):
        path.write_text(left)
        with FileLock(path):
            assert path.read_text() == str(os.getpid()).ljust(20)
        assert not path.exists()


LINK_TARGETS: list[Callable[[Path, Path], None]] = [
    lambda path, target: path.symlink_to(target),
    lambda path, target: path.hardlink_to(target),
]


@pytest.mark.parametrize("link", LINK_TARGETS, ids=["symbolic", "hard"])
@pytest.mark.parametrize("text", ["a letter", "", "1234"])
def test_a_link_is_neither_followed_nor_changed(
    path: Path, tmp_path: Path, link: Callable[[Path, Path], None], text: str
) -> None:
    target = tmp_path / "target"
    target.write_text(text)
    link(path, target)
    with pytest.raises(TrackingError, match="should be a lock and is another file"):
        FileLock(path).acquire()
    assert not FileLock(path).is_held()
    assert target.read_text() == text
    assert os.path.lexists(path)


def test_a_link_to_nothing_makes_nothing(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "new")
    with pytest.raises(TrackingError, match="should be a lock"):
        FileLock(path).acquire()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["text", "folder", "pipe"])
def test_what_is_no_lock_is_left_as_it_is(path: Path, kind: str) -> None:
    if kind == "text":
        path.write_text("dear diary")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(TrackingError, match="should be a lock"):
        FileLock(path).acquire()
    assert path.exists()
    if kind == "text":
        assert path.read_text() == "dear diary"


def test_one_that_a_power_cut_filled_with_zeros_is_taken(path: Path) -> None:
    path.write_bytes(b"\0" * 20)
    with FileLock(path):
        assert path.read_text() == str(os.getpid()).ljust(20)
    assert not path.exists()


def test_a_lock_that_is_not_ours_any_more_is_not_removed(path: Path) -> None:
    lock = FileLock(path)
    lock.acquire()
    path.unlink()
    with FileLock(path):
        lock.release()
        assert path.exists()
        assert FileLock(path).is_held()


@pytest.mark.thorough
def test_one_at_a_time_though_the_file_goes_each_time(path: Path, tmp_path: Path) -> None:
    """Threads and processes take the lock over and over; each removes it."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    code = f"""
from pathlib import Path
from fm_mlflow.process.file_lock import FileLock
counter = Path({str(counter)!r})
for _ in range(100):
    with FileLock(Path({str(path)!r})):
        counter.write_text(str(int(counter.read_text()) + 1))
"""
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    threads = [threading.Thread(target=exec, args=[code, {}]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for each in (*threads,):
        each.join()
    assert [process.wait(60) for process in processes] == [0, 0]
    assert counter.read_text() == "500"
    assert not path.exists()
