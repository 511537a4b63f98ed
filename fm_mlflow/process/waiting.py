"""A new process that imports what it will need while it waits to be called."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fm_mlflow.process import supervisor
from fm_mlflow.process.quiet import stdout_to_stderr


class Waiting(subprocess.Popen[bytes]):
    """A supervisor and its program's process, which waits to be called as `subprocess.Popen`.

    The program's process imports its libraries itself: a copy made afterwards could use no GPU, and
    would count other pages as its own.

    Args:
        prepare: What it calls first, as `module:function`.
        folder: Its working directory.
        environment: Its variables; it keeps what `prepare` adds to them.
    """

    def __init__(self, prepare: str, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(
            [sys.executable, "-m", __name__, prepare],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def __call__(self, args: Sequence[str], **_: Any) -> Waiting:
        """Let it run what the arguments of `supervisor.main` say."""
        assert self.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, as `poll` will say
            self.stdin.write(json.dumps(args[1:]).encode() + b"\n")
            self.stdin.flush()
        return self


def main() -> None:
    """Have a process prepare, and supervise it from the call on."""
    assert sys.platform != "win32"
    theirs, ours = os.pipe()
    if child := supervisor.fork():
        os.close(theirs)
        if not (call := sys.stdin.buffer.readline()):
            os._exit(0)  # nobody will ever call; the child ends with us
        arguments = json.loads(call)
        if os.waitpid(child, os.WNOHANG)[0]:  # killed, perhaps for its memory; nobody is to blame
            os.execv(sys.executable, [sys.executable, "-m", supervisor.__name__, *arguments])
        with suppress(BrokenPipeError), os.fdopen(ours, "wb") as pipe:
            pipe.write(call)
        supervisor.supervise(child, int(arguments[0]))
    os.close(ours)
    module, _, function = sys.argv[1].partition(":")
    try:
        with stdout_to_stderr():  # which is for the program's answer
            getattr(importlib.import_module(module), function)()
    except Exception:  # the program will say what it lacks
        traceback.print_exc()
    with os.fdopen(theirs, "rb") as pipe:
        _, file_size, program, *arguments = json.loads(pipe.readline())
    supervisor.restrict(int(file_size))
    supervisor.run(program, arguments)


if __name__ == "__main__":
    main()
