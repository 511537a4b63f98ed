"""What the operating system says about this process's memory, in bytes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import psutil
from typing_extensions import override

_OWN = Path("/proc/self")
# A mark that was reset stands at the resident memory, up to what was touched since the reset.
_RESET_SLACK = 1.01
_RESET_SLACK_BYTES = 4 * 1024**2


def resident_bytes() -> int:
    """Return the resident memory (RSS) of this process now; takes about 20 microseconds."""
    return int(_process(os.getpid()).memory_info().rss)


@lru_cache(maxsize=1)
def _process(pid: int) -> psutil.Process:
    """Looking a process up takes ten times as long as reading its memory."""
    return psutil.Process(pid)


class HighWater:
    """The largest resident memory since the process began, as far as the system keeps it.

    This one is for systems that do not: nothing to read, nothing to reset.

    Attributes:
        source: Where the figure comes from, for the method of a measurement.
    """

    source = "no high-water mark on this system"

    def read(self) -> int | None:
        """Return the mark in bytes, or None where the system has none."""
        return None

    def reset(self) -> bool:
        """Lower the mark to the memory resident now, if the system permits; say whether it did."""
        return False

    def anonymous(self) -> int | None:
        """Return the resident bytes that no file backs, or None where the system does not say."""
        return None

    @contextmanager
    def resident_reader(self) -> Iterator[Callable[[], int]]:
        """Give the cheapest way to read the resident bytes again and again."""
        yield resident_bytes


class LinuxHighWater(HighWater):
    """VmHWM of /proc/self/status; see proc(5) and, for the reset, clear_refs in the kernel's docs.

    Args:
        status: The file that is read.
        clear_refs: The file that a 5 is written to.
    """

    source = "VmHWM of /proc/self/status"

    def __init__(
        self, status: Path = _OWN / "status", clear_refs: Path = _OWN / "clear_refs"
    ) -> None:
        self._status = status
        self._clear_refs = clear_refs
        self._handed_on = 0

    @override
    def read(self) -> int | None:
        return self._fields().get("VmHWM")

    @override
    def anonymous(self) -> int | None:
        return self._fields().get("RssAnon")

    @override
    def reset(self) -> bool:
        self._hand_on()
        try:
            self._clear_refs.write_text("5")
        except OSError:  # no such file, not permitted, read-only: as the caller is told
            return False
        # Some sandboxes accept the write and do nothing.
        fields = self._fields()
        limit = fields.get("VmRSS", 0) * _RESET_SLACK + _RESET_SLACK_BYTES
        return fields.get("VmHWM", sys.maxsize) <= limit

    @override
    @contextmanager
    def resident_reader(self) -> Iterator[Callable[[], int]]:
        # The file that psutil reads, kept open: a sixth of the time when it is not in the caches.
        with (_OWN / "statm").open("rb", buffering=0) as file:
            descriptor, page = file.fileno(), os.sysconf("SC_PAGE_SIZE")
            yield lambda: int(os.pread(descriptor, 128, 0).split()[1]) * page

    def _fields(self) -> dict[str, int]:
        try:
            text = self._status.read_text()
        except OSError:  # no /proc here
            return {}
        lines = (line.split() for line in text.splitlines() if line.endswith(" kB"))
        return {name.rstrip(":"): int(amount) * 1024 for name, amount, _ in lines}

    def _hand_on(self) -> None:
        """Save the mark for who waits for this process (`/usr/bin/time -v`, a batch system).

        The kernel computes their "maximum resident set size" from the very mark that the reset
        lowers. But on exec it charges a child with the mark of the memory that it leaves, a
        spawned child shares its parent's until then, and a parent's maximum includes that of the
        children it waited for: so one child that does nothing keeps the figure.
        """
        mark = self.read() or 0
        true = shutil.which("true")
        if mark <= self._handed_on or true is None:
            return
        try:
            os.waitpid(os.posix_spawn(true, ["true"], {}), 0)
        except OSError:  # no processes allowed, or children are reaped elsewhere: only they lose
            return
        self._handed_on = mark


class UsageHighWater(HighWater):
    """ru_maxrss of getrusage(2), for macOS, where it is in bytes; it cannot be reset."""

    source = "ru_maxrss of getrusage"

    @override
    def read(self) -> int | None:
        import resource  # there is none on Windows

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class WindowsHighWater(HighWater):
    """The peak working set, as psutil reads it; it cannot be reset."""

    source = "peak working set (psutil's peak_wset)"

    @override
    def read(self) -> int | None:
        return getattr(_process(os.getpid()).memory_info(), "peak_wset", None)


def high_water_of(platform: str = sys.platform) -> HighWater:
    """Return the mark that a platform (as `sys.platform` names it) keeps."""
    kinds: dict[str, type[HighWater]] = {
        "linux": LinuxHighWater,
        "darwin": UsageHighWater,
        "win32": WindowsHighWater,
    }
    return kinds.get(platform, HighWater)()
