"""Calls of functions in a copy of this process, beside what it does meanwhile."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from fm_mlflow.process.identity import usable_cores
from fm_mlflow.process.linux import end_with_parent

_P = ParamSpec("_P")
_T = TypeVar("_T")

_is_copy = False
"""Whether a `Beside` made this process."""


class Beside:
    """Calls functions beside this process; a context manager.

    Python runs one thread of a process at a time, so that what is not to delay this process needs
    one of its own. A command's is copied at its very start, when it is small, and has nothing of a
    user's own and no library's threads. Where there is no such copy - from Python, with one core,
    not on Linux, or not allowed - and where it has ended, this process calls the functions.

    Args:
        prepare: What the copy is to do first: to import what the functions need.
    """

    def __init__(self, prepare: Callable[[], object]) -> None:
        self._prepare = prepare
        self._pool: ProcessPoolExecutor | None = None
        self._prepared: Future[object] = Future()
        self._copies: list[BaseProcess] = []
        self._begun: list[tuple[Future[object], Callable[[], object]]] = []

    def __enter__(self) -> Beside:
        """Copy the process, if it may be."""
        if is_new_command() and "mlflow" not in sys.modules and (usable_cores() or 1) > 1:
            try:
                self._copy()
            except (OSError, ImportError, NotImplementedError, RuntimeError):
                self._kill()  # there are no semaphores here, or no further process or thread
        return self

    def __exit__(self, *_: object) -> None:
        """End the copy; what has not begun is not done."""
        if self._pool is not None:
            # Python would wait for a call that has begun. A library that is being imported may
            # have made a lock file, which nobody else would remove.
            if self._prepared.done():
                self._kill()
            self._pool.shutdown(wait=False, cancel_futures=True)

    def call(self, function: Callable[_P, object], *arguments: _P.args, **named: _P.kwargs) -> None:
        """Begin to call a function of a module, with arguments that can be pickled."""

        def here() -> object:
            return function(*arguments, **named)

        if self._pool is None:
            here()
            return
        try:
            self._begun.append((self._pool.submit(function, *arguments, **named), here))
        except BrokenProcessPool:
            here()

    def begin(
        self, function: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs
    ) -> Callable[[], _T]:
        """Begin to call a function of a module, as `call` does.

        Returns:
            Waits for what the function returns, or raises; here it is called only then.
        """

        def here() -> _T:
            return function(*arguments, **named)

        if self._pool is None:
            return here
        try:
            future = self._pool.submit(function, *arguments, **named)
        except BrokenProcessPool:
            return here

        def wait() -> _T:
            try:
                return future.result()
            except BrokenProcessPool:  # somebody killed the copy
                return here()

        return wait

    def finish(self) -> None:
        """Wait until all calls have returned; raise what one has raised."""
        begun, self._begun = self._begun, []
        for future, here in begun:
            try:
                future.result()
            except BrokenProcessPool:  # somebody killed the copy
                here()

    def _copy(self) -> None:
        before = multiprocessing.active_children()
        pool = ProcessPoolExecutor(1, multiprocessing.get_context("fork"), initializer=_begin)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                self._prepared = pool.submit(self._prepare)
        finally:
            now = multiprocessing.active_children()
            self._copies = [each for each in now if each not in before]
        self._pool = pool

    def _kill(self) -> None:
        for each in self._copies:
            each.kill()


def branch(function: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> Callable[[], _T]:
    """Begin to call a function beside what follows, where this process is a copy for a command.

    A copy has one thread, so that a copy of it lacks none, and a core for itself while the command
    waits.

    Returns:
        Gives what the function returns, or raises; in any other process it is called only then.
    """

    def here() -> _T:
        return function(*arguments, **named)

    if not _is_copy:
        return here
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, here))
    try:
        process.start()
    except OSError:  # no further process is allowed
        return here
    finally:
        sender.close()

    def wait() -> _T:
        try:
            answer: _T = receiver.recv()
        except EOFError:  # it was killed, or failed, as the call will here
            return here()
        finally:
            process.join()
        return answer

    return wait


def _answer(sender: Connection, call: Callable[[], object]) -> None:
    end_with_parent()
    sender.send(call())


def is_new_command() -> bool:
    """Whether this is a command's process, on Linux, in which TensorFlow is not imported yet.

    It has nothing of a user's own, and none of TensorFlow's threads, which a copy would lack.
    """
    main: Any = sys.modules["__main__"]
    name = main.__spec__.name if getattr(main, "__spec__", None) else Path(sys.argv[0]).stem
    is_command = name in ("fm_mlflow.__main__", "fm-mlflow")
    return is_command and sys.platform.startswith("linux") and "tensorflow" not in sys.modules


def _begin() -> None:
    """Leave signals to the original: it ends the copy, and the copy ends with it."""
    global _is_copy
    _is_copy = True
    # A thread of the original's may have been writing: its lock would never be released here.
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    end_with_parent()
