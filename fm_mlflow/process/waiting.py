"""A new process that imports what it will need while it waits to be called."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fm_mlflow.process import supervisor
from fm_mlflow.process.forked import run_when_called


class Waiting(subprocess.Popen[bytes]):
    """A process that waits to be called as `subprocess.Popen` would be; see `Forked`.

    Args:
        prepare: What it calls first, as `module:function`.
        folder: Its working directory until it is called.
        environment: Its variables.
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

    def __call__(self, args: Sequence[str], *, cwd: Any, env: Any, **_: Any) -> Waiting:
        """Let it run `supervisor.main`: arguments, working directory, environment are its own."""
        assert self.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, as `poll` will say
            self.stdin.write(json.dumps([list(args), str(cwd), dict(env)]).encode() + b"\n")
            self.stdin.flush()
        return self


def main() -> None:
    """Prepare, and wait for the call."""
    module, _, function = sys.argv[1].partition(":")
    getattr(importlib.import_module(module), function)()
    run_when_called(supervisor.main)


if __name__ == "__main__":
    main()
