"""The write-ahead journal: what a run logs, on the local disk before it is in the store.

A journal is a folder. `journal.jsonl` is append-only: a line is the CRC-32 of a JSON record, a
blank and that record. `state.json` says what of it the store has. Files to be delivered (artifacts,
the model, checkpoints) lie beside them. The folder is removed when the store has everything.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import threading
import zlib
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from fm_mlflow.errors import TrackingError
from fm_mlflow.process.atomic_file import atomic_file
from fm_mlflow.process.file_lock import FileLock
from fm_mlflow.tracking.outbox.records import Record, RecordError, RunStart, read_record
from fm_mlflow.tracking.outbox.roots import (
    RECORDS_FILE,
    UntrustedError,
    candidates,
    in_root,
)
from fm_mlflow.tracking.outbox.state import State

_log = logging.getLogger(__name__)

_LOCK_FILE = "lock"


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
        self._lock = FileLock(folder / _LOCK_FILE)
        self._guard = threading.Lock()
        self._unwritten: list[bytes] = []
        self._file: FileIO | None = None
        self._end = 0
        self._warned = False
        self.damaged = 0
        """Lines within the journal, not at its end, that cannot be read."""

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
            folder.mkdir(mode=0o700)
            try:
                with atomic_file(folder / RECORDS_FILE, durable=True) as temporary:
                    temporary.write_bytes(_encoded(header))
                journal = cls(folder)
                journal._open()
            except OSError:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            return journal

        return in_root(write)

    @classmethod
    def open(cls, folder: Path) -> Journal:
        """Open a journal that exists, and lock it.

        Raises:
            LockedError: Another process has it open: the run itself, `sync` or `resume`.
            FileNotFoundError: It has been removed.
            RecordError: It holds records that this version cannot read.
        """
        if not (folder / RECORDS_FILE).exists():
            raise FileNotFoundError(folder)
        journal = cls(folder)
        journal._open()
        return journal

    def _open(self) -> None:
        self._lock.acquire()
        try:
            path = self.folder / RECORDS_FILE
            # Opening must not touch it: its last change is when its run was last alive.
            self._file = path.open("r+b", buffering=0)
            self._read()
            self.state = State.read(self.folder)
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        lines = (self.folder / RECORDS_FILE).read_bytes().splitlines(keepends=True)
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                break  # torn by a power cut: the next record is written over it
            values = _decoded(line)
            try:
                if values is None:
                    self.damaged += 1
                else:
                    self.records.append(read_record(values))
            except RecordError as error:
                raise RecordError(f"line {number} of journal {self.folder}: {error}") from error
            self._end += len(line)

    @property
    def header(self) -> RunStart:
        """The first record.

        Raises:
            TrackingError: It is damaged.
        """
        first = self.records[0] if self.records else None
        if not isinstance(first, RunStart):
            raise TrackingError("the journal's first line is damaged: it does not say whose it is")
        return first

    def append(self, record: Record, *, durable: bool = False) -> int:
        """Add a record.

        Args:
            record: Of any kind.
            durable: Return only once it would survive a power cut (an fsync).

        Returns:
            The record's number.
        """
        line = _encoded(record)
        with self._guard:
            self._unwritten.append(line)
            try:
                self._write(durable)
            except OSError as error:
                self._complain(error)
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
        """Store `state`; after a crash it may be older than the truth, which does no harm."""
        try:
            self.state.write(self.folder)
        except OSError as error:
            self._complain(error)

    def close(self) -> None:
        """Close the file and free the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._lock.release()

    def remove(self) -> None:
        """Delete the journal, because the store has everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()


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
    """Return the id of a journal's run in the store, without opening the journal."""
    return State.read(folder).run_id


def is_in_use(run_id: str) -> bool:
    """Tell whether a living process has a journal of a run open."""
    try:
        folders = list(journals())
    except UntrustedError:  # without a home there are no journals that could say so
        return False
    return any(
        FileLock(folder / _LOCK_FILE).is_held()
        for folder in folders
        if stored_run_id(folder) == run_id
    )


def _modified(folder: Path) -> float:
    try:
        return (folder / RECORDS_FILE).stat().st_mtime
    except OSError:
        return 0.0


def _encoded(record: Record) -> bytes:
    # `default` is asked for the JSON object of a record, and of the points within it.
    text = json.dumps(record, default=lambda each: each.to_json(), separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _decoded(line: bytes) -> dict[str, Any] | None:
    checksum, _, text = line.removesuffix(b"\n").partition(b" ")
    try:
        if int(checksum, 16) != zlib.crc32(text):
            return None
        values = json.loads(text)
    except ValueError:
        return None
    return values if isinstance(values, dict) else None
