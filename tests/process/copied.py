"""What copies of a process do in the tests: in a file of its own, which is imported in no time."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from fm_mlflow.process import beside


def prepare() -> None:
    """Take a moment, as an import does."""
    time.sleep(0.05)


def note_process(path: Path) -> None:
    path.write_text(f"{os.getpid()} {os.getppid()}")


def fail(what: str) -> None:
    raise ArithmeticError(what)


def branches() -> tuple[int, int, int, str]:
    """Return who calls, who is asked, who answers for one that was killed, and what one raises."""
    here, there = os.getpid(), beside.branch(os.getpid)
    killed = beside.branch(kill_others, here)
    try:
        beside.branch(fail, "too much")()
    except ArithmeticError as error:
        return here, there(), killed(), f"{type(error).__name__}: {error}"
    raise AssertionError


def kill_others(process: int) -> int:
    if os.getpid() != process:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()
