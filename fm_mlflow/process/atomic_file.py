"""Files that are written whole or not at all: a reader, or a crash, never meets half of one."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fm_mlflow.process.temporary import MARK, mark, remove_abandoned_files


@contextmanager
def atomic_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a temporary file's path beside `path`, and rename it to `path` at the end of the block.

    If the block raises, the temporary file is removed and `path` is left as it was. Its name, which
    has the suffix of `path`, cannot be guessed: it keeps two writers apart, and in a folder that
    others can write nobody can have put a link there that the writing would follow. What a process
    that was killed has left of an earlier writing is removed.

    Args:
        path: The file to be written, or replaced.
        durable: Return only once it would survive a power cut (an fsync of file and folder).
    """
    remove_abandoned_files(path.parent, _temporary_names(path))
    token = secrets.token_hex(8)
    temporary = path.with_name(f".{path.stem}.{mark()}.{token}.part{path.suffix}")
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


def _temporary_names(path: Path) -> re.Pattern[str]:
    stem, suffix = re.escape(path.stem), re.escape(path.suffix)
    return re.compile(rf"\.{stem}\.({MARK})\.[0-9a-f]{{16}}\.part{suffix}")


def sync_to_disk(path: Path) -> None:
    """Have a file's contents, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
