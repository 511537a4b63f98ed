"""What a cluster's worker does for a job: it runs the command as a child process and tells of it.

A worker is used again, and has memory and threads of its own, so the training is not in it. The
child dies with its worker. Nothing here imports more than the standard library, so that a worker
starts at once.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from fm_mlflow.process.linux import end_with_parent
from fm_mlflow.process.parent import VARIABLE, LineReader
from fm_mlflow.process.temporary import temporary_folder

POLL_SECONDS = 0.1
STOP_SECONDS = 30.0
"""How long a job that was asked to stop may take to close its run."""

MAX_OUTPUT_BYTES = 1_000_000
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)

_OF_RAY = "RAY_"
_THREADS = "OMP_NUM_THREADS"


def run_child(
    arguments: Sequence[str], environment: Mapping[str, str | None], niceness: int | None = None
) -> Iterator[str]:
    """Run `fm-mlflow` with arguments in a child process; yield what it tells, as JSON.

    A KeyboardInterrupt here stops the child as SIGTERM does. What Ray sets for its own workers, the
    number of threads among it, the child does not inherit.

    Args:
        arguments: What follows `python -m fm_mlflow`.
        environment: Variables to set; None removes one. The others are the worker's.
        niceness: What to give the child, where that is permitted; None: the worker's.
    """
    yield json.dumps({"place": socket.gethostname()})
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OF_RAY) and k != _THREADS}
    with temporary_folder() as folder:
        path = folder / "output.log"
        reader = LineReader()
        with path.open("wb") as output, reader.writer() as pipe:
            variables = {**inherited, **environment, VARIABLE: " ".join(map(str, pipe))}
            bound = (str(os.getpid()), "" if niceness is None else str(niceness))
            process = subprocess.Popen(
                [sys.executable, "-m", "fm_mlflow.jobs.child", *bound, *arguments],
                env={name: value for name, value in variables.items() if value is not None},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=pipe,
            )
        try:
            while (code := _wait(process, POLL_SECONDS)) is None:
                yield from _told(reader)
        except KeyboardInterrupt:
            code = stop(process)
        finally:
            if process.poll() is None:
                stop(process)
        yield from _told(reader)
        reader.close()
        yield json.dumps({"code": code, "output": tail(path)})


def _told(reader: LineReader) -> Iterator[str]:
    for line in reader.lines():
        yield json.dumps({"line": line.decode(errors="replace")})


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    with suppress(subprocess.TimeoutExpired):
        return process.wait(seconds)
    return None


def stop(process: subprocess.Popen[bytes]) -> int:
    """Ask a process and those that it started to stop; kill what does not; return its exit code."""
    signal_group(process, signal.SIGTERM)
    if (code := _wait(process, STOP_SECONDS)) is None:
        signal_group(process, KILL)
        code = process.wait()
    return code


def signal_group(process: subprocess.Popen[bytes], signum: int) -> None:
    """Send a signal to a process and to those that it started."""
    with suppress(ProcessLookupError):
        if sys.platform == "win32":
            process.terminate()
        else:
            os.killpg(process.pid, signum)


def tail(path: Path) -> str:
    """Return the end of what a job wrote."""
    with path.open("rb") as output:
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - MAX_OUTPUT_BYTES))
        return output.read().decode(errors="replace")


def main() -> None:
    """Be the child: `python -m fm_mlflow.jobs.child PARENT NICENESS [ARGUMENT]...`."""
    parent, niceness, *arguments = sys.argv[1:]
    end_with_parent()
    if os.getppid() != int(parent):
        sys.exit("the worker ended before its child could start")
    if niceness and sys.platform != "win32":
        with suppress(OSError):  # an ordinary user may not take niceness back
            os.setpriority(os.PRIO_PROCESS, 0, int(niceness))
    sys.argv[:] = ["fm-mlflow", *arguments]
    runpy.run_module("fm_mlflow", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
