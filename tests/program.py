"""What a copy of the tests' process (`tests/forked.py`) has to do to be as a new one."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import runpy
import signal
import sys
import tempfile
import types
import warnings
from dataclasses import dataclass


@dataclass(frozen=True)
class Program:
    """A program, and what its process is to be.

    Attributes:
        kind: -m, -c, or empty: `program` is a module, code, or a file.
        arguments: What `sys.argv` is to be, the first left out.
        descriptors: Numbers that the process inherits; the first three are its streams.
    """

    kind: str
    program: str
    arguments: tuple[str, ...]
    folder: str
    environment: dict[str, str]
    has_session: bool
    descriptors: tuple[int, ...]


def be_new() -> None:
    """Undo what the tests have set for themselves."""
    faulthandler.disable()
    gc.enable()
    gc.set_threshold(700, 10, 10)
    gc.freeze()  # a new process would not have these objects, to look through and to copy
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals():
        if callable(signal.getsignal(signum)):
            signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)  # as Python begins
    for handler in list(logging.root.handlers):
        if type(handler).__module__.startswith("_pytest"):
            logging.root.removeHandler(handler)
    tempfile.tempdir = None  # it is where the environment says
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        errors = "backslashreplace" if number == 2 else "strict"
        stream = os.fdopen(number, "w" if number else "r", errors=errors, closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def search_path(request: Program) -> list[str]:
    """Return where Python looks for modules: the tests' own places are not among them."""
    first = os.path.dirname(request.program) if not request.kind else request.folder
    given = request.environment.get("PYTHONPATH", "").split(os.pathsep)
    installed = (sys.prefix, sys.base_prefix)
    return [first, *filter(None, given), *(p for p in sys.path if p.startswith(installed))]


def run(request: Program) -> int | None:
    """Run a program as Python does; return its exit code, None where SIGINT ended it."""
    try:
        if request.kind == "-m":
            runpy.run_module(request.program, run_name="__main__", alter_sys=True)
        elif request.kind == "-c":
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(request.program, main.__dict__)
        else:
            runpy.run_path(request.program, run_name="__main__")
    except SystemExit as done:
        if done.code is not None and not isinstance(done.code, int):
            sys.stderr.write(f"{done.code}\n")
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except BaseException as error:
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
        sys.excepthook(type(error), error, error.__traceback__)
        return None if isinstance(error, KeyboardInterrupt) else 1
    return 0
