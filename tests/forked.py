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
import fcntl
import importlib
import inspect
import os
import pickle
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from fm_mlflow.process import quiet
from fm_mlflow.process.linux import adopt_orphans, end_with_parent
from tests.processes import PROJECT
from tests.program import Program, be_new, run as run_program, search_path

READ_AT_IMPORT = ("CUDA_", "KERAS_", "LD_", "OMP_", "PYTHON", "TF_", "XLA_")
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
    "tests.quick_stores",
)

_SIZE = struct.Struct("!I")
_MOST_DESCRIPTORS = 16
_HIGH = 500
"""Descriptors from here on are in nobody's way."""

_maker: socket.socket | None = None
"""Where this process asks for copies of itself as it was; None where it cannot."""
_lock = threading.Lock()


def import_libraries() -> None:
    """Import what nearly all processes of the tests need, without TensorFlow's lines on stderr."""
    visible = os.dup(2)
    try:
        with open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), 2)
        for name in _LIBRARIES:
            importlib.import_module(name)
    finally:
        os.dup2(visible, 2)
        os.close(visible)


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


def _request(given: Mapping[str, Any]) -> Program | None:
    """Return what a process is to be; None where it has to be executed."""
    command = _without_shell(given["args"], given["env"])
    environment = dict(os.environ if given["env"] is None else given["env"])
    is_plain = (
        isinstance(command, (list, tuple))
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
    return Program(
        kind,
        program,
        tuple(map(os.fspath, arguments)),
        os.path.abspath(os.fspath(given["cwd"] or ".")),
        environment,
        bool(given["start_new_session"]),
        (0, 1, 2, *given["pass_fds"]),
    )


def _without_shell(command: Any, environment: Mapping[str, str] | None) -> Any:
    """Return the only command of a text for bash, which runs in the shell's place: MLflow's way."""
    if not isinstance(command, (list, tuple)) or tuple(command[:-1]) != ("bash", "-c"):
        return command
    try:
        words = shlex.split(command[-1])
    except ValueError:
        return command
    path = (os.environ if environment is None else environment).get("PATH")
    is_python = words and shutil.which(words[0], path=path) == sys.executable
    is_plain = not re.search(r"[^\w\s'./:=+,-]", command[-1])
    return [sys.executable, *words[1:]] if is_python and is_plain else command


def _fits(environment: Mapping[str, str]) -> bool:
    """Whether libraries that are imported with an environment are as they are in copies."""
    changed = {name for name, _ in environment.items() ^ os.environ.items()} - _HONOURED
    places = environment.get("PYTHONPATH", "").split(os.pathsep)
    return not any(
        name.startswith(READ_AT_IMPORT) and environment.get(name) != _OF_COMMANDS.get(name)
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


def _make_copies(channel: socket.socket) -> tuple[Program, list[int]]:
    """Make copies for the process at the other end until it ends; returns in each copy."""
    while True:
        head, inherited, _, _ = socket.recv_fds(channel, _SIZE.size, _MOST_DESCRIPTORS)
        if not head:
            os._exit(0)
        request: Program = pickle.loads(_read(channel, *_SIZE.unpack(head)))
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


def _be(request: Program, inherited: list[int]) -> NoReturn:
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
    be_new()
    sys.path[:] = search_path(request)
    sys.argv[:] = [request.kind if request.kind == "-c" else request.program, *request.arguments]
    try:
        code = run_program(request)
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
