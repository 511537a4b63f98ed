"""Real processes that start as copies of the tests' own, which has imported the libraries.

A process that imports TensorFlow and MLflow takes seconds before it does anything. The copies are
made by a process that was forked where pytest had imported the libraries and no test file: some of
these have TensorFlow do something, which starts threads. A copy is as a process that was executed:
it is a child of whoever started it, has its own pid, session, arguments, environment, working
folder and streams, runs its program as `__main__`, hears signals and ends as Python does, and
starts its own Python programs in the same way. But modules are imported already, and `/proc` shows
the command line of the tests.

What the start of a command involves - imports, and what the environment tells a library when it is
imported - is tested with processes that are executed: `subprocess.Popen`.
"""

from __future__ import annotations

import atexit
import faulthandler
import fcntl
import gc
import importlib
import inspect
import logging
import os
import pickle
import runpy
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from fm_mlflow.process import quiet
from fm_mlflow.process.linux import adopt_orphans, end_with_parent
from tests.processes import PROJECT

_READ_AT_IMPORT = ("CUDA_", "KERAS_", "LD_", "OMP_", "PYTHON", "TF_", "XLA_")
"""Variables that libraries read once: where they differ, a copy is not what is executed."""
_HONOURED = {"PYTHONPATH", "PYTHONUNBUFFERED"}
_OF_COMMANDS = {"KERAS_BACKEND": "tensorflow", **quiet.THREADS}
"""What a command sets itself, before TensorFlow does anything."""

_LIBRARIES = (
    "keras",
    "matplotlib.figure",
    "mlflow.tensorflow",
    "sklearn.datasets",
    "tensorflow",
    "fm_mlflow.tracking.registry",
    "fm_mlflow.tracking.run",
)

_SIZE = struct.Struct("!I")
_MOST_DESCRIPTORS = 16
_HIGH = 500
"""Descriptors from here on are in nobody's way."""

_maker: socket.socket | None = None
"""Where this process asks for copies of itself as it was; None where it cannot."""
_lock = threading.Lock()


@dataclass(frozen=True)
class _Request:
    """A program to be, and where.

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


def import_libraries() -> None:
    """Import what nearly all processes of the tests need."""
    for name in _LIBRARIES:
        importlib.import_module(name)


def prepare() -> None:
    """Make the process that makes copies of this one.

    Raises:
        RuntimeError: TensorFlow has threads already, which copies would wait for in vain.
    """
    global _maker
    if sys.platform != "linux":
        return
    threads = [each.read_text() for each in Path("/proc/self/task").glob("*/comm")]
    if any(name.startswith("tf_") for name in threads):
        raise RuntimeError("TensorFlow has done something: no copies can be made any more")
    adopt_orphans()
    ours, theirs = (_moved(end) for end in socket.socketpair())
    if _fork():
        theirs.close()
        _maker = ours
        return
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _empty_descriptors(but=theirs.fileno())
    request, inherited = _make_copies(theirs)  # returns in the copies
    theirs.close()
    _be(request, inherited)


class Popen(subprocess.Popen[Any]):
    """`subprocess.Popen` that copies instead of executing where the program is Python's.

    What cannot be copied is executed: other programs, options of Python, other libraries' settings.
    """

    def _execute_child(self, *arguments: Any) -> None:
        execute = super()._execute_child  # type: ignore[misc]
        given = inspect.signature(execute).bind(*arguments).arguments
        streams = [given[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        if (request := _request(given)) is None or _maker is None:
            execute(*arguments)
            return
        ours = [own if end == -1 else end for own, end in enumerate(streams)]
        with _lock:
            payload = pickle.dumps(request)
            descriptors = [*ours, *request.descriptors[3:]]
            socket.send_fds(_maker, [_SIZE.pack(len(payload))], descriptors)
            _maker.sendall(payload)
            (self.pid,) = _SIZE.unpack(_read(_maker, _SIZE.size))
        self._child_created = True
        ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(given[name] for name in ends))  # type: ignore[attr-defined]


def start(
    function: Callable[..., object],
    *arguments: object,
    environment: Mapping[str, str],
    output: Path,
) -> Popen:
    """Start a process that calls a function of a module.

    Args:
        function: What it does.
        arguments: The function's.
        environment: All of its environment.
        output: The file that it writes its output to; its working directory is this file's folder.
    """
    call = pickle.dumps((function, arguments))
    code = f"import pickle; function, arguments = pickle.loads({call!r}); function(*arguments)"
    path = os.pathsep.join(filter(None, [str(PROJECT), environment.get("PYTHONPATH")]))
    with output.open("wb") as file:
        return Popen(
            [sys.executable, "-c", code],
            cwd=output.parent,
            env={**environment, "PYTHONPATH": path},
            stdout=file,
            stderr=file,
        )


def run(
    command: list[str], *, timeout: float | None = None, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; keep what it writes."""
    pipe = subprocess.PIPE
    with Popen(command, stdout=pipe, stderr=pipe, text=True, **settings) as process:
        out, err = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _request(given: Mapping[str, Any]) -> _Request | None:
    """Return what a process is to be; None where it has to be executed."""
    command = given["args"]
    environment = dict(os.environ if given["env"] is None else given["env"])
    is_plain = (
        isinstance(command, list)
        and len(command) > 1
        and given["executable"] is None
        and given["preexec_fn"] is None
        and given["close_fds"]
        and not given["shell"]
        and all(given.get(name) in (None, -1) for name in ("gid", "gids", "uid", "umask"))
        and given.get("process_group") in (None, -1)
    )
    if not is_plain or os.fspath(command[0]) != sys.executable or not _fits(environment):
        return None
    kind, program, *arguments = ["", *command[1:]] if command[1][0] != "-" else command[1:]
    if kind not in ("", "-m", "-c"):
        return None
    return _Request(
        kind,
        program,
        tuple(map(os.fspath, arguments)),
        os.path.abspath(os.fspath(given["cwd"] or ".")),
        environment,
        bool(given["start_new_session"]),
        (0, 1, 2, *given["pass_fds"]),
    )


def _fits(environment: Mapping[str, str]) -> bool:
    """Whether libraries that are imported with an environment are as they are in copies."""
    changed = {name for name, _ in environment.items() ^ os.environ.items()} - _HONOURED
    places = environment.get("PYTHONPATH", "").split(os.pathsep)
    return not any(
        name.startswith(_READ_AT_IMPORT) and environment.get(name) != _OF_COMMANDS.get(name)
        for name in changed
    ) and not any(Path(place, "sitecustomize.py").exists() for place in places if place)


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads: whose are not in the copy, nor needed there
        return os.fork()


def _moved(end: socket.socket) -> socket.socket:
    """Move a socket to a descriptor that no process wants to inherit."""
    with end:
        return socket.socket(fileno=fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _HIGH))


def _empty_descriptors(but: int) -> None:
    """Let go of what the original has open; libraries' own descriptors must remain some."""
    null = fcntl.fcntl(os.open(os.devnull, os.O_RDWR), fcntl.F_DUPFD_CLOEXEC, _HIGH)
    for each in map(int, os.listdir("/proc/self/fd")):
        if each not in (but, null):
            os.dup2(null, each, inheritable=each < 3)
    os.close(null)


def _read(channel: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (piece := channel.recv(size - len(data))):
            raise EOFError("the process that makes copies is gone")
        data += piece
    return data


def _make_copies(channel: socket.socket) -> tuple[_Request, list[int]]:
    """Make copies for the process at the other end until it ends; returns in each copy."""
    while True:
        head, inherited, _, _ = socket.recv_fds(channel, _SIZE.size, _MOST_DESCRIPTORS)
        if not head:
            os._exit(0)
        request: _Request = pickle.loads(_read(channel, *_SIZE.unpack(head)))
        reader, writer = os.pipe()
        if not (between := _fork()):
            # The copy's own parent ends at once, so that our parent, which adopts orphans, gets it.
            between = os.getpid()
            if copy := _fork():
                os.write(writer, _SIZE.pack(copy))
                os._exit(0)
            while os.getppid() == between:
                time.sleep(0.0005)
            for end in (reader, writer):
                os.close(end)
            return request, inherited
        os.waitpid(between, 0)
        channel.sendall(os.read(reader, _SIZE.size))
        for end in (reader, writer, *inherited):
            os.close(end)


def _be(request: _Request, inherited: list[int]) -> NoReturn:
    """Be the process that was asked for."""
    if request.has_session:
        os.setsid()
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    if "tensorflow" in sys.modules:
        for name, value in quiet.THREADS.items():
            os.environ.setdefault(name, value)
    prepare()
    subprocess.Popen = Popen  # type: ignore[misc]
    high = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _HIGH) for each in inherited]
    for each in inherited:
        os.close(each)
    for number, each in zip(request.descriptors, high, strict=True):
        os.dup2(each, number)
        os.close(each)
    _be_new()
    sys.path[:] = _search_path(request)
    sys.argv[:] = [request.kind if request.kind == "-c" else request.program, *request.arguments]
    try:
        code = _run(request)
        threading._shutdown()  # type: ignore[attr-defined]  # as Python ends
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException:
        traceback.print_exc()
        os._exit(120)
    if code is None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code or 0)


def _be_new() -> None:
    """Undo what the tests have set for themselves."""
    faulthandler.disable()
    gc.enable()
    gc.set_threshold(700, 10, 10)
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


def _search_path(request: _Request) -> list[str]:
    """Return where Python looks for modules: the tests' own places are not among them."""
    first = os.path.dirname(request.program) if not request.kind else request.folder
    given = request.environment.get("PYTHONPATH", "").split(os.pathsep)
    installed = (sys.prefix, sys.base_prefix)
    return [first, *filter(None, given), *(p for p in sys.path if p.startswith(installed))]


def _run(request: _Request) -> int | None:
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
        sys.excepthook(type(error), error, error.__traceback__)
        return None if isinstance(error, KeyboardInterrupt) else 1
    return 0
