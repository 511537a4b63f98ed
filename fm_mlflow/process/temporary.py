"""Temporary files and folders that say whose they are, so that those of killed processes go.

Their names have a mark: the host and its boot, the process, and when that started. Whoever makes
the next one beside them removes those whose process is gone. Those of another host or an earlier
boot stay: nobody here can tell.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

from fm_mlflow.process.identity import Presence, this_process

MARK = r"[0-9a-f]{8}-[0-9]{1,10}-[0-9a-z_]{1,32}"
_PREFIX = "fm_mlflow-"
_FOLDER = re.compile(rf"{_PREFIX}({MARK})-\w+")


def mark() -> str:
    """Return what a name has to say of this process."""
    return _mark(os.getpid())


@cache
def _mark(_pid: int) -> str:
    process = this_process()
    return f"{_host_and_boot()}-{process.pid}-{process.start.replace('.', '_')}"


def is_abandoned(mark: str) -> bool:
    """Tell whether the process of a mark, which `MARK` matches, was here and is gone."""
    where, pid, start = mark.split("-")
    if where != _host_and_boot():
        return False
    process = replace(this_process(), pid=int(pid), start=start.replace("_", "."))
    return process.presence() is Presence.GONE


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a new folder; remove it afterwards as far as that is possible."""
    folder = Path(tempfile.mkdtemp(prefix=temporary_prefix()))
    try:
        yield folder
    finally:
        _remove(folder)


def temporary_prefix() -> str:
    """Return how the name of a temporary folder has to begin; abandoned ones are removed first."""
    _remove_abandoned_folders_once(tempfile.gettempdir())
    return f"{_PREFIX}{mark()}-"


def remove_abandoned_folders() -> None:
    """Remove this user's temporary folders whose process is gone."""
    for folder in _entries(Path(tempfile.gettempdir())):
        found = _FOLDER.fullmatch(folder.name)
        if found and _is_own(folder, stat.S_ISDIR) and is_abandoned(found[1]):
            _remove(folder)


@cache
def _remove_abandoned_folders_once(_place: str) -> None:
    """Do so once in a process: there may be thousands of other files to look at."""
    remove_abandoned_folders()


def remove_abandoned_files(folder: Path, name: re.Pattern[str]) -> None:
    """Remove this user's files whose process is gone.

    Args:
        folder: Where they are.
        name: Matches their names; its first group is the mark.
    """
    for path in _entries(folder):
        found = name.fullmatch(path.name)
        if found and _is_own(path, stat.S_ISREG) and is_abandoned(found[1]):
            with suppress(OSError):  # it does no harm where it is
                path.unlink()


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_own(path: Path, is_kind: Callable[[int], bool]) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return is_kind(found.st_mode) and found.st_uid == getattr(os, "geteuid", int)()


def _remove(folder: Path) -> None:
    # Something of a stranger's may be left that nests deeper than Python can follow.
    with suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)


@cache
def _host_and_boot() -> str:
    process = this_process()
    return hashlib.sha256(f"{process.host} {process.boot}".encode()).hexdigest()[:8]
