"""Programs that are not trusted, in a process of their own: no secrets, with limits, one answer."""

from __future__ import annotations

import os
import re
import signal
import site
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fm_mlflow.process.forked import Forked
from fm_mlflow.process.linux import close_to_others, open_to_others
from fm_mlflow.process.redaction import redact
from fm_mlflow.process.waiting import Waiting

# Where programs and libraries are, how text is written, what decides how numbers are computed.
_NEEDED = re.compile(
    "PATH|LANG|LANGUAGE|LC_.*|TZ|SYSTEMROOT|PATHEXT|(DY)?LD_LIBRARY_PATH"
    "|PYTHON(PATH|HASHSEED|DONTWRITEBYTECODE|PYCACHEPREFIX)"
    "|(XLA|OMP|KMP|MKL|OPENBLAS|DNNL|ONEDNN|CUDA|NVIDIA|ROCM|HIP)_.*"
    # Not all of TF_: much of that is Terraform's.
    "|TF_(CPP|CPU|CUDA|CUDNN|DETERMINISTIC|DISABLE|ENABLE|FORCE|GPU|MKL|NUM|ONEDNN|OVERRIDE|USE|XLA)"
    "_.*"
)
_Process = Forked | subprocess.Popen[bytes]
_ROOT = Path(__file__).resolve().parents[2]
_TAIL_BYTES = 64 * 1024
_SHOWN = 500
_LOOK_SECONDS = 0.05
_END_SECONDS = 15.0
"""Longer than the supervisor takes to end what it started."""


@dataclass(frozen=True)
class Limits:
    """What a confined program may take.

    Attributes:
        seconds: Time, from its start to its end.
        memory: Resident bytes, of all its processes together. (Not on Windows.)
        file_size: Bytes of each file that it writes. (Not on Windows.)
        answer: Bytes that it may send.
    """

    seconds: float
    memory: int
    file_size: int
    answer: int


class ConfinedError(Exception):
    """A confined program failed or took too much; says which in one line of foreign text."""


class ConfinedStoppedError(ConfinedError):
    """A confined program was stopped because nobody wants its answer any more."""


class ConfinedTimeoutError(ConfinedError):
    """A confined program took too long."""


def run_confined(
    program: str,
    arguments: Sequence[str],
    folder: Path,
    limits: Limits,
    variables: Mapping[str, str] | None = None,
    beside: threading.Event | None = None,
    ready: Forked | Waiting | None = None,
) -> bytes:
    """Run a Python program that is not trusted, and return what it wrote to its standard output.

    It runs as the same user, so this is no sandbox: it can reach what that user can, files and
    network. But it has an empty working directory, home and folder for temporary files, of the
    environment only what computing needs, no descriptor but its own standard streams, and limits.
    What it started is ended with it. It cannot read this process's memory or environment (on Linux;
    root can).

    Args:
        program: A module, or the path of a `.py` file.
        arguments: Of its command line.
        folder: An existing folder, in which its three folders are made.
        limits: What it may take.
        variables: More of its environment.
        beside: It runs beside our own work until this is set. It is no stranger then: it may know
            what this process knows.
        ready: A copy of this process, made for `supervisor.main`, or one that `start_ahead` has
            started for the same folder and variables, instead of a new one. One that has ended
            before it is called is replaced.

    Raises:
        ConfinedError: It failed, or exceeded a limit.
    """
    if not isinstance(ready, Waiting):
        _make_folders(folder)
    if ready is not None and ready.poll() is not None:  # somebody killed it before it was called
        ready = None
    supervised = [str(limits.memory), str(limits.file_size), program, *arguments]
    module = "fm_mlflow.process.supervisor"
    command = [module, *supervised] if ready else [sys.executable, "-m", module, *supervised]
    was_open, ended_orderly = close_to_others() if beside is None else False, True
    try:
        process = (ready or subprocess.Popen)(
            command,
            cwd=folder / "work",
            env={**_environment(folder), **(variables or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        ended_orderly = False
        with _Pipes(process, limits.answer) as pipes:
            try:
                if beside is None:
                    process.wait(limits.seconds)
                else:
                    _wait(process, limits.seconds, beside)
            except subprocess.TimeoutExpired:
                message = f"it did not end within {limits.seconds:g} s"
                raise ConfinedTimeoutError(message) from None
            finally:
                _end(process)
                ended_orderly = process.returncode is not None and process.returncode >= 0
    finally:
        # What escaped its supervisor may live, and look for as long as we do.
        if was_open and ended_orderly:
            open_to_others()
    if len(pipes.answer) > limits.answer:
        raise ConfinedError(f"it sent more than {limits.answer:,} bytes")
    if process.returncode != 0:
        raise ConfinedError(pipes.last_line() or f"it ended with code {process.returncode}")
    return bytes(pipes.answer)


@contextmanager
def start_ahead(
    prepare: str, folder: Path, variables: Mapping[str, str] | None = None
) -> Iterator[Waiting]:
    """Start the process of a confined program, which imports libraries until it is called.

    Args:
        prepare: What it calls first, as `module:function`: nothing that is not trusted.
        folder: An existing folder; that of `run_confined`.
        variables: Likewise.
    """
    _make_folders(folder)
    environment = {**_environment(folder), **(variables or {})}
    process = Waiting(prepare, folder / "work", environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        with process:  # waits, and closes its streams
            pass


def _make_folders(folder: Path) -> None:
    for name in ("work", "home", "tmp"):
        (folder / name).mkdir()


def _environment(folder: Path) -> dict[str, str]:
    """Return what computing needs of our environment: nothing that holds a secret."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if _NEEDED.fullmatch(name.upper()) and redact(value) == value
    }
    places = filter(None, [str(_ROOT), variables.get("PYTHONPATH")])
    variables["PYTHONPATH"] = os.pathsep.join(places)
    if site.ENABLE_USER_SITE:  # found by the home folder, which is another one there
        variables["PYTHONUSERBASE"] = site.getuserbase()
    home, temporary = str(folder / "home"), str(folder / "tmp")
    variables |= dict.fromkeys(("HOME", "USERPROFILE"), home)
    return variables | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), temporary)


def _wait(process: _Process, seconds: float, stop: threading.Event) -> None:
    """Wait for the end of a process, looking a few times a second."""
    until = time.monotonic() + seconds
    while process.poll() is None:
        if stop.wait(_LOOK_SECONDS):
            raise ConfinedStoppedError("it was stopped")
        if time.monotonic() > until:
            raise subprocess.TimeoutExpired(process.args, seconds)


def _end(process: _Process) -> None:
    """End what has not ended: by the supervisor, which knows all of it, or else by force."""
    if process.poll() is None and sys.platform != "win32":
        with suppress(OSError, subprocess.TimeoutExpired):
            process.stdin.close()  # type: ignore[union-attr]
            process.wait(_END_SECONDS)
    if process.returncode is None or process.returncode < 0:  # the supervisor did not do its work
        if sys.platform != "win32":
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()


class _Pipes:
    """Reads a process's two streams on threads, so that it never waits for us.

    Attributes:
        answer: Of standard output, up to one byte more than the limit; then the process is ended.
    """

    def __init__(self, process: _Process, limit: int) -> None:
        self._process = process
        self._limit = limit
        self._tail = b""
        self.answer = b""
        self._threads = [
            threading.Thread(target=each, daemon=True) for each in (self._receive, self._drain)
        ]

    def __enter__(self) -> _Pipes:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(_END_SECONDS)
        # A process that escaped may hold the other ends; then the threads wait on, and harm nobody.
        if not any(thread.is_alive() for thread in self._threads):
            with suppress(OSError):
                for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                    stream.close()  # type: ignore[union-attr]

    def last_line(self) -> str:
        """Return the last line of standard error, cut to what can be shown."""
        lines = self._tail.decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")[:_SHOWN]

    def _receive(self) -> None:
        self.answer = self._process.stdout.read(self._limit + 1)  # type: ignore[union-attr]
        if len(self.answer) > self._limit:
            with suppress(OSError):
                self._process.stdin.close()  # type: ignore[union-attr]

    def _drain(self) -> None:
        # Whatever a library prints; the end says why it failed.
        stream: Any = self._process.stderr
        while piece := stream.read1(_TAIL_BYTES):
            self._tail = (self._tail + piece)[-_TAIL_BYTES:]
