"""A Ray cluster of two nodes on this machine; the second has a host name and pids of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.processes import free_port, wait_for

SECOND_HOST = "second-node"
_UNSHARE: tuple[str, ...] = ("unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
if os.geteuid() != 0:
    _UNSHARE = (*_UNSHARE, "--map-root-user")
_IN_NAMESPACES = f'hostname {SECOND_HOST} && exec "$@"'


def problem() -> str:
    """Say why there can be no such cluster here; empty where there can."""
    if sys.platform != "linux":
        return "a second node needs Linux' namespaces"
    try:
        import ray  # noqa: F401
    except ImportError:
        return "Ray is not installed (extra `ray`)"
    tried = subprocess.run([*_UNSHARE, "sh", "-c", _IN_NAMESPACES, "sh", "true"], check=False)
    return "" if tried.returncode == 0 else "namespaces may not be made here"


@dataclass
class Cluster:
    """Two nodes.

    Attributes:
        address: Of the cluster.
        environment: Of its nodes.
    """

    address: str
    folder: Path
    environment: dict[str, str]
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_node(self, *arguments: str, is_second: bool = False, cpus: int = 1) -> None:
        command = [
            *(sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start"),
            *("--block", "--disable-usage-stats", f"--num-cpus={cpus}", *arguments),
            f"--object-store-memory={80 * 1024**2}",
        ]
        if is_second:
            command = [*_UNSHARE, "sh", "-c", _IN_NAMESPACES, "sh", *command]
        # Another machine has journals of its own.
        journals = str(self.folder / f"journals-{len(self.nodes)}")
        log = (self.folder / f"node-{len(self.nodes)}.log").open("wb")
        with log:
            self.nodes.append(
                subprocess.Popen(
                    command,
                    env={**self.environment, "FM_MLFLOW_JOURNAL_DIR": journals},
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )

    def add_second(self, cpus: int = 1) -> None:
        self.start_node(f"--address={self.address}", is_second=True, cpus=cpus)

    def environment_of_driver(self) -> dict[str, str]:
        """For a process that submits to the cluster."""
        own = {"RAY_ADDRESS": self.address, "FM_MLFLOW_JOURNAL_DIR": str(self.folder / "journals")}
        return {**self.environment, **own}

    def kill_second(self) -> None:
        """End all of the second node at once, as when its power fails."""
        self.nodes[-1].send_signal(signal.SIGKILL)
        self.nodes[-1].wait()


@contextmanager
def cluster(*, cpus: int = 1, second: bool = True) -> Iterator[Cluster]:
    """Start the nodes; end them with all that they have started."""
    folder = Path(tempfile.mkdtemp(prefix="fmray-", dir="/tmp"))  # paths of sockets are short
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
        "RAY_TMPDIR": str(folder),
        "RAY_AUTH_MODE": "disabled",
        "HOME": str(folder),
    }
    made = Cluster(f"127.0.0.1:{free_port()}", folder, environment)
    port = made.address.rpartition(":")[2]
    try:
        made.start_node(
            *("--head", f"--port={port}", "--include-dashboard=false"),
            *("--node-ip-address=127.0.0.1", f"--temp-dir={folder}"),
            cpus=cpus,
        )
        expected = 1
        wait_for(lambda: len(_raylets(folder)) == expected, "the head")
        if second:
            made.add_second(cpus)
            expected = 2
            wait_for(lambda: len(_raylets(folder)) == expected, "the second node")
        yield made
    finally:
        for node in reversed(made.nodes):
            _kill_with_children(node)
        shutil.rmtree(folder, ignore_errors=True)


def _kill_with_children(node: subprocess.Popen[bytes]) -> None:
    children: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(node.pid).children(recursive=True)
    for each in children:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    node.kill()
    node.wait()


def _raylets(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("sockets/raylet*") if path.is_socket()]
