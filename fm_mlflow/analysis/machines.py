"""Whether costs that depend on the machine can be compared between runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fm_mlflow import keys
from fm_mlflow.analysis.costs import Cost
from fm_mlflow.analysis.records import TrainingRun

LOAD = "load"
"""The load varies from minute to minute: how busy a machine was, not which it is."""


def machine_of(run: TrainingRun) -> frozenset[tuple[str, str]]:
    """Return what identifies the machine and its settings; empty where it is not recorded."""
    return frozenset(item for item in run.machine.items() if item[0] != LOAD)


def differences(runs: Iterable[TrainingRun]) -> Mapping[str, tuple[str, ...]]:
    """Return where the recorded machines of runs differ: name, values in order."""
    machines = {machine_of(run) for run in runs} - {frozenset()}
    known = [dict(machine) for machine in machines]
    names = sorted({name for machine in known for name in machine})
    values = {name: {machine.get(name, "unknown") for machine in known} for name in names}
    return {name: tuple(sorted(each)) for name, each in values.items() if len(each) > 1}


def incomparable(cost: Cost, runs: Iterable[TrainingRun]) -> str:
    """Say why a cost of some runs cannot be compared across them; empty if it can."""
    if cost.counted:
        return ""
    runs = list(runs)
    if not all(machine_of(run) for run in runs):
        return "it depends on the machine, and some runs do not say theirs"
    differing = differences(runs)
    if differing:
        return f"it depends on the machine, and the runs differ in {', '.join(differing)}"
    jobs = {run.jobs for run in runs}
    if len(jobs) > 1 and cost.key != keys.MEMORY_PEAK:  # a process' memory is its own
        return f"of the runs, some shared their machine with others (up to {max(jobs)} at a time)"
    return ""
