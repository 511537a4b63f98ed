"""Commands, processes and ports: where the project is, how long to wait, when a server answers."""

from __future__ import annotations

import io
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import psutil
import pytest
import requests

from fm_mlflow.cli import main

PROJECT = Path(__file__).parents[1]
START_SECONDS = 120
"""How long a process may take until it shows that it works: TensorFlow imports slowly."""


def command_in_this_process(*arguments: str) -> tuple[int, str, str]:
    """Run the command line without waiting for imports: its exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(SystemExit) as ended, redirect_stdout(out), redirect_stderr(err):
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code, out.getvalue(), err.getvalue()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.1)
    pytest.fail(f"waited {seconds:.0f} s for {what}")


def is_running(pid: int) -> bool:
    """Whether a process has not ended; one that nobody has asked about since has."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until_it_answers(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server that was started answers at an address; fail with its log if it ends."""

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return requests.get(address, timeout=1).ok
        except requests.RequestException:
            return False

    wait_for(answers, f"the server at {address}")
