"""A lock on a file that one process holds and that dies with it."""

from __future__ import annotations

import errno
import math
import os
import re
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path

from fm_mlflow.errors import TrackingError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


_RETRY_SECONDS = 0.02
_GLANCE_SECONDS = 0.2

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # Windows has none
_PID_DIGITS = 20
_PID = re.compile(rb"\d* *|\0*")  # the latter after a power cut


class LockedError(TrackingError):
    """Another process holds the lock."""


class FileLock:
    """An exclusive lock on a file; the operating system frees it when its holder dies.

    The file holds the pid of its last holder, and is removed when the lock is given back.

    Args:
        path: Created when it is missing, in a folder that others cannot write.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self, *, wait: bool = False) -> None:
        """Take the lock, unless this object holds it already.

        Args:
            wait: Wait until it is free.

        Raises:
            LockedError: It is not free.
            TrackingError: What is at the path is not a lock: a link, say. It is left as it is.
        """
        if self._descriptor is not None:
            return
        # Whoever only looks whether it is held (`is_held`) holds it for that moment.
        until = time.monotonic() + (math.inf if wait else _GLANCE_SECONDS)
        while self._descriptor is None:
            descriptor = self._open(os.O_CREAT)
            try:
                if _try_lock(descriptor):
                    # Its holder may just have removed it: then another file is the lock now.
                    if self._is_at_path(descriptor):
                        self._descriptor = descriptor
                elif time.monotonic() > until:
                    pid = os.read(descriptor, _PID_DIGITS).decode(errors="replace").strip()
                    raise LockedError(f"process {pid or 'unknown'} holds {self._path}")
                else:
                    time.sleep(_RETRY_SECONDS)
            finally:
                if self._descriptor is None:
                    os.close(descriptor)
        # A full disk: who holds the lock is only a help to readers.
        with suppress(OSError):
            os.write(self._descriptor, str(os.getpid()).ljust(_PID_DIGITS).encode())

    def is_held(self) -> bool:
        """Tell whether a living process, this one included, holds the lock."""
        try:
            descriptor = self._open()
        except (OSError, TrackingError):
            return False
        try:
            return not _try_lock(descriptor)
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Give the lock back and remove its file; harmless when it is not held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        if sys.platform != "win32" and self._is_at_path(descriptor):
            with suppress(OSError):
                self._path.unlink()
        os.close(descriptor)
        if sys.platform == "win32":
            with suppress(OSError):  # Windows removes no file that another process has open
                self._path.unlink()

    def _open(self, flags: int = 0) -> int:
        """Open the file, if it is one of ours: no link to another, and no other file's name."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | _NO_LINK | flags, 0o600)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                raise
            raise self._not_a_lock() from error
        found = os.fstat(descriptor)
        is_own = stat.S_ISREG(found.st_mode) and found.st_nlink <= 1 and not self._path.is_symlink()
        if not is_own or not _PID.fullmatch(os.read(descriptor, _PID_DIGITS + 1)):
            os.close(descriptor)
            raise self._not_a_lock()
        return descriptor

    def _not_a_lock(self) -> TrackingError:
        return TrackingError(f"{self._path} should be a lock and is another file; remove it")

    def _is_at_path(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.lstat(self._path))
        except FileNotFoundError:
            return False

    def __enter__(self) -> FileLock:
        self.acquire(wait=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            # Far behind the pid, because Windows forbids others to read what is locked.
            os.lseek(descriptor, 1024, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # the latter on Windows
        return False
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)
    return True
