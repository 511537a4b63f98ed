"""What processes that were killed left in the journals' folder, beside journals with records."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from fm_mlflow.errors import TrackingError
from fm_mlflow.process.file_lock import FileLock
from fm_mlflow.process.temporary import remove_abandoned_folders
from fm_mlflow.tracking.outbox.journal import LOCK_FILE
from fm_mlflow.tracking.outbox.roots import RECORDS_FILE, journal_root, what_is_wrong

_SHARED_LOCK = re.compile(r"\.(run|store)-[0-9a-f]{16,32}\.lock")
_JOURNAL = re.compile(r"j-[0-9a-f]{32}")


def remove_leftovers() -> None:
    """Remove their temporary folders, locks that nobody holds, and journals without a record.

    Of the last, a process was killed before it wrote the first record, or as it removed the last.

    Raises:
        InputError, UntrustedError: `journal_root` says when.
    """
    remove_abandoned_folders()
    root = journal_root()
    with suppress(OSError):  # they do no harm where they are
        for path in list(root.iterdir()):
            if _SHARED_LOCK.fullmatch(path.name):
                _take_and_remove(path)
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
    if os.path.lexists(folder / RECORDS_FILE) or lock.is_held():
        return
    with suppress(TrackingError):
        lock.acquire()
        # Whoever makes a journal holds its lock before it has a record (`Journal.create`).
        if not os.path.lexists(folder / RECORDS_FILE):
            shutil.rmtree(folder, ignore_errors=True)
        lock.release()
