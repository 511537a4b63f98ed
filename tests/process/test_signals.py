"""Signals, and the death of the process that started us, in real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fm_mlflow.errors import Interrupted
from fm_mlflow.process import signals
from tests.processes import wait_for

WORKER = """
import sys, time
from fm_mlflow.errors import Interrupted
from fm_mlflow.process.signals import guard
try:
    with guard():
        print("ready", flush=True)
        time.sleep(60)
except Interrupted as stop:
    open(sys.argv[1], "w").write(f"{stop.exit_code} {stop}")
"""


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "report"


@pytest.fixture
def worker(report: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(report)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_interrupt(
    worker: subprocess.Popen[str], report: Path, signum: signal.Signals, code: int
) -> None:
    worker.send_signal(signum)
    assert worker.wait(timeout=10) == 0
    assert report.read_text() == f"{code} interrupted by {signum.name}"


@pytest.mark.parametrize("shell", [False, True], ids=["direct child", "through bash"])
def test_the_death_of_the_launcher_interrupts(report: Path, shell: bool) -> None:
    command = [sys.executable, "-c", WORKER, str(report)]
    if shell:  # a second command keeps bash from replacing itself by the first
        command = ["bash", "-c", '"$@"; true', "bash", *command]
    code = f"import subprocess; subprocess.run({command!r})"
    launcher = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "MLFLOW_RUN_ID": "0" * 32},
    )
    assert launcher.stdout
    assert launcher.stdout.readline() == "ready\n"
    launcher.kill()
    launcher.wait()
    wait_for(lambda: report.exists() and bool(report.read_text()), "the orphan to stop", 10)
    launcher.stdout.close()
    assert report.read_text() == (
        f"143 the process that started this run ended (pid {launcher.pid})"
    )


def test_a_shell_that_a_person_types_into_is_not_watched() -> None:
    code = "import psutil; from fm_mlflow.process.signals import _launcher; print(_launcher())"
    done = subprocess.run(
        ["bash"],
        input=f"{sys.executable} -c '{code}'; true",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "None\n"


def test_an_echo_of_the_first_signal_is_ignored() -> None:
    def interrupted_twice() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), signal.SIGINT)  # while the first one is being dealt with
            time.sleep(0.1)

    with signals.guard(), pytest.raises(Interrupted, match="SIGTERM"):
        interrupted_twice()


def test_a_shield_defers_the_interruption() -> None:
    finished = []

    def close() -> None:
        with signals.shield():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            finished.append(True)

    with signals.guard(), pytest.raises(Interrupted):
        close()
    assert finished


def test_a_shield_that_completes_forgets() -> None:
    with signals.guard(), signals.shield(forget=True):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)


def test_the_third_request_breaks_through_a_shield() -> None:
    def hang() -> None:
        with signals.shield():
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)
            pytest.fail("the shield held")

    with signals.guard(), pytest.raises(Interrupted):
        hang()


def test_a_swallowed_interruption_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_ECHO_SECONDS", 0.0)

    def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    with signals.guard():
        for _ in range(2):
            with pytest.raises(Interrupted):
                interrupted()


def test_handlers_are_given_back() -> None:
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    with signals.guard(), signals.guard():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_handler_of_the_program_is_left_alone() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, _: heard.append(signum))
    try:
        with signals.guard():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_a_finished_launcher_is_not_alive() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    handle = psutil.Process(process.pid)
    wait_for(lambda: not signals._is_alive(handle), "the zombie to be seen", 10)
    process.wait()
    assert not signals._is_alive(handle)
