"""A pipe on which a process tells the one that started it how it goes, one text a line.

It is no standard stream: what libraries print cannot disturb it.
"""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

VARIABLE = "FM_MLFLOW_PROGRESS_FD"
"""Names the file descriptor that a process inherits for it."""


class LineReader:
    """Reads the lines that another process writes; never waits for them.

    On Windows, where a process cannot inherit a pipe's end, there are none.
    """

    def __init__(self) -> None:
        self._pipe: io.FileIO | None = None
        self._rest = b""

    @contextmanager
    def writer(self) -> Iterator[tuple[int, ...]]:
        """Open the pipe; lend the end that the other process is to inherit while it starts."""
        if sys.platform == "win32":
            yield ()
            return
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        self._pipe = io.FileIO(reader)
        try:
            yield (writer,)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(writer)

    def lines(self) -> list[bytes]:
        """Return the whole lines that have come since the last call."""
        if self._pipe is not None and not self._pipe.closed:
            self._rest += self._pipe.readall() or b""
        *lines, self._rest = self._rest.split(b"\n")
        return lines

    def close(self) -> None:
        """Read no more."""
        if self._pipe is not None:
            self._pipe.close()


class Parent:
    """The process that started this one and reads its lines, on the other end of a pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_inheritable(descriptor, False)
        os.set_blocking(descriptor, False)

    def tell(self, line: str) -> None:
        """Write a line; drop it where the pipe is full, closed, or read by nobody."""
        with suppress(OSError):
            os.write(self._descriptor, line.encode(errors="replace") + b"\n")


@cache
def parent() -> Parent | None:
    """Return the process that wants to be told; None where there is none.

    The first call takes the variable out of the environment, so that no process that this one
    starts takes the pipe for its own.
    """
    text = os.environ.pop(VARIABLE, "")
    with suppress(ValueError, OSError):
        if stat.S_ISFIFO(os.fstat(int(text)).st_mode):
            return Parent(int(text))
    return None
