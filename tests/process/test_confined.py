"""Programs that misbehave, each in a real process: what they may take, see and leave behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fm_mlflow.process.confined import (
    ConfinedError,
    ConfinedStoppedError,
    Limits,
    run_confined,
)
from fm_mlflow.process.temporary import temporary_folder
from tests.processes import PROJECT, is_running, wait_for

MIB = 1024**2
ENOUGH = Limits(seconds=60, memory=256 * MIB, file_size=MIB, answer=MIB)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no limits but of time")


def run(folder: Path, code: str, *arguments: str, limits: Limits = ENOUGH) -> bytes:
    (folder / "program.py").write_text(code)
    return run_confined(str(folder / "program.py"), arguments, folder, limits)


def refused(folder: Path, code: str, limits: Limits = ENOUGH) -> str:
    with pytest.raises(ConfinedError) as error:
        run(folder, code, limits=limits)
    return str(error.value)


def test_it_gets_no_secret_no_home_and_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {
        "MLFLOW_TRACKING_URI": "https://ann:hunter22@server",
        "MLFLOW_TRACKING_TOKEN": "the-token",
        "AWS_SECRET_ACCESS_KEY": "the-key",
        "TF_VAR_database": "not-tensorflow",
        "CUDA_API_TOKEN": "a-computing-secret",
        "LC_NOTE": "https://ann:hunter22@server",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with (tmp_path / "ours").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        code = """
import json, os, sys, tempfile
opened = [each for each in os.listdir("/dev/fd") if os.path.exists(f"/dev/fd/{each}")]
print(json.dumps([dict(os.environ), sorted(opened), os.listdir(), tempfile.gettempdir(),
    os.path.expanduser("~"), sys.stdin.read(), sys.argv[1:]]))
"""
        answer = run(tmp_path, code, "a", "b c")
    variables, opened, listed, temporary, home, given, arguments = json.loads(answer)
    assert not secrets.keys() & variables.keys()
    assert not set(secrets.values()) & set(variables.values())
    assert variables["OMP_NUM_THREADS"] == "3"
    assert opened == ["0", "1", "2"]
    assert (listed, temporary, home) == ([], str(tmp_path / "tmp"), str(tmp_path / "home"))
    assert (given, arguments) == ("", ["a", "b c"])


@pytest.mark.parametrize(
    ("code", "limits", "reason"),
    [
        ("import time; time.sleep(600)", {"seconds": 1}, "it did not end within 1 s"),
        ("import signal, time; signal.pthread_sigmask(0, range(1, 32)); time.sleep(600)",
         {"seconds": 1}, "it did not end within 1 s"),
        ("kept = []\nwhile True: kept.append(bytearray(2**20))", {},
         "it took over 256 MiB of memory"),
        ("import os, time\nif not os.fork():\n    kept = bytearray(300 * 2**20)\ntime.sleep(600)",
         {}, "it took over 256 MiB of memory"),
        ("import sys\nwhile True: sys.stdout.write('x' * 2**16)", {},
         "it sent more than 1,048,576 bytes"),
        ("open('large', 'wb').write(bytes(2**21))", {}, "OSError: [Errno 27] File too large"),
        ("import ctypes; ctypes.string_at(0)", {}, "it ended by SIGSEGV"),
        ("import os, signal, time; os.kill(os.getppid(), 9); time.sleep(600)", {},
         "it ended with code -9"),
        ("import os; os.kill(os.getpid(), 40)", {}, "it ended by signal 40"),
        ("raise SystemExit(7)", {}, "it ended with code 7"),
        ("raise ValueError('x' * 10**4)", {}, "ValueError: " + "x" * 488),
    ],
)  # fmt: skip
def test_what_is_too_much(tmp_path: Path, code: str, limits: dict[str, Any], reason: str) -> None:
    assert refused(tmp_path, code, Limits(**{**vars(ENOUGH), **limits})) == reason
    assert not [path for path in (tmp_path / "work").iterdir() if path.name.startswith("core")]


def test_what_it_prints_is_no_answer_however_much(tmp_path: Path) -> None:
    code = """
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
for _ in range(100):
    sys.stderr.write("x" * 2**20)
print("done")
"""
    assert run(tmp_path, code) == b"done\n"


# Two forks and a session of its own: neither its parent's group nor its parent leads to it.
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with open("pid.new", "w") as file:
            file.write(str(os.getpid()))
        os.rename("pid.new", "pid")
        time.sleep(600)
    os._exit(0)
while not os.path.exists("pid"):
    time.sleep(0.01)
print(open("pid").read())
"""


def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    assert not is_running(int(run(tmp_path, DAEMON)))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="so Linux shows such a process")
def test_a_process_whose_main_thread_ended_is_counted_and_ended(tmp_path: Path) -> None:
    code = """
import ctypes, os, threading, time
if os.fork() == 0:
    os.setsid()
    os.close(1)
    os.close(2)
    def work():
        while open("/proc/self/stat").read().split()[2] != "Z":
            time.sleep(0.01)
        kept = b"x" * SIZE
        with open("pid.new", "w") as file:
            file.write(str(os.getpid()))
        os.rename("pid.new", "pid")
        time.sleep(600)
    threading.Thread(target=work).start()
    ctypes.CDLL(None).pthread_exit(None)
while not os.path.exists("pid"):
    time.sleep(0.01)
time.sleep(WAIT)
print(open("pid").read())
"""
    for name in ("small", "large"):
        (tmp_path / name).mkdir()
    small = code.replace("SIZE", "1").replace("WAIT", "0")
    assert not is_running(int(run(tmp_path / "small", small)))
    large = code.replace("SIZE", "300 * 2**20").replace("WAIT", "600")
    assert refused(tmp_path / "large", large) == "it took over 256 MiB of memory"


def test_what_it_leaves_in_its_folder_does_not_stop_us() -> None:
    code = """
import os
for _ in range(3000):
    os.mkdir("deeper")
    os.chdir("deeper")
open("file", "w").close()
os.chmod(".", 0)
"""
    with temporary_folder() as folder:
        run(folder, code)
    subprocess.run(["rm", "-rf", str(folder)], check=True)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_it_ends_with_whoever_started_it(tmp_path: Path, signum: signal.Signals) -> None:
    (tmp_path / "program.py").write_text(DAEMON + "time.sleep(600)")
    judge = f"""
from pathlib import Path
from fm_mlflow.process.confined import Limits, run_confined
run_confined("{tmp_path}/program.py", [], Path("{tmp_path}"), Limits(60, 2**30, 2**20, 2**20))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", judge],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stderr=subprocess.DEVNULL,
    )
    file = tmp_path / "work" / "pid"
    try:
        wait_for(file.exists, "the program")
        process.send_signal(signum)
        process.wait(30)
    finally:
        process.kill()
    wait_for(lambda: not is_running(int(file.read_text())), "its end", 30)


# What only root may do is given up, where a test runs as root.
WITHOUT_CAPABILITIES = """
import ctypes, os, sys
if len(sys.argv) == 1:
    for capability in range(64):
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
    os.execv(sys.executable, [*sys.orig_argv, "again"])
from pathlib import Path
from fm_mlflow.process.confined import ConfinedError, Limits, run_confined
def run(program, seconds):
    folder = Path(program).parent
    try:
        limits = Limits(seconds, 2**30, 2**20, 2**20)
        return run_confined(program, [str(os.getpid())], folder, limits)
    except ConfinedError as error:
        return str(error).encode()
"""
LOOK = """
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
def look():
    for name in ("environ", "mem"):
        try:
            open(f"/proc/{sys.argv[1]}/{name}", "rb").read(100)
            return True
        except OSError:
            pass
    return False
"""


def judged(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CAPABILITIES + code],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")
def test_it_cannot_look_into_the_process_that_judges_it(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(LOOK + "print(look())")
    judge = f"""
print(run("{tmp_path}/program.py", 60).decode(), end="")
open("/proc/self/environ", "rb").close()  # as before
"""
    assert judged(judge) == "False\n"


# It is looked for the moment at which the judge gives up.
WAITS = """
import signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
while not look():
    pass
open("seen", "w").close()
"""
ESCAPES = """
import os, signal, time
if os.fork() == 0:
    os.setsid()
    os.close(1)
    os.close(2)
    if os.fork() == 0:
        until = time.monotonic() + 5
        while os.path.exists(f"/proc/{sys.argv[1]}") and time.monotonic() < until:
            if look():
                open("seen", "w").close()
                break
        open("over", "w").close()
    os._exit(0)
os.wait()
os.kill(os.getppid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")
@pytest.mark.parametrize(
    ("code", "seconds", "reason"),
    [(WAITS, 1, "it did not end within 1 s"), (ESCAPES, 30, "it ended with code -9")],
)
def test_nor_when_the_judge_gives_up_or_it_escaped(
    tmp_path: Path, code: str, seconds: int, reason: str
) -> None:
    (tmp_path / "program.py").write_text(LOOK + code)
    judge = f"""
import time
print(run("{tmp_path}/program.py", {seconds}).decode())
time.sleep(0.5)
"""
    assert judged(judge) == f"{reason}\n"
    if code is ESCAPES:
        wait_for((tmp_path / "work" / "over").exists, "the end of what escaped", 30)
    assert not (tmp_path / "work" / "seen").exists()


def test_what_runs_beside_stops_when_told(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    told = tmp_path / "told"
    program.write_text("import sys, time; open(sys.argv[1], 'w').close(); time.sleep(600)")
    stop = threading.Event()

    def ended() -> bool:
        if told.exists():
            stop.set()
        return stop.is_set()

    with ThreadPoolExecutor(1) as thread:
        arguments = str(program), [str(told)], tmp_path, ENOUGH
        running = thread.submit(run_confined, *arguments, beside=stop)
        wait_for(ended, "the program")
        with pytest.raises(ConfinedStoppedError):
            running.result()
