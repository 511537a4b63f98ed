"""Files that are written whole or not at all: a reader, or a crash, never meets half of one.

After a power cut, a file's data are there if the file was synced, its name if its folder was.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fm_mlflow.process.temporary import MARK, mark, remove_abandoned_files

_LONGEST_STEM = 32
"""Of a temporary file's name: with up to 4 bytes a character, and mark and token, 255 hold it."""


@contextmanager
def atomic_file(path: Path, *, durable: bool = False, beside: Path | None = None) -> Iterator[Path]:
    """Give a temporary file's path beside `path`, and rename it to `path` at the end of the block.

    After a power cut `path` is the file before or the new one, and whole. If the block raises, the
    temporary file is removed and `path` is left as it was. Its name, which has the suffix of
    `path`, cannot be guessed: it keeps two writers apart, and in a folder that others can write
    nobody can have put a link there that the writing would follow. What a process that was killed
    has left of an earlier writing is removed.

    Args:
        path: The file to be written, or replaced.
        durable: Return only once the new one would survive a power cut.
        beside: What the temporary file lies beside, instead of `path`: who lists the folder of
            `path` is not to find it.
    """
    near = beside or path
    remove_abandoned_files(near.parent, _temporary_names(path))
    token = secrets.token_hex(8)
    temporary = near.with_name(f".{_stem(path)}.{mark()}.{token}.part{path.suffix}")
    try:
        yield temporary
        # The name may survive a power cut that the data did not survive.
        (sync_to_disk if durable else sync_where_possible)(temporary)
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    if durable:
        sync_names(path.parent)


def durable_folder(path: Path, mode: int = 0o777, *, exist_ok: bool = False) -> None:
    """Make a folder whose name survives a power cut, and those above it that are missing.

    Args:
        path: The folder.
        mode: Its permissions, before the umask.
        exist_ok: Leave one that is there as it is.

    Raises:
        OSError: It cannot be made.
    """
    if exist_ok and path.is_dir():
        return
    if not path.parent.exists():
        durable_folder(path.parent, exist_ok=True)
    path.mkdir(mode, exist_ok=exist_ok)
    sync_names(path.parent)


def sync_folder(folder: Path) -> dict[str, int]:
    """Have all that is in a folder survive a power cut; return bytes of each file, by path."""
    sizes = {}
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            sync_names(path)
        elif path.is_file():
            sync_to_disk(path)
            sizes[path.relative_to(folder).as_posix()] = path.stat().st_size
    return sizes


def sync_names(folder: Path) -> None:
    """Have the names in a folder survive a power cut, where the system can do that."""
    if os.name == "posix":
        # Some shared folders refuse, and whatever is in them is no worse for that.
        with suppress(OSError):
            sync_to_disk(folder)


def _stem(path: Path) -> str:
    return path.stem[:_LONGEST_STEM]


def _temporary_names(path: Path) -> re.Pattern[str]:
    stem, suffix = re.escape(_stem(path)), re.escape(path.suffix)
    return re.compile(rf"\.{stem}\.({MARK})\.[0-9a-f]{{16}}\.part{suffix}")


def sync_where_possible(path: Path) -> None:
    """Have a file's contents survive a power cut, unless its file system knows no fsync."""
    try:
        sync_to_disk(path)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def sync_to_disk(path: Path) -> None:
    """Have a file's contents, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
