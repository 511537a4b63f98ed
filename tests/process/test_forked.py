"""Copies of this process: what they have of it, and how they end."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from fm_mlflow.process import supervisor
from fm_mlflow.process.confined import ConfinedStoppedError, Limits, run_confined
from fm_mlflow.process.forked import Forked
from tests.processes import is_running

LIMITS = Limits(seconds=60, memory=8 * 1024**3, file_size=1024**2, answer=1024**2)
"""A copy is as large as the tests' process, which has TensorFlow, unless only these tests run."""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there")

LOOK = """
import json, os, signal, sys, tempfile
from fm_mlflow.process import forked
with os.fdopen(os.dup(1), "w") as answer:
    json.dump({
        "parts": forked.PARTS, "secret": os.environ.get("SECRET_OF_THE_ORIGINAL"),
        "more": os.environ["MORE"], "folder": os.getcwd(), "path": sys.path[0],
        "arguments": sys.argv[1:], "files": [
            path for each in os.listdir("/proc/self/fd")
            if os.path.isfile(path := os.path.realpath(f"/proc/self/fd/{each}"))
        ],
        "handled": signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL,
        "session": os.getsid(0) == os.getppid(), "temporary": tempfile.gettempdir(),
    }, answer)
"""


def test_it_has_the_modules_and_neither_environment_files_nor_handlers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fm_mlflow.process.forked.PARTS", "imported before", raising=False)
    monkeypatch.setenv("SECRET_OF_THE_ORIGINAL", "hunter2")
    program = tmp_path / "look.py"
    program.write_text(LOOK)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with open(program):
            forked = Forked(supervisor.main)
    finally:
        signal.signal(signal.SIGTERM, before)
    path, directory = list(sys.path), os.getcwd()
    answer = run_confined(str(program), ["one"], tmp_path, LIMITS, {"MORE": "yes"}, ready=forked)
    assert json.loads(answer) == {
        "parts": "imported before",
        "secret": None,
        "more": "yes",
        "folder": str(tmp_path / "work"),
        "path": str(tmp_path / "work"),
        "arguments": ["one"],
        "files": [],  # the program was open in the original
        "handled": False,
        "session": True,
        "temporary": str(tmp_path / "tmp"),
    }
    assert (sys.path, os.getcwd()) == (path, directory)


def test_no_file_stays_open_where_no_process_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", Mock(side_effect=OSError("no memory")))
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="no memory"):
        Forked(supervisor.main)
    assert os.listdir("/proc/self/fd") == before


def test_it_ends_when_nobody_calls_it() -> None:
    forked = Forked(lambda: None)
    forked.stdin.close()
    assert forked.wait(60) == 0


def test_it_is_stopped_like_any_other(tmp_path: Path) -> None:
    program, stop = tmp_path / "sleep.py", threading.Event()
    program.write_text("import time\nprint('here', flush=True)\ntime.sleep(600)\n")
    stop.set()
    forked = Forked(supervisor.main)
    with pytest.raises(ConfinedStoppedError):
        run_confined(str(program), [], tmp_path, LIMITS, beside=stop, ready=forked)
    assert not is_running(forked.pid)


def _fail() -> None:
    raise ValueError("of the copy")


@pytest.mark.parametrize(
    ("main", "code", "says"),
    [
        (lambda: None, 0, b""),
        (lambda: sys.exit(3), 3, b""),
        (_fail, 1, b"ValueError: of the copy\n"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), -signal.SIGKILL, b""),
    ],
)
def test_it_ends_with_its_own_code_and_words(
    main: Callable[[], None], code: int, says: bytes, tmp_path: Path
) -> None:
    forked = Forked(main)(["it"], cwd=tmp_path, env={})
    assert forked.wait(60) == code
    assert forked.stderr.read().endswith(says)
    assert forked.stdout.read() == b""
