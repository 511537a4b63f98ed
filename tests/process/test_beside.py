"""Functions that are called in a copy of a command's process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest

from fm_mlflow.process import beside
from fm_mlflow.process.beside import Beside
from tests.process.copied import fail, note_process, prepare
from tests.processes import PROJECT, is_running, wait_for

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is for Linux")

SCRIPT = """
import signal, sys, time
from pathlib import Path
from fm_mlflow.process import beside
from tests.process.copied import note_process, prepare
beside.is_new_command = lambda: True
signal.signal(signal.SIGINT, lambda *_: None)
with beside.Beside(prepare) as copy:
    copy.call(note_process, Path("process"))
    copy.finish()
    assert copy.begin(divmod, 7, 2)() == (3, 1)
    try:
        copy.begin(divmod, 7, 0)()
    except ZeroDivisionError:
        print("ready", flush=True)
    sys.stdin.readline()
    copy.call(note_process, Path("again"))
    copy.finish()
    assert copy.begin(divmod, 7, 2)() == (3, 1)
"""

BRANCHES = """
import os
from fm_mlflow.process import beside
from tests.process.copied import branches, prepare
beside.is_new_command = lambda: True
with beside.Beside(prepare) as copy:
    here, there, killed, text = copy.begin(branches)()
    assert len({os.getpid(), here, there}) == 3
    assert killed == here
    assert text == "ArithmeticError: too much"
assert [each() for each in [beside.branch(os.getpid)]] == [os.getpid()]
print("done")
"""

INTERRUPTED = """
import time
from fm_mlflow.process import beside
from tests.process.copied import prepare
beside.is_new_command = lambda: True
with beside.Beside(prepare) as copy:
    assert copy.begin(divmod, 7, 2)() == (3, 1)
    copy.call(time.sleep, 600)
    time.sleep(0.1)
    raise KeyboardInterrupt
"""


@pytest.fixture
def command(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def copy_of(command: subprocess.Popen[str], folder: Path) -> psutil.Process:
    pid, parent = map(int, (folder / "process").read_text().split())
    assert parent == command.pid
    return psutil.Process(pid)


@pytest.mark.thorough
def test_copy_ends_with_its_command_and_not_by_ctrl_c(
    command: subprocess.Popen[str], tmp_path: Path
) -> None:
    copy = copy_of(command, tmp_path)
    copy.send_signal(signal.SIGINT)  # the terminal sends it to both
    with pytest.raises(psutil.TimeoutExpired):
        copy.wait(0.2)
    command.kill()
    wait_for(lambda: not is_running(copy.pid), "the end of the copy")


@pytest.mark.thorough
def test_what_a_killed_copy_does_not_do_is_done_here(
    command: subprocess.Popen[str], tmp_path: Path
) -> None:
    copy_of(command, tmp_path).kill()
    command.communicate("\n", timeout=20)
    assert command.returncode == 0
    assert (tmp_path / "again").read_text() == f"{command.pid} {os.getpid()}"


@pytest.mark.thorough
def test_a_copy_has_copies_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BRANCHES],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


@pytest.mark.thorough
def test_an_interrupted_command_does_not_wait_for_its_copy(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert "Error" not in done.stderr


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("multiprocessing.synchronize.SemLock.__init__", OSError("no semaphores")),
        ("os.fork", OSError("no memory")),
        ("threading.Thread.start", RuntimeError("can't start new thread")),
    ],
)
def test_where_nothing_can_be_copied_it_is_done_here(
    what: str, error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(beside, "is_new_command", lambda: True)
    monkeypatch.setattr(beside, "usable_cores", lambda: 2)
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    with monkeypatch.context() as poor:
        poor.setattr(what, Mock(side_effect=error))
        here = Beside(prepare)
        here.__enter__()
    here.call(note_process, tmp_path / "process")
    assert (tmp_path / "process").read_text() == f"{os.getpid()} {os.getppid()}"
    here.__exit__()
    for each in multiprocessing.active_children():
        each.join(60)
    assert not multiprocessing.active_children()


def test_without_a_copy_it_is_done_at_once(tmp_path: Path) -> None:
    with Beside(prepare) as here:  # a process of tests is no command's
        here.call(note_process, tmp_path / "process")
        assert (tmp_path / "process").read_text() == f"{os.getpid()} {os.getppid()}"
        with pytest.raises(ArithmeticError, match="too much"):
            here.call(fail, what="too much")
        here.finish()


def test_one_core_has_no_room_beside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(beside, "is_new_command", lambda: True)
    monkeypatch.setattr(beside, "usable_cores", lambda: 1)
    with Beside(prepare) as here:
        here.call(note_process, tmp_path / "process")
    assert (tmp_path / "process").read_text() == f"{os.getpid()} {os.getppid()}"
