"""The executor that a name stands for: built in, or brought by another package."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import yaml

from fm_mlflow.errors import InputError
from fm_mlflow.jobs.executors import Executor, LocalExecutor
from fm_mlflow.process.redaction import one_line
from fm_mlflow.settings.base import parse
from fm_mlflow.settings.placement import LOCAL, Placement

GROUP = "fm_mlflow.executors"
"""Entry points of this group are functions of (placement, config) that return an executor."""

_LARGEST_CONFIG = 1_000_000

Factory = Callable[[Placement, Mapping[str, Any]], Executor]


def executor_of(placement: Placement, jobs: int = 1) -> Executor:
    """Return the executor that the settings name; it is not entered, so nothing has started.

    Args:
        placement: The settings.
        jobs: Trainings at a time on this machine.

    Raises:
        InputError: There is no such executor, or it does not take these settings.
    """
    config = _read(placement.executor_config)
    if placement.executor == LOCAL:
        for name in ("executor_config", "cpus", "gpus", "memory_gib", "ship_code"):
            if value := getattr(placement, name):
                raise InputError(name, value, "nothing with the executor local: it is this machine")
        return LocalExecutor(jobs)
    if jobs != 1:
        raise InputError("jobs", jobs, "1 with other executors than local: slots bound those")
    return _factory(placement.executor)(placement, config)


def _factory(name: str) -> Factory:
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    brought = {each.name: each for each in entry_points(group=GROUP)}
    if name not in brought:
        names = ", ".join(dict.fromkeys([LOCAL, *_BUILT_IN, *sorted(brought)]))
        raise InputError("executor", name, f"one of {names} (entry points {GROUP})")
    try:
        factory: Factory = brought[name].load()
    except Exception as error:  # a package's own code
        raise InputError("executor", name, f"one that can be loaded: {one_line(error)}") from error
    return factory


def _ray(placement: Placement, config: Mapping[str, Any]) -> Executor:
    from fm_mlflow.jobs.ray_executor import RayConfig, RayExecutor

    return RayExecutor(placement, parse(RayConfig, config))


def _slurm(placement: Placement, config: Mapping[str, Any]) -> Executor:
    from fm_mlflow.jobs.slurm_executor import SlurmConfig, SlurmExecutor

    return SlurmExecutor(placement, parse(SlurmConfig, config))


_BUILT_IN: dict[str, Factory] = {"ray": _ray, "slurm": _slurm}


def _read(path: str) -> dict[str, Any]:
    """Read an executor's settings: a mapping in TOML, JSON or YAML."""
    if not path:
        return {}
    accepted = "a .toml, .json or .yaml file that holds a mapping"
    readers: dict[str, Callable[[str], Any]] = {
        ".toml": _toml,
        ".json": json.loads,
        ".yaml": yaml.safe_load,
        ".yml": yaml.safe_load,
    }
    reader = readers.get(Path(path).suffix)
    if reader is None:
        raise InputError("executor_config", path, accepted)
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(_LARGEST_CONFIG)
        found = reader(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError("executor_config", path, f"{accepted} ({one_line(error)})") from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise InputError("executor_config", path, accepted)
    return found


def _toml(text: str) -> Any:
    if sys.version_info < (3, 11):
        raise ValueError("TOML needs Python 3.11")
    return import_module("tomllib").loads(text)
