"""Points at which a process touches disk, store and other processes; faults that strike there.

The package knows nothing of it. `install` wraps, in a process that was forked for it, the few
functions that all of that goes through: opening, writing, syncing, renaming, removing and locking
files below a folder, commits of SQLAlchemy, requests of `requests`, starts of processes. A point is
what is done, to what, by which function of the package, and the how-many-th time:

    rename state.json tracking/outbox/state.py:write#2
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import io
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from fm_mlflow.process.forked import Forked
from fm_mlflow.process.temporary import MARK

PACKAGE = str(Path(__file__).resolve().parents[1] / "fm_mlflow") + os.sep

ON_FILES = ("open", "write", "fsync", "rename", "unlink", "rmdir", "mkdir", "lock")
ON_STORES = ("commit", "request")
FAULTS: dict[str, tuple[str, ...]] = {
    "kill": (*ON_FILES, *ON_STORES, "start"),
    "memory": (*ON_FILES, *ON_STORES, "start"),
    "stop": (*ON_FILES, *ON_STORES, "start"),
    "clock": (*ON_FILES, *ON_STORES, "start"),
    "enospc": ("open", "write", "fsync", "mkdir", "rename"),
    "eio": ON_FILES,
    "torn": ("write",),
    "refused": ON_STORES,
    "lost": ON_STORES,
    "eagain": ("start",),
}
"""Which faults strike at which kinds of points.

kill: SIGKILL before it is done. memory: MemoryError, as an exception that can come anywhere. stop:
SIGTERM. clock: the clock goes back an hour. enospc, eio: the error; of a write, when half is done.
torn: SIGKILL when half is written. refused: the store is not reached. lost: it does what it is
asked, and the answer is lost. eagain: no process can be started.
"""

_HOUR = 3600
_IDS = re.compile(rf"{MARK}(-\w{{8}})?|(?<=uploading\.)\w+|[0-9a-f]{{8,}}")
_ERRORS = {"enospc": errno.ENOSPC, "eio": errno.EIO, "eagain": errno.EAGAIN}

_T = TypeVar("_T")


def kind_of(point: str) -> str:
    """Return what is done at a point."""
    return point.partition(" ")[0]


class Points:
    """Numbers the points that this process passes, and strikes at one of them.

    Args:
        root: Only files below it count.
        log: An open descriptor, which gets each point as a line; -1 for none.
        at: The point to strike at; none by default.
        fault: What happens there.
        once: A file that is made when the fault strikes: of several processes that pass their
            points with it, the first is struck.
    """

    def __init__(
        self,
        root: Path,
        log: int = -1,
        at: str = "",
        fault: str = "",
        once: Path | None = None,
    ) -> None:
        self._root = f"{root}{os.sep}"
        self._log = log
        self._at = at
        self._fault = fault
        self._passed: Counter[str] = Counter()
        self._guard = threading.RLock()
        self._once = once
        self._open = os.open
        self._write = os.write
        self._readlink = os.readlink

    def path(self, file: Any, dir_fd: int | None = None) -> str:
        """Return the path of what is touched, if it counts; empty if not."""
        try:
            if isinstance(file, int):
                text = self._readlink(f"/proc/self/fd/{file}")
            else:
                text = os.fsdecode(os.fspath(file))
                if dir_fd is not None:
                    text = os.path.join(self._readlink(f"/proc/self/fd/{dir_fd}"), text)
                text = os.path.abspath(text)
        except (TypeError, OSError):
            return ""
        return text if text.startswith(self._root) else ""

    def reach(self, kind: str, target: str, act: Callable[[], _T], half: Any = None) -> _T:
        """Do something, unless the fault strikes here.

        Args:
            kind: What is done.
            target: To what.
            act: Does it.
            half: Does half of it; of a write.
        """
        name = f"{kind} {_IDS.sub('*', os.path.basename(target))} {_place()}"
        with self._guard:
            self._passed[name] += 1
            point = f"{name}#{self._passed[name]}"
        if self._log >= 0:
            self._write(self._log, f"{point}\n".encode())
        return self._strike(kind, act, half) if point == self._at and self._is_first() else act()

    def _is_first(self) -> bool:
        if self._once is None:
            return True
        try:
            self._open(self._once, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return False
        return True

    def _strike(self, kind: str, act: Callable[[], _T], half: Any) -> _T:
        self._at = ""
        if self._log >= 0:
            self._write(self._log, b"struck\n")
        if self._fault in ("torn", "enospc", "eio") and half is not None:
            half()
        if self._fault in ("kill", "torn"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fault == "memory":
            raise MemoryError("a fault")
        if self._fault in _ERRORS:
            number = _ERRORS[self._fault]
            raise OSError(number, os.strerror(number))
        if self._fault == "stop":
            os.kill(os.getpid(), signal.SIGTERM)
        if self._fault == "clock":
            _turn_back_the_clock()
        if self._fault == "lost":
            act()
        if self._fault in ("refused", "lost"):
            if kind == "commit":
                raise sqlite3.OperationalError("database is locked")
            import requests

            raise requests.ConnectionError("a fault")
        return act()


def _place() -> str:
    """Return the function of the package that is at work, innermost; of `process/` its caller."""
    frame: FrameType | None = sys._getframe(2)
    within = ""
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(PACKAGE):
            place = f"{code.co_filename.removeprefix(PACKAGE)}:{code.co_name}"
            if not place.startswith("process/"):
                return place
            within = within or place
        frame = frame.f_back
    return within or "elsewhere"


def _turn_back_the_clock() -> None:
    seconds, nanoseconds = time.time, time.time_ns
    time.time = lambda: seconds() - _HOUR
    time.time_ns = lambda: nanoseconds() - _HOUR * 10**9


def install(points: Points) -> None:
    """Have this process, which ends with it, pass all its points through `points`."""
    _wrap_names(points)
    _wrap_descriptors(points)
    _wrap_files(points)
    _wrap_stores(points)
    _wrap_starts(points)


def _wrap_names(points: Points) -> None:
    def wrap(name: str, kind: str, place: int = 0) -> None:
        function = getattr(os, name)

        def wrapped(*given: Any, **more: Any) -> Any:
            path = points.path(given[place], more.get("dir_fd"))
            if not path:
                return function(*given, **more)
            return points.reach(kind, path, lambda: function(*given, **more))

        setattr(os, name, wrapped)

    for name, kind in (("rename", "rename"), ("replace", "rename")):
        wrap(name, kind, 1)
    for name, kind in (("unlink",) * 2, ("remove", "unlink"), ("rmdir",) * 2, ("mkdir",) * 2):
        wrap(name, kind)


def _wrap_descriptors(points: Points) -> None:
    opened, written, synced, locked = os.open, os.write, os.fsync, fcntl.flock

    def open_(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        def act() -> int:
            return opened(path, flags, mode, dir_fd=dir_fd)

        found = points.path(path, dir_fd) if flags & (os.O_WRONLY | os.O_RDWR) else ""
        return points.reach("open", found, act) if found else act()

    def write(descriptor: int, data: Any) -> int:
        path = points.path(descriptor)
        if not path:
            return written(descriptor, data)
        return points.reach(
            *("write", path, lambda: written(descriptor, data)),
            lambda: written(descriptor, bytes(data)[: len(data) // 2]),
        )

    def fsync(file: Any) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()
        if path := points.path(descriptor):
            return points.reach("fsync", path, lambda: synced(descriptor))
        return synced(descriptor)

    def flock(file: Any, operation: int) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()
        if path := points.path(descriptor):
            return points.reach("lock", path, lambda: locked(descriptor, operation))
        return locked(descriptor, operation)

    os.open, os.write, os.fsync = open_, write, fsync  # type: ignore[assignment]
    fcntl.flock = flock


def _wrap_files(points: Points) -> None:
    opened = io.open

    class File(io.FileIO):
        """A file whose every write is a point."""

        def write(self, data: Any) -> int:
            done = super().write
            return points.reach(
                *("write", points.path(self.fileno()), lambda: done(data)),
                lambda: done(bytes(data)[: len(data) // 2]),
            )

    def open_(file: Any, mode: str = "r", buffering: int = -1, *given: Any, **more: Any) -> Any:
        path = points.path(file) if set(mode) & set("wax+") else ""
        if not path or given[3:] or not set(more) <= {"encoding", "errors", "newline"}:
            return opened(file, mode, buffering, *given, **more)
        raw = mode.replace("b", "").replace("t", "")
        if isinstance(file, int):
            found = File(file, raw)
        else:
            found = points.reach("open", path, lambda: File(file, raw))
        if buffering == 0:
            return found
        size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
        buffered = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(found, size)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, *given, **more)

    io.open = builtins.open = open_


def _wrap_stores(points: Points) -> None:
    from requests.adapters import HTTPAdapter
    from sqlalchemy.engine.default import DefaultDialect

    commit: Any = DefaultDialect.do_commit
    send = HTTPAdapter.send

    def do_commit(self: Any, connection: Any) -> None:
        points.reach("commit", "store", lambda: commit(self, connection))

    def send_(self: Any, request: Any, *given: Any, **more: Any) -> Any:
        target = f"{request.method}-{request.path_url.partition('?')[0].rstrip('/')}"
        return points.reach("request", target, lambda: send(self, request, *given, **more))

    DefaultDialect.do_commit = do_commit  # type: ignore[method-assign]
    HTTPAdapter.send = send_  # type: ignore[method-assign]


def _wrap_starts(points: Points) -> None:
    start, call = subprocess.Popen.__init__, Forked.__call__

    def init(self: Any, args: Any, *given: Any, **more: Any) -> None:
        with suppress(Exception):
            self._child_created = False  # for its finalizer, where it is not started
        points.reach("start", "process", lambda: start(self, args, *given, **more))

    def forked(self: Any, *given: Any, **more: Any) -> Any:
        return points.reach("start", "copy", lambda: call(self, *given, **more))

    subprocess.Popen.__init__ = init  # type: ignore[method-assign]
    Forked.__call__ = forked  # type: ignore[method-assign]
