"""A lock on a file that one process holds and that dies with it."""

from __future__ import annotations

import math
import os
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


class LockedError(TrackingError):
    """Another process holds the lock."""


class FileLock:
    """An exclusive lock on a file; the operating system frees it when its holder dies.

    Args:
        path: Created when it is missing. It holds the pid of its last holder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self, *, wait: bool = False) -> None:
        """Take the lock.

        Args:
            wait: Wait until it is free.

        Raises:
            LockedError: It is not free.
        """
        # Whoever only looks whether it is held (`is_held`) holds it for that moment.
        until = time.monotonic() + (math.inf if wait else _GLANCE_SECONDS)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while not _try_lock(descriptor):
                if time.monotonic() > until:
                    pid = os.read(descriptor, 32).decode(errors="replace").strip()
                    raise LockedError(f"process {pid or 'unknown'} holds {self._path}")
                time.sleep(_RETRY_SECONDS)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        # A full disk: who holds the lock is only a help to readers.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())

    def is_held(self) -> bool:
        """Tell whether a living process, this one included, holds the lock."""
        try:
            descriptor = os.open(self._path, os.O_RDWR)
        except OSError:
            return False
        try:
            return not _try_lock(descriptor)
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

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
