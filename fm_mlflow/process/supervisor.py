"""Runs a program that is not trusted within limits, and ends with it all that it has started.

`python -m fm_mlflow.process.supervisor MEMORY FILE PROGRAM [ARGUMENT]...` is what
`fm_mlflow.process.confined` starts: limits in bytes; a module, or the path of a file. The program
runs in a fork of this process: a fresh interpreter whose start is paid once. When standard input
ends, because whoever holds its other end wants it so or is gone, everything is ended.
"""

from __future__ import annotations

import os
import runpy
import select
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import psutil

from fm_mlflow.process.linux import adopt_orphans, close_to_others, end_with_parent

_TICK_SECONDS = 0.05
_SCAN_SECONDS = 0.25
_SCAN_SHARE = 0.05
_KILL_SECONDS = 5.0
_MIB = 1024**2


def main() -> None:
    """Run the program; exit as it does, or with 1 and the reason as the last line of stderr."""
    memory, file_size, program, *arguments = sys.argv[1:]
    if sys.platform != "win32":  # which has none of these limits
        if child := fork():
            supervise(child, int(memory))
        restrict(int(file_size))
    run(program, arguments)


def run(program: str, arguments: Sequence[str]) -> None:
    """Be the program: a module, or the path of a file."""
    sys.argv[:] = [program, *arguments]
    if program.endswith(".py"):
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


if sys.platform != "win32":

    def fork() -> int:
        """Make the process that will be the program; return its id, or 0 where we are it."""
        adopt_orphans()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored by our parent, it would hide ends
        child = os.fork()
        if child:
            close_to_others()
            return child
        end_with_parent()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        return 0

    def restrict(file_size: int) -> None:
        """Limit this process and all that it will start."""
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
        # If the machine's memory runs out first, this is what the kernel is to take it from.
        with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")

    def supervise(child: int, memory: int) -> NoReturn:
        """Wait for the child's end, or bring it about; end as it does."""
        os.close(1)  # what comes there is the child's
        try:
            status, reason = _watch(child, memory)
        finally:
            all_ended = _end_descendants()
        code = os.waitstatus_to_exitcode(status)
        if not reason and code < 0:
            names = {each.value: each.name for each in signal.Signals}
            reason = f"it ended by {names.get(-code, f'signal {-code}')}"
        if not all_ended:
            reason = "it started processes faster than they can be ended"
        if reason:
            with suppress(OSError):  # nobody reads it any more
                os.write(2, f"\n{reason}\n".encode())
        if not all_ended:
            os.kill(os.getpid(), signal.SIGKILL)  # so that our parent knows what to expect
        os._exit(1 if reason else code)

    def _watch(child: int, memory: int) -> tuple[int, str]:
        """Return the status of the child when it ends, or why it is to be ended."""
        next_scan = 0.0
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status, ""
            if select.select([0], [], [], _TICK_SECONDS)[0]:
                return 0, "it was stopped"
            began = time.monotonic()
            if began < next_scan:
                continue
            # Not RLIMIT_AS, which counts addresses, of which TensorFlow reserves gigabytes; nor
            # RLIMIT_DATA, which counts each process by itself, and no shared memory.
            if _resident_bytes() > memory:
                return 0, f"it took over {memory // _MIB:,} MiB of memory"
            now = time.monotonic()
            next_scan = now + max(_SCAN_SECONDS, (now - began) / _SCAN_SHARE)

    def _descendants() -> list[psutil.Process]:
        """Return all that was started, orphans and zombies included."""
        return psutil.Process().children(recursive=True)

    def _resident_bytes() -> int:
        total = 0
        for each in _descendants():
            with suppress(psutil.Error):
                total += each.memory_info().rss or _of_other_threads(each)
        return total

    def _of_other_threads(process: psutil.Process) -> int:
        """Return the memory of a process whose main thread has ended, and which shows none."""
        return max(
            (psutil.Process(each.id).memory_info().rss for each in process.threads()), default=0
        )

    def _end_descendants() -> bool:
        """Kill them until there are none; those that start others meanwhile, too.

        A zombie is killed as well: other threads than its main one may continue.

        Returns:
            Whether none is left.
        """
        until = time.monotonic() + _KILL_SECONDS
        while (left := _descendants()) and time.monotonic() < until:
            for each in left:
                with suppress(psutil.Error):
                    each.kill()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.001)
        return not left


if __name__ == "__main__":
    main()
