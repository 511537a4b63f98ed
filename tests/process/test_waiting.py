"""Processes that import their libraries before they are called."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import psutil
import pytest

from fm_mlflow.process.confined import ConfinedError, Limits, run_confined, start_ahead
from fm_mlflow.process.waiting import Waiting
from tests.processes import is_running, wait_for

LIMITS = Limits(seconds=60, memory=1024**3, file_size=1024**2, answer=1024**2)

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there"),
]

LOOK = """
import json, os, sys
print(json.dumps({
    "imported": "colorsys" in sys.modules, "secret": os.environ.get("SECRET_OF_THE_ORIGINAL"),
    "more": os.environ["MORE"], "folder": os.getcwd(), "path": sys.path[0],
    "home": os.path.expanduser("~"), "arguments": sys.argv[1:], "set": os.environ.get("SET_EARLY"),
    "is the process that prepared": os.environ.get("PREPARED_IN") == str(os.getpid()),
}))
"""

EARLY = """
import os
def prepare():
    import colorsys
    print("a library's greeting", flush=True)
    os.environ["PREPARED_IN"] = str(os.getpid())
    os.environ.setdefault("SET_EARLY", "yes")
"""


def the_program_of(ready: Waiting) -> psutil.Process:
    process = psutil.Process(ready.pid)
    wait_for(lambda: bool(process.children()), "the process of the program")
    (child,) = process.children()
    return child


def test_it_is_confined_as_a_new_process_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_ORIGINAL", "hunter2")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "early.py").write_text(EARLY)
    (tmp_path / "look.py").write_text(LOOK)
    folder = tmp_path / "confined"
    folder.mkdir()
    variables = {"MORE": "yes"}
    with start_ahead("early:prepare", folder, variables) as ready:
        program = str(tmp_path / "look.py")
        answer = run_confined(program, ["one"], folder, LIMITS, variables, None, ready)
    assert json.loads(answer) == {
        "imported": True,
        "secret": None,
        "more": "yes",
        "folder": str(folder / "work"),
        "path": str(folder / "work"),
        "home": str(folder / "home"),
        "arguments": ["one"],
        "set": "yes",
        "is the process that prepared": True,  # a copy could use no GPU
    }
    assert not is_running(ready.pid)


def test_it_ends_where_nobody_calls_it(tmp_path: Path) -> None:
    with start_ahead("signal:pause", tmp_path) as ready:
        child = the_program_of(ready)
    assert not is_running(ready.pid)
    wait_for(lambda: not is_running(child.pid), "the end of the other")


def test_what_cannot_be_imported_is_told_when_it_is_called(tmp_path: Path) -> None:
    with (
        start_ahead("there.is:none", tmp_path) as ready,
        pytest.raises(ConfinedError, match="No module named here"),
    ):
        run_confined("here", [], tmp_path, LIMITS, None, None, ready)


@pytest.mark.parametrize("which", ["supervisor", "program"])
def test_another_does_the_work_of_one_killed_before_its_call(which: str, tmp_path: Path) -> None:
    program = tmp_path / "hello.py"
    program.write_text("print('hello')")
    with start_ahead("signal:pause", tmp_path) as ready:
        child = the_program_of(ready)
        killed = psutil.Process(ready.pid) if which == "supervisor" else child
        killed.send_signal(signal.SIGKILL)
        wait_for(lambda: not is_running(killed.pid), "its end")
        answer = run_confined(str(program), [], tmp_path, LIMITS, None, None, ready)
    assert answer == b"hello\n"


def test_what_is_called_ahead_has_its_limits(tmp_path: Path) -> None:
    program = tmp_path / "large.py"
    program.write_text("kept = bytearray(b'1') * 2**28\nimport time\ntime.sleep(60)")
    limits = Limits(seconds=60, memory=2**27, file_size=1024, answer=1024)
    with (
        start_ahead("signal:getsignal", tmp_path) as ready,
        pytest.raises(ConfinedError, match="it took over 128 MiB of memory"),
    ):
        run_confined(str(program), [], tmp_path, limits, None, None, ready)
