"""What Linux lets a process set about itself, by prctl(2); elsewhere these do nothing."""

from __future__ import annotations

import ctypes
import sys

_SET_PARENT_DEATH_SIGNAL = 1
_GET_DUMPABLE, _SET_DUMPABLE = 3, 4
_SET_CHILD_SUBREAPER = 36
_SIGKILL = 9


def end_with_parent() -> None:
    """Have this process killed when the one that started it ends."""
    _prctl(_SET_PARENT_DEATH_SIGNAL, _SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, instead of init."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def close_to_others() -> bool:
    """Keep processes of the same user from reading and writing this one's memory and environment.

    Those of root still can. Debuggers and core dumps are kept out as well.

    Returns:
        Whether it was open before.
    """
    was_open = _prctl(_GET_DUMPABLE, 0) == 1
    _prctl(_SET_DUMPABLE, 0)
    return was_open


def open_to_others() -> None:
    """Undo `close_to_others`."""
    _prctl(_SET_DUMPABLE, 1)


def _prctl(option: int, value: int) -> int:
    if not sys.platform.startswith("linux"):
        return -1
    return int(ctypes.CDLL(None).prctl(option, value, 0, 0, 0))
