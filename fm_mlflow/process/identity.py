"""Which process a run is in, and whether that process is still alive.

A pid alone says little: pids are used again, hosts are rebooted, containers count their own. So a
run records host, pid, boot (and the namespace that its pids count in) and the process's start.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass
from enum import Enum
from pathlib import Path

import psutil

from fm_mlflow import keys

_OLD_TAGS = tuple(f"{keys.PROCESS}.{name}" for name in ("host", "pid", "boot", "start"))
"""Of runs of version 0.1."""

_SEPARATOR = "; "

_UNKNOWN = "unknown"
"""When a process started that there is, where this is not to be seen."""

_CLOCKS_APART = 1.0
"""Seconds by which the clocks of the kernel's log and of its processes may differ."""


class Presence(Enum):
    """What can be said of a process from here."""

    ALIVE = "alive"
    GONE = "gone"
    REBOOTED = "its host was rebooted"
    ELSEWHERE = "on another host, in another container, or hidden from this user"


@dataclass(frozen=True)
class ProcessIdentity:
    """One process, among all of all hosts and times.

    Attributes:
        host: Host name.
        pid: Process id.
        boot: Which boot of the host, and which namespace of pids.
        start: When the process started, in the kernel's ticks since the boot where it says so.
    """

    host: str
    pid: int
    boot: str
    start: str

    def tags(self) -> dict[str, str]:
        """Return the tag that a run carries."""
        return {keys.PROCESS: _SEPARATOR.join(map(str, astuple(self)))}

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> ProcessIdentity | None:
        """Read the tags of a run; None when it has none."""
        try:
            text = tags.get(keys.PROCESS)
            old = (tags[key] for key in _OLD_TAGS)
            host, pid, boot, start = old if text is None else text.rsplit(_SEPARATOR, 3)
            return cls(host, int(pid), boot, start)
        except (KeyError, ValueError):
            return None

    def presence(self) -> Presence:
        """Tell whether the process lives, as far as this process can see."""
        if self.host != socket.gethostname():
            return Presence.ELSEWHERE
        boot, _, namespace = self.boot.partition(" ")
        our_boot, _, our_namespace = _boot().partition(" ")
        if namespace != our_namespace:  # a container of this name, on this host or another
            return Presence.ELSEWHERE
        if boot != our_boot:
            return Presence.REBOOTED
        start = _start(self.pid)
        if start is not None and _UNKNOWN in (start, self.start):
            return Presence.ELSEWHERE
        return Presence.ALIVE if start == self.start else Presence.GONE


def this_process() -> ProcessIdentity:
    """Return the identity of this process."""
    return ProcessIdentity(
        socket.gethostname(), os.getpid(), _boot(), _start(os.getpid()) or _UNKNOWN
    )


def _boot() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return f"{psutil.boot_time():.0f} -"


def _start(pid: int) -> str | None:
    """Return when a living process started, as far as this one may know; None without a process."""
    try:
        # Ticks since the boot: unlike a time of day, no change of the clock moves them.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, *rest = fields.rpartition(")")[2].split()
        return None if state in "ZX" else rest[18]
    except (OSError, IndexError):
        if Path("/proc/self/stat").exists():
            return _UNKNOWN if _exists(pid) else None
    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.NoSuchProcess:
        return None
    except psutil.Error:
        return _UNKNOWN


def _exists(pid: int) -> bool:
    """Tell whether there is a process, which /proc may hide because it is another user's."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def usable_cores() -> int | None:
    """Return the number of cores that this process may be scheduled on, where that is known."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def out_of_memory_kills() -> int | None:
    """Return how many processes the kernel has killed for want of memory since its boot."""
    try:
        counts = Path("/proc/vmstat").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"^oom_kill (\d+)$", counts, re.MULTILINE)
    return int(found[1]) if found else None


def kernel_killed_for_memory(process: ProcessIdentity) -> bool:
    """Tell whether the kernel's log, where we may read it, says that it killed this process.

    Args:
        process: Of this boot. What was killed before it started had its pid before it.
    """
    killed = re.compile(rb"\d+,\d+,(\d+),.*Killed process %d \(" % process.pid)
    with suppress(OSError, ValueError):
        started = float(process.start) / os.sysconf("SC_CLK_TCK") - _CLOCKS_APART
        log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        with open(log, "rb", buffering=0) as lines:
            while line := lines.read(8192):  # a line each time; None: that was all of it
                found = killed.match(line)  # its microseconds since the boot
                if found and int(found[1]) / 1e6 >= started:
                    return True
    return False
