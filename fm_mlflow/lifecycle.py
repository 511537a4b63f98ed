"""How a process is asked to stop: signals, and the death of the `mlflow run` that started it.

Both end as one `Interrupted`, raised in the main thread, so that a run is closed in one place.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

from fm_mlflow.errors import Interrupted

LAUNCHER_POLL_SECONDS = 1.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHELLS = {"sh", "bash", "dash", "zsh", "cmd", "cmd.exe"}

_guarded = False


class _Stop:
    """The state of one guard: what has been asked, and whether now is a bad moment."""

    def __init__(self) -> None:
        self.launcher_ended: str | None = None
        self.asked = False
        self.shielded = False
        self.pending: Interrupted | None = None

    def handle(self, signum: int, _frame: FrameType | None) -> None:
        """Raise `Interrupted` once; what comes while the run is being closed is too late."""
        if self.asked:
            return
        self.asked = True
        interruption = Interrupted(signum, self.launcher_ended)
        if self.shielded:
            self.pending = interruption
            return
        raise interruption


_stop = _Stop()


@contextmanager
def guard() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and the death of a parent `mlflow run` into `Interrupted`.

    Does nothing inside another guard or outside the main thread. A SIGTERM handler that the
    embedding program set itself is left alone.
    """
    global _guarded, _stop
    if _guarded or threading.current_thread() is not threading.main_thread():
        yield
        return
    _guarded, _stop = True, _Stop()
    ours = {signal.default_int_handler, signal.SIG_DFL}
    replaced = {
        signum: signal.signal(signum, _stop.handle)
        for signum in _SIGNALS
        if signal.getsignal(signum) in ours
    }
    done = threading.Event()
    if "MLFLOW_RUN_ID" in os.environ and (launcher := _launcher()):
        threading.Thread(
            target=_watch, args=(launcher, _stop, done), name="fm_mlflow-launcher", daemon=True
        ).start()
    try:
        yield
    finally:
        done.set()
        for signum, handler in replaced.items():
            signal.signal(signum, handler)
        _guarded = False


@contextmanager
def shield() -> Iterator[None]:
    """Hold an interruption back while the run is written to its end, then raise it."""
    stop = _stop
    stop.shielded = True
    try:
        yield
    finally:
        stop.shielded = False
    if stop.pending is not None:
        pending, stop.pending = stop.pending, None
        raise pending


def _launcher() -> psutil.Process | None:
    """Return the process that handed its run to us, `mlflow run` as a rule.

    MLflow starts the command through `bash -c`, which may stay in between. A parent that is an
    interactive shell gave us a run id by hand; it may well end before we do.
    """
    try:
        parent = psutil.Process().parent()
        if parent is None or parent.name() not in _SHELLS:
            return parent
        if "-c" in parent.cmdline() or "/c" in parent.cmdline():
            return parent.parent()
    except psutil.Error:
        return None  # it ended while we looked
    return None


def _watch(launcher: psutil.Process, stop: _Stop, done: threading.Event) -> None:
    while not done.wait(LAUNCHER_POLL_SECONDS):
        if not _is_alive(launcher):
            stop.launcher_ended = f"the process that started this run ended (pid {launcher.pid})"
            # Through the signal handler, because only the main thread can be interrupted.
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
