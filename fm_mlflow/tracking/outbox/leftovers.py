"""What processes that were killed left in the journals' folder, beside journals with records."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

from fm_mlflow.errors import TrackingError
from fm_mlflow.process.file_lock import FileLock
from fm_mlflow.process.temporary import remove_abandoned_folders
from fm_mlflow.tracking.outbox.journal import LOCK_FILE
from fm_mlflow.tracking.outbox.roots import REMOVED, journal_root, what_is_wrong
from fm_mlflow.tracking.outbox.state import STATE_FILE

_SHARED_LOCK = re.compile(r"\.(run|store)-[0-9a-f]{16,32}\.lock")
_JOURNAL = re.compile(r"j-[0-9a-f]{32}")
_REMOVED = re.compile(rf"\.j-[A-Za-z0-9_.-]{{1,98}}{re.escape(REMOVED)}")
_OF_NO_JOURNAL = (LOCK_FILE, STATE_FILE, ".")
"""What there may be before the first record, and after the last: no file of a run's."""


def remove_leftovers() -> None:
    """Remove temporary folders, locks that nobody holds, and journals that are none.

    Of these a process was killed before it wrote the first record, or as it removed the folder of
    a delivered one.

    Raises:
        InputError, UntrustedError: `journal_root` says when.
    """
    remove_abandoned_folders()
    root = journal_root()
    entries: list[Path] = []
    with suppress(OSError):
        entries = list(root.iterdir())
    for path in entries:
        with suppress(OSError):  # it does no harm where it is
            if _SHARED_LOCK.fullmatch(path.name):
                _take_and_remove(path)
            elif _REMOVED.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)
            elif _JOURNAL.fullmatch(path.name) and not what_is_wrong(path):
                _remove_without_records(path)


def _take_and_remove(path: Path) -> None:
    lock = FileLock(path)
    with suppress(TrackingError):  # it is held, or another file
        if not lock.is_held():
            lock.acquire()
            lock.release()


def _remove_without_records(folder: Path) -> None:
    lock = FileLock(folder / LOCK_FILE)
    if not _is_none(folder) or lock.is_held():
        return
    with suppress(TrackingError):
        lock.acquire()
        try:
            # Whoever makes a journal holds its lock before it has a record (`Journal.create`).
            if _is_none(folder):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            lock.release()


def _is_none(folder: Path) -> bool:
    return all(path.name.startswith(_OF_NO_JOURNAL) for path in folder.iterdir())
