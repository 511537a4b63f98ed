"""Processes that start with MLflow imported, for tests of what processes do to each other.

They are forks of a process that imports MLflow once and has no other threads. What the start of a
command involves is tested with real commands.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["pytest", "tests.outages", "fm_mlflow.tracking.registry", "fm_mlflow.tracking.run"]
)


def start(
    function: Callable[..., object],
    *arguments: object,
    environment: Mapping[str, str],
    output: Path,
) -> BaseProcess:
    """Start a process that calls a function of a module.

    Args:
        function: What it does.
        arguments: The function's.
        environment: All of its environment.
        output: The file that it writes its output to; its working directory is this file's folder.
    """
    process = _CONTEXT.Process(
        target=_call, args=(function, arguments, dict(environment), output), daemon=True
    )
    process.start()
    return process


def _call(
    function: Callable[..., object],
    arguments: tuple[object, ...],
    environment: dict[str, str],
    output: Path,
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(output.parent)
    with output.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    function(*arguments)
