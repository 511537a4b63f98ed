"""Files that are written whole or not at all: a reader, or a crash, never meets half of one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a temporary file's path beside `path`, and rename it to `path` at the end of the block.

    If the block raises, the temporary file is removed and `path` is left as it was. Its name, which
    has the suffix of `path`, cannot be guessed: it keeps two writers apart, and in a folder that
    others can write nobody can have put a link there that the writing would follow.

    Args:
        path: The file to be written, or replaced.
        durable: Return only once it would survive a power cut (an fsync of file and folder).
    """
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(8)}.part{path.suffix}")
    try:
        yield temporary
        if durable:
            sync_to_disk(temporary)
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    if durable and os.name == "posix":
        # The file is whole and in its place; some shared folders refuse to sync themselves.
        with suppress(OSError):
            sync_to_disk(path.parent)


def sync_to_disk(path: Path) -> None:
    """Have a file's contents, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
