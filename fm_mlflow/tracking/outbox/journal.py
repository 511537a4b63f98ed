"""The write-ahead journal: what a run logs, on the local disk before it is in the store.

A journal is a folder. `journal.jsonl` is append-only: a record a line. `state.json` says what of it
the store has. Files to be delivered (artifacts, the model, checkpoints) lie beside them. The folder
is removed when the store has everything.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from io import FileIO
from pathlib import Path
from typing import Any

from fm_mlflow.errors import TrackingError
from fm_mlflow.process.atomic_file import atomic_file, durable_folder, sync_names
from fm_mlflow.process.file_lock import FileLock
from fm_mlflow.process.regular_file import open_regular
from fm_mlflow.tracking.outbox.journal_file import encoded, read_first, read_records
from fm_mlflow.tracking.outbox.records import Record, RunStart
from fm_mlflow.tracking.outbox.roots import (
    RECORDS_FILE,
    REMOVED,
    UntrustedError,
    candidates,
    in_root,
)
from fm_mlflow.tracking.outbox.schema import RecordError
from fm_mlflow.tracking.outbox.state import State

_log = logging.getLogger(__name__)

LOCK_FILE = "lock"


class Journal:
    """One run's journal, locked by this process. Appending and reading may be in two threads.

    When the disk is full, records are kept in memory, delivered from there, and written as soon as
    there is room.

    Args:
        folder: The journal's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal_id = folder.name
        """The journal's own name; the tag `fm_mlflow.journal` of its run."""
        self.crash_file = folder / "crash.txt"
        """What Python's fault handler writes when the process dies of a signal of its own."""
        self.state = State()
        self.records: list[Record] = []
        """All records; a record's number is its place among them."""
        self._lock = FileLock(folder / LOCK_FILE)
        self._guard = threading.Lock()
        self._unwritten: list[bytes] = []
        self._file: FileIO | None = None
        self._end = 0
        self._warned = False
        self.damaged = 0
        """Records within the journal, not at its end, that cannot be read."""
        self.damage = ""
        """Which was the first of them, and what is wrong with it."""
        self._saved: dict[str, Any] = {}

    @classmethod
    def create(cls, journal_id: str, header: RunStart) -> Journal:
        """Make a journal in the root (`in_root`), and lock it.

        Args:
            journal_id: Its name.
            header: Its first record; there is no journal without one.

        Raises:
            InputError: $FM_MLFLOW_JOURNAL_DIR names a folder that is not this user's alone.
            TrackingError: No journal can be written.
        """

        def write(root: Path) -> Journal:
            folder = root / journal_id
            journal = cls(folder)
            journal._make_folder()
            try:
                with atomic_file(folder / RECORDS_FILE, durable=True) as temporary:
                    temporary.write_bytes(encoded(header, 0))
                journal._open()
            except OSError:
                journal.close()
                shutil.rmtree(folder, ignore_errors=True)
                raise
            return journal

        return in_root(write)

    def _make_folder(self) -> None:
        """Make it and lock it, before others can take it for one whose run is over."""
        while True:
            durable_folder(self.folder, 0o700)
            with suppress(FileNotFoundError):  # `sync` of another process was faster
                self._lock.acquire(wait=True)  # or is at it
                return

    @classmethod
    def open(cls, folder: Path) -> Journal:
        """Open a journal that exists, and lock it.

        Raises:
            LockedError: Another process has it open: the run itself, `sync` or `resume`.
            FileNotFoundError: It has been removed.
            TrackingError: It cannot be opened, is too large, or no journal at all.
        """
        if not (folder / RECORDS_FILE).exists():
            raise FileNotFoundError(folder)
        journal = cls(folder)
        try:
            journal._open()
        except FileNotFoundError:
            raise
        except OSError as error:
            reason = error.strerror or error
            raise TrackingError(f"the journal {folder} cannot be read: {reason}") from error
        return journal

    def _open(self) -> None:
        try:
            self._lock.acquire()
            # Opening must not touch it: its last change is when its run was last alive.
            path = self.folder / RECORDS_FILE
            open_regular(path).close()  # a pipe would have to be waited for
            self._file = path.open("r+b", buffering=0)
            found = read_records(self._file)
            self.records, self._end = found.records, found.end
            self.damaged, self.damage = found.damaged, found.damage
            self._read_state()
        except FileNotFoundError:
            self.remove()  # the one that removed it could not remove the lock that we took
            raise
        except BaseException:
            self.close()
            raise

    def _read_state(self) -> None:
        try:
            self.state = State.load(self.folder, len(self.records))
        except RecordError as error:
            _log.warning(
                "what the store has of the journal %s is not known (%s); all of it is delivered "
                "again, which changes nothing there",
                self.folder,
                error,
            )

    @property
    def header(self) -> RunStart:
        """The first record.

        Raises:
            TrackingError: It is damaged.
        """
        first = self.records[0] if self.records else None
        if not isinstance(first, RunStart):
            text = "the journal's first line is damaged: it does not say whose it is"
            if self.state.run_id is not None:
                text += (
                    f"; `fm-mlflow sync {self.journal_id} --store URI` delivers the rest of it to "
                    f"run {self.state.run_id} of the store that it names"
                )
            raise TrackingError(text)
        return first

    def append(self, record: Record, *, durable: bool = False) -> int:
        """Add a record.

        Args:
            record: Of any kind.
            durable: Return only once it would survive a power cut (an fsync).

        Returns:
            The record's number.
        """
        with self._guard:
            line = encoded(record, len(self.records))
            try:
                self._unwritten.append(line)
                self._write(durable)
            except OSError as error:
                self._complain(error)
            finally:
                # Whatever interrupts it: the line has this number, and no other record may get it.
                self.records.append(record)
            return len(self.records) - 1

    def _write(self, durable: bool) -> None:
        if self._file is None:
            raise OSError("the journal is closed")
        while self._unwritten:
            line = self._unwritten[0]
            self._file.seek(self._end)
            if self._file.write(line) != len(line):  # torn: written over next time
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._end += len(line)
            self._unwritten.pop(0)
        if durable:
            os.fsync(self._file.fileno())
        self._warned = False

    def _complain(self, error: OSError) -> None:
        if not self._warned:
            _log.warning(
                "the journal %s cannot be written (%s); the run goes on, and what it logs is kept "
                "in memory until the store has it",
                self.folder,
                error.strerror or error,
            )
        self._warned = True

    def save_state(self) -> None:
        """Store `state` if it has changed; after a crash an older one does no harm."""
        now = asdict(self.state)
        if now != self._saved:
            try:
                self.state.write(self.folder)
                self._saved = now
            except OSError as error:
                self._complain(error)

    def close(self) -> None:
        """Close the file and free the lock."""
        self._close_file()
        self._lock.release()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Delete the journal, because the store has everything.

        It loses its name first, all at once: a process that is killed meanwhile, or a power cut,
        leaves a whole journal, whose state says that the store has everything, or none. On Windows
        it keeps its name, and a part of it may be left.
        """
        self._close_file()  # Windows deletes only what is closed
        doomed = self.folder.with_name(f".{self.folder.name}{REMOVED}")
        with suppress(OSError):
            sync_names(self.folder)
            self.folder.rename(doomed)
            sync_names(doomed.parent)
        self._lock.release()
        shutil.rmtree(doomed, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)  # Windows renames none whose lock is open


def journals() -> Iterator[Path]:
    """Yield the folders of this user's journals, oldest first.

    Raises:
        InputError, UntrustedError: Their root is not this user's alone (`journal_root`).
    """
    own = [folder for folder, problem in candidates() if not problem]
    yield from sorted(own, key=_modified)


def open_journal(run_id: str) -> Journal | None:
    """Open the journal of a run, by the id of the run or its own; None when there is none.

    Raises:
        LockedError: Another process has it open.
        InputError, UntrustedError: The root is not this user's alone (`journal_root`).
    """
    for folder, problem in candidates():
        if problem:
            _log.warning("the journal %s is left alone: it %s", folder, problem)
    for folder in journals():
        if run_id in (folder.name, stored_run_id(folder)):
            try:
                return Journal.open(folder)
            except FileNotFoundError:
                continue  # delivered and removed meanwhile
    return None


def stored_run_id(folder: Path) -> str | None:
    """Return the id of a journal's run in the store, without opening the journal.

    Of a run that was joined while the store did not answer, only the header says it.
    """
    return State.read(folder).run_id or _joined_run_id(folder)


def _joined_run_id(folder: Path) -> str | None:
    try:
        with open_regular(folder / RECORDS_FILE) as file:
            first = read_first(file)
    except (OSError, RecordError):
        return None
    return first.run_id if isinstance(first, RunStart) else None


def is_in_use(run_id: str) -> bool:
    """Tell whether a living process has a journal of a run open."""
    try:
        folders = list(journals())
    except UntrustedError:  # without a home there are no journals that could say so
        return False
    return any(
        FileLock(folder / LOCK_FILE).is_held()
        for folder in folders
        if stored_run_id(folder) == run_id
    )


def _modified(folder: Path) -> float:
    try:
        return (folder / RECORDS_FILE).stat().st_mtime
    except OSError:
        return 0.0
