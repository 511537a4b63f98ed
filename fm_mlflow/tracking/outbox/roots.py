"""Where journals are: in one folder that belongs to this user alone, and what makes it that.

A journal says which store a run's files go to, so one that somebody else wrote would send this
user's files anywhere. None is found by where it lies: not in the working directory, not in a folder
for temporary files.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import shlex
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from fm_mlflow.errors import InputError, TrackingError
from fm_mlflow.process.atomic_file import durable_folder

_log = logging.getLogger(__name__)

_SYNC = "fm-mlflow sync"
RECORDS_FILE = "journal.jsonl"
REMOVED = ".removed"
"""How the name of a folder ends that was a journal, and is about to be deleted."""
VARIABLE = "FM_MLFLOW_JOURNAL_DIR"
_ACCEPTED = "the absolute path of a folder of yours that nobody else can write, or of a new one"
_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_JOURNAL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")

_fallbacks: set[str] = set()

_T = TypeVar("_T")


class UntrustedError(TrackingError):
    """A folder or a file is not this user's alone, or is not where it says it is."""


def journal_root() -> Path:
    """Return the folder of all journals, which may be missing yet.

    It is $FM_MLFLOW_JOURNAL_DIR, else in the user's folder for state, so that `fm-mlflow sync`
    finds them from anywhere.

    Raises:
        InputError: The variable names a folder that is not this user's alone.
        UntrustedError: The folder for state is not.
    """
    if named := os.environ.get(VARIABLE):
        try:
            root = Path(named).expanduser()
        except RuntimeError as error:
            raise InputError(VARIABLE, named, f"{_ACCEPTED}; {error}") from error
        if not root.is_absolute():  # the working directory would decide whose journals are used
            raise InputError(VARIABLE, named, _ACCEPTED)
        if problem := what_is_wrong(root):
            raise InputError(VARIABLE, named, f"{_ACCEPTED}; it {problem}")
        return root
    root = _state_folder() / "fm_mlflow" / "journal"
    _keep_others_out(root)
    if problem := what_is_wrong(root):
        raise UntrustedError(f"{root} {problem}; mend that, or set {VARIABLE} to another folder")
    return root


def _state_folder() -> Path:
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_STATE_HOME"
    named = Path(os.environ.get(variable, ""))
    if named.is_absolute():
        return named
    try:
        home = Path.home()
    except RuntimeError as error:
        raise UntrustedError(f"there is no home folder for journals; set {VARIABLE}") from error
    return home.joinpath(
        *(("AppData", "Local") if sys.platform == "win32" else (".local", "state"))
    )


def _keep_others_out(root: Path) -> None:
    """Take from others what the umask gave them when an earlier version made the folder."""
    with suppress(OSError):
        found = os.lstat(root)
        if sys.platform != "win32" and stat.S_ISDIR(found.st_mode) and found.st_mode & _OTHERS:
            root.chmod(stat.S_IRWXU)


def what_is_wrong(folder: Path) -> str:
    """Say why a folder is not this user's alone; empty when it is, or is missing."""
    try:
        found = os.lstat(folder)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"cannot be looked at ({error.strerror})"
    if stat.S_ISLNK(found.st_mode):
        return "is a link; name the folder that it leads to"
    if not stat.S_ISDIR(found.st_mode):
        return "is not a folder"
    if sys.platform != "win32":  # which keeps owner and permissions elsewhere
        if found.st_uid != os.geteuid():
            return f"belongs to another user (uid {found.st_uid})"
        if found.st_mode & _OTHERS:
            return f"can be written by others (`chmod go-w {shlex.quote(str(folder))}` ends that)"
    return ""


def in_root(write: Callable[[Path], _T]) -> _T:
    """Have something written into the folder of all journals, which is made when it is missing.

    Where the user's home cannot be written, it is a new folder for temporary files, which is
    $FM_MLFLOW_JOURNAL_DIR from then on, of this process and of those that it starts.

    Args:
        write: Called with the folder; raises OSError where it cannot be written.

    Raises:
        InputError: `journal_root` says when.
        TrackingError: Nothing can be written.
    """
    try:
        root = journal_root()
        durable_folder(root, stat.S_IRWXU, exist_ok=True)
        return write(journal_root())  # looked at again: somebody may have been faster
    except (OSError, UntrustedError) as error:
        reason = _reason(error)
        if named := os.environ.get(VARIABLE):
            raise TrackingError(
                f"no journal can be written ({named}: {reason}); set {VARIABLE} to a folder that "
                "can"
            ) from error
    try:
        fallback = Path(tempfile.mkdtemp(prefix="fm_mlflow-journals-"))
        written = write(fallback)
    except OSError as error:
        raise TrackingError(
            f"no journal can be written ({reason}; {tempfile.gettempdir()}: {_reason(error)}); "
            f"set {VARIABLE} to a folder that can"
        ) from error
    os.environ[VARIABLE] = str(fallback)
    _fallbacks.add(str(fallback))
    atexit.register(_remove_if_empty, fallback)
    _log.warning(
        "no journal can be written in the home folder (%s); this one is in %s, where "
        "`fm-mlflow sync` and `resume` find it with %s=%s",
        reason,
        fallback,
        VARIABLE,
        shlex.quote(str(fallback)),
    )
    return written


def sync_command() -> str:
    """Return the command that delivers what is pending, as it is typed in a shell of its own."""
    root = os.environ.get(VARIABLE, "")
    return f"{VARIABLE}={shlex.quote(root)} {_SYNC}" if root in _fallbacks else _SYNC


def lock_folder() -> Path:
    """Return the folder of the locks that the processes of this user share; it exists."""
    return in_root(_writable)


def _writable(root: Path) -> Path:
    if not os.access(root, os.W_OK | os.X_OK):
        raise PermissionError(f"{root} cannot be written")
    return root


def _reason(error: OSError | TrackingError) -> str:
    return getattr(error, "strerror", None) or str(error)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def candidates() -> Iterator[tuple[Path, str]]:
    """Yield what lies in the root and looks like a journal, and what is wrong with each, or "".

    Raises:
        InputError, UntrustedError: `journal_root` says when.
    """
    try:
        folders = list(journal_root().iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise UntrustedError(f"the journals' folder cannot be read: {error}") from error
    for folder in folders:
        if folder.name.endswith(REMOVED):
            continue
        problem = what_is_wrong(folder) or _wrong_within(folder)
        # Into some folders nobody can look, another user's say.
        if os.path.lexists(folder / RECORDS_FILE) or (problem and folder.name.startswith("j-")):
            yield folder, problem


def _wrong_within(folder: Path) -> str:
    if not _JOURNAL_NAME.fullmatch(folder.name):
        return "has a name that no journal has"
    try:
        problems = (_wrong_entry(path) for path in list(folder.iterdir()))
        return next(filter(None, problems), "")
    except FileNotFoundError:  # it has just been delivered
        return ""
    except OSError as error:
        return f"cannot be looked into ({error.strerror})"


def _wrong_entry(path: Path) -> str:
    try:
        found = os.lstat(path)
    except FileNotFoundError:  # its process has it open, and has just replaced it
        return ""
    if stat.S_ISLNK(found.st_mode):
        return f"holds a link: {path.name}"
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        return f"holds {path.name}, which is no file"
    if sys.platform != "win32" and found.st_uid != os.geteuid():
        return f"holds another user's file: {path.name} (uid {found.st_uid})"
    return ""


def confined(folder: Path, name: str) -> Path:
    """Return a file or folder of a journal, by its path in the journal's folder.

    Args:
        folder: The journal's.
        name: With `/` between its parts, as a record has it.

    Raises:
        UntrustedError: It leads out of the journal, or it is, or holds, anything but files and
            folders: a link, say.
    """
    parts = name.split("/") if isinstance(name, str) else []
    if not parts or not all(_JOURNAL_NAME.fullmatch(part) for part in parts):
        raise UntrustedError(f"{name!r} is not the path of a file in a journal")
    path = folder
    for part in parts:
        path = path / part
        _refuse_links(path)
    for parent, folders, files in os.walk(path):
        for each in (*folders, *files):
            _refuse_links(Path(parent, each))
    return path


def _refuse_links(path: Path) -> None:
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return  # whoever needs it says so
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        raise UntrustedError(f"{path} is a link, or no file at all, and stays here")
