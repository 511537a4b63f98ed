"""Copies (`tests/forked.py`) are as processes that are executed; other tests rely on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere none are copied")

PROGRAM = """
import json, os, signal, subprocess, sys
text = sys.stdin.read()
code = "import os; print(os.getppid(), 'mlflow' in __import__('sys').modules)"
started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
os.write(int(sys.argv[1]), b"by an inherited pipe")
print(json.dumps({
    "pid": os.getpid(), "parent": os.getppid(), "session": os.getsid(0), "name": __name__,
    "argv": sys.argv, "first": sys.path[0], "folder": os.getcwd(), "mine": os.environ["MINE"],
    "home": os.environ.get("HOME"), "stdin": text, "started": started.stdout.split(),
    "has": "mlflow" in sys.modules, "int": signal.getsignal(signal.SIGINT).__name__,
}))
print("to stderr", file=sys.stderr)
sys.exit(3)
"""


def test_a_copy_is_as_a_process_that_is_executed(tmp_path: Path) -> None:
    read = forked.READ_AT_IMPORT
    read_at_import = {k: v for k, v in os.environ.items() if k.startswith(read)}
    found = {}
    for popen in (forked.Popen, subprocess.Popen):
        reader, writer = os.pipe()
        with popen(
            [sys.executable, "-c", PROGRAM, str(writer)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(writer,),
            cwd=tmp_path,
            env={"MINE": "yes", **read_at_import},
            start_new_session=True,
            text=True,
        ) as process:
            os.close(writer)
            out, err = process.communicate("given")
        with open(reader) as pipe:
            assert pipe.read() == "by an inherited pipe"
        said = found[popen] = json.loads(out)
        assert (process.returncode, err) == (3, "to stderr\n")
        assert process.pid == said["pid"] == said["session"] == int(said["started"][0])
        assert said["parent"] == os.getpid()
        assert said["has"] == (popen is forked.Popen)
        assert said["started"][1] == str(popen is forked.Popen)  # its own processes too
        for name in ("pid", "session", "started", "has", "argv"):
            del said[name]
    one, other = found.values()
    assert one == other | {"first": str(tmp_path)}  # where Python has an empty text


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_end_it(signum: signal.Signals) -> None:
    code = "import os, time; os.write(1, b'!'); time.sleep(60)"
    with forked.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        process.send_signal(signum)
        assert process.wait(60) == -signum


def test_what_cannot_be_copied_is_executed(tmp_path: Path) -> None:
    code = "import sys; print('mlflow' in sys.modules)"
    (tmp_path / "sitecustomize.py").touch()
    for command, changes in (
        ([sys.executable, "-c", code], {"OMP_NUM_THREADS": "1"}),
        ([sys.executable, "-c", code], {"PYTHONPATH": str(tmp_path)}),
        ([sys.executable, "-I", "-c", code], {}),
    ):
        done = forked.run(command, env={**os.environ, **changes})
        assert (done.returncode, done.stdout) == (0, "False\n")
    assert forked.run(["echo", "other"]).stdout == "other\n"
    assert forked.run(["bash", "-c", "echo $0; true"]).stdout == "bash\n"


def test_the_only_command_of_a_shell_is_copied(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import sys; print('mlflow' in sys.modules, *sys.argv[1:])")
    text = f"{Path(sys.executable).name} '{program}' --it=1e-3"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for more, is_copied in (("", True), ("; true", False), (" $MORE", False)):
        done = forked.run(["bash", "-c", text + more], env={**os.environ, "PATH": path})
        assert done.stdout == f"{is_copied} --it=1e-3\n", done
