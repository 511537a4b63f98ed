"""Opening files that others may have put there: regular ones only, without following a link."""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO
from pathlib import Path

# Windows has neither, and would translate line ends.
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def open_regular(path: Path, *, writing: bool = False) -> FileIO:
    """Open a file that exists; a pipe or a device would make the reader wait, or never end.

    Args:
        path: The file.
        writing: Open it for reading and writing.

    Raises:
        OSError: It is missing, cannot be opened, or is a folder, a link, a pipe or a device.
    """
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a link", str(path))
    descriptor = os.open(path, (os.O_RDWR if writing else os.O_RDONLY) | _FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return FileIO(descriptor, "r+" if writing else "r")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, limit: int) -> bytes:
    """Return what is in a file.

    Args:
        path: The file.
        limit: How many bytes it may have at most.

    Raises:
        OSError: It cannot be opened (`open_regular`), or is larger.
    """
    with open_regular(path) as file:
        contents = file.read(limit + 1) or b""
    if len(contents) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit} bytes", str(path))
    return contents
