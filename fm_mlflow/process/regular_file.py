"""Regular files only: the path that somebody gives may lead to a pipe, a device or a folder."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

# Without waiting for a pipe's other end or a device; Windows has neither flag nor such files.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file, or a link to one, for reading.

    Raises:
        OSError: It is a pipe, a socket, a device or a folder, is missing, or cannot be read;
            `strerror` says which.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except ValueError as error:
        reason = f"no path can hold this: {error}"
        raise OSError(errno.EINVAL, reason, ascii(str(path))) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def size_of(file: BufferedReader) -> int:
    """Return the size of an open file in bytes."""
    return os.fstat(file.fileno()).st_size
