"""A process that begins as a copy of this one, with all that is imported here."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, NoReturn

_LOOK_SECONDS = 0.02


class Forked:
    """A copy of this process, which waits to be called as `subprocess.Popen` would be.

    It is for a process that would import the same libraries again, seconds of work. It has their
    modules, and neither this process's environment, open files nor signal handlers. Fork where no
    other thread can hold a lock that the copy needs: of TensorFlow before its first operation.
    (On Linux.)

    Args:
        main: What it runs; gets its arguments in `sys.argv`.

    Raises:
        OSError: The system allows no other process, or none of this size.

    Attributes:
        args, pid, returncode, stdin, stdout, stderr: As those of `subprocess.Popen`.
    """

    def __init__(self, main: Callable[[], None]) -> None:
        self.args: Sequence[str] = ()
        self.returncode: int | None = None
        pipes = [os.pipe() for _ in range(3)]
        ours = [pipes[0][1], pipes[1][0], pipes[2][0]]
        theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of threads: see above
                self.pid = os.fork()
            if not self.pid:
                _run(main, theirs)
        except OSError:
            for end in ours:
                os.close(end)
            raise
        finally:
            for end in theirs:
                os.close(end)
        self.stdin: BinaryIO = os.fdopen(ours[0], "wb", buffering=0)
        self.stdout: BinaryIO = os.fdopen(ours[1], "rb")
        self.stderr: BinaryIO = os.fdopen(ours[2], "rb")

    def __call__(self, args: Sequence[str], *, cwd: Any, env: Any, **_: Any) -> Forked:
        """Let it run: arguments, working directory and environment are its own."""
        self.args = args
        with suppress(BrokenPipeError):  # it has ended, as `poll` will say
            self.stdin.write(json.dumps([list(args), str(cwd), dict(env)]).encode() + b"\n")
        return self

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has waited for it
                self.returncode = -1
            else:
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: It did not end so soon.
        """
        began = time.monotonic()
        while (code := self.poll()) is None:
            if timeout is not None and time.monotonic() - began > timeout:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(_LOOK_SECONDS)
        return code

    def kill(self) -> None:
        """Kill it."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def _run(main: Callable[[], None], streams: Sequence[int]) -> NoReturn:
    """Be the copy, which never returns to what the original was doing."""
    try:
        _leave_the_original(streams)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    _run_when_called(main)


def _run_when_called(main: Callable[[], None]) -> NoReturn:
    """Wait for arguments, working directory and environment; run with them, and end the process."""
    code = 1
    try:
        if not (line := sys.stdin.readline()):
            os._exit(0)  # nobody will ever call
        arguments, folder, environment = json.loads(line)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        tempfile.tempdir = None  # it is where the environment says
        if not getattr(sys.flags, "safe_path", False):
            sys.path[0] = folder  # as `python -m` has it
        sys.argv[:] = arguments
        main()
        code = 0
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else int(done.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError):  # nobody reads it any more
            sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _leave_the_original(streams: Sequence[int]) -> None:
    import fcntl

    gc.freeze()  # what is the original's garbage could close files that are ours
    os.setsid()
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals():
        if callable(signal.getsignal(signum)):
            signal.signal(signum, signal.SIG_DFL)
    for number, end in enumerate([fcntl.fcntl(end, fcntl.F_DUPFD, 3) for end in streams]):
        os.dup2(end, number)
    # Emptied, not closed: libraries that reset themselves at each fork (Arrow) abort where the
    # descriptors that they know are no more.
    null = os.open(os.devnull, os.O_RDWR)
    for each in os.listdir("/proc/self/fd"):
        if int(each) > 2 and int(each) != null:
            os.dup2(null, int(each), inheritable=False)
    # The original's objects may be in use by a thread that is not here.
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, closefd=False, errors="backslashreplace")
        for number, mode in enumerate("rww")
    )
