"""How a process is asked to stop: signals, and the death of the `mlflow run` that started it.

Both end as one `Interrupted`, raised in the main thread, so that a run is closed in one place.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

from fm_mlflow.errors import Interrupted
from fm_mlflow.process.parent import parent

LAUNCHER_POLL_SECONDS = 1.5
_ECHO_SECONDS = 1.0
_PATIENCE = 3
_SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    *([signal.SIGHUP] if sys.platform != "win32" else []),  # the terminal was closed
)
_SHELLS = {"sh", "bash", "dash", "zsh", "cmd", "cmd.exe"}

_guarded = False


class _Stop:
    """The state of one guard: what has been asked, and whether now is a bad moment."""

    def __init__(self) -> None:
        self.reason: str | None = None  # of our own to stop; None: a person asks
        self.over = threading.Event()
        self.asked_at = -math.inf
        self.shields = 0
        self.held_back = 0
        self.pending: Interrupted | None = None

    def handle(self, signum: int, _frame: FrameType | None) -> None:
        """Raise `Interrupted`, or hold it back while the run is opened or closed.

        One request may come as two signals (Ctrl-C reaches us and `mlflow run`, which then
        terminates us), so an echo is ignored; whoever asks again later is heard again.
        """
        interruption = Interrupted(signum, self.reason)
        if self.shields:
            self.held_back += self.reason is None
            self.pending = self.pending or interruption
            if self.held_back < _PATIENCE:
                return
        elif time.monotonic() - self.asked_at < _ECHO_SECONDS:
            return
        self.asked_at = time.monotonic()
        raise interruption


_stop = _Stop()


@contextmanager
def guard() -> Iterator[None]:
    """Turn SIGINT, SIGTERM, SIGHUP and the death of a parent `mlflow run` into `Interrupted`.

    The death of another process of ours that started this one counts alike.

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
    was_started = "MLFLOW_RUN_ID" in os.environ or parent() is not None
    if was_started and (launcher := _launcher()):
        threading.Thread(
            target=_watch, args=(launcher, _stop), name="fm_mlflow-launcher", daemon=True
        ).start()
    try:
        yield
    finally:
        _stop.over.set()
        for signum, handler in replaced.items():
            signal.signal(signum, handler)
        _guarded = False


def interrupt(reason: str) -> None:
    """Have the main thread stop as SIGTERM does, and say why; outside of a guard nothing happens.

    Args:
        reason: One line.
    """
    if _guarded and signal.getsignal(signal.SIGTERM) == _stop.handle:
        threading.Thread(
            target=_insist, args=(_stop, reason), name="fm_mlflow-interrupt", daemon=True
        ).start()


@contextmanager
def shield(*, forget: bool = False) -> Iterator[None]:
    """Hold an interruption back while a run is opened or closed, then raise it.

    The third request breaks through: the store may hang.

    Args:
        forget: Drop it instead: what was to be interrupted is complete.
    """
    stop = _stop
    stop.shields += 1
    try:
        yield
    finally:
        stop.shields -= 1
        stop.held_back = 0
        pending, stop.pending = stop.pending, None
    if pending is not None and not forget:
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


def _watch(launcher: psutil.Process, stop: _Stop) -> None:
    while not stop.over.wait(LAUNCHER_POLL_SECONDS):
        if not _is_alive(launcher):
            _insist(stop, f"the process that started this run ended (pid {launcher.pid})")


def _insist(stop: _Stop, reason: str) -> None:
    """Interrupt the main thread until the guard is over.

    Through the signal handler, because only the main thread can be interrupted; again and again,
    because what it was doing may have swallowed the interruption.
    """
    stop.reason = reason
    while not stop.over.is_set():
        os.kill(os.getpid(), signal.SIGTERM)
        stop.over.wait(LAUNCHER_POLL_SECONDS)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
