"""A lock on a file that one process holds and that dies with it."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

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
        path: The file; made when it is absent. It holds the pid of its last holder.
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
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._lock(descriptor, wait)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        # A full disk: who holds the lock is only a help to readers.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())

    def _lock(self, descriptor: int, wait: bool) -> None:
        until = time.monotonic() + _GLANCE_SECONDS
        while not _try_lock(descriptor):
            # Whoever only looks whether it is held (`is_held`) holds it for that moment.
            if not wait and time.monotonic() > until:
                pid = os.read(descriptor, 32).decode(errors="replace").strip()
                raise LockedError(f"process {pid or 'unknown'} holds {self._path}")
            time.sleep(_RETRY_SECONDS)

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
        """Take the lock, waiting until it is free."""
        self.acquire(wait=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give it back."""
        self.release()


if sys.platform == "win32":

    def _try_lock(descriptor: int) -> bool:
        # Far behind the pid, because Windows forbids others to read what is locked.
        os.lseek(descriptor, 1024, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
