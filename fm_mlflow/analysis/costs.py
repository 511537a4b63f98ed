"""The costs that a comparison weighs accuracy against, and where runs can be compared by them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from fm_mlflow import keys
from fm_mlflow.analysis.records import TrainingRun
from fm_mlflow.keys import Key


@dataclass(frozen=True)
class Cost:
    """One cost.

    Attributes:
        key: Logged name, with unit and meaning.
        title: What a reader calls it.
        counted: It follows from model and settings alone: no run-to-run noise, any machine.
        option: Name of the setting that bounds it; empty: none does.
        of_whole_machine: Few machines have a counter of it, and what else runs there is in it.
    """

    key: Key
    title: str
    counted: bool
    option: str
    of_whole_machine: bool = False


COSTS = (
    Cost(keys.FLOPS_TRAINING, "FLOPs per training example", True, "max_training_flops"),
    Cost(keys.FLOPS_INFERENCE, "FLOPs per prediction", True, "max_flops"),
    Cost(keys.PARAMETERS_TRAINABLE, "trainable parameters", True, "max_parameters"),
    Cost(keys.MEMORY_PEAK, "peak memory", False, "max_peak_rss_mib"),
    Cost(keys.SIZE_INFERENCE, "size to predict", True, "max_size_mib"),
    Cost(keys.LATENCY_P50, "latency (median)", False, "max_latency_ms"),
    Cost(keys.FIT_SECONDS, "fit time", False, "max_fit_seconds"),
    Cost(keys.ENERGY_TRAINING, "energy to train", False, "", True),
    Cost(keys.ENERGY_INFERENCE, "energy to predict", False, "", True),
    Cost(keys.ENERGY_GPU_TRAINING, "GPU energy to train", False, "", True),
    Cost(keys.ENERGY_GPU_INFERENCE, "GPU energy to predict", False, "", True),
)

TITLES: dict[str, str] = {cost.key: cost.title for cost in COSTS}
"""What a reader calls each cost, by its logged name."""

MEASURED = frozenset(
    key
    for key in keys.all_keys()
    if key.is_metric and key.unit in {"ms", "s", "images/s", "MiB", "J"}
)
"""Metrics that are measured and positive: their noise is a share of them, so it is judged so."""

OF_ONE_PROCESS = frozenset((keys.MEMORY_PEAK, keys.MEMORY_BASELINE, keys.MEMORY_TRAINING))
"""What is of the last process only where several trained a run, and so not that of a training."""

LOAD = "load"
"""The load varies from minute to minute: how busy a machine was, not which it is."""
GPUS = "gpus"
"""Recorded where there are some, and by earlier versions nowhere."""


def cost_title(metric: str) -> str:
    """Return what a reader calls a cost; another metric by its logged name."""
    return TITLES.get(metric, metric)


def shown_costs(measured: Collection[str]) -> tuple[Cost, ...]:
    """Return the costs to speak of where these metrics are measured: energy only if it is."""
    return tuple(each for each in COSTS if each.key in measured or not each.of_whole_machine)


def machine_of(run: TrainingRun) -> frozenset[tuple[str, str]]:
    """Return what identifies the machine and its settings; empty where it is not recorded."""
    return frozenset(item for item in run.machine.items() if item[0] != LOAD)


def differences(runs: Iterable[TrainingRun]) -> Mapping[str, tuple[str, ...]]:
    """Return where the recorded machines of runs differ: name, values in order."""
    known = [dict(machine) for machine in {machine_of(run) for run in runs} if machine]
    names = sorted({name for machine in known for name in machine})
    absent = {GPUS: "none"}
    values = {
        name: {machine.get(name, absent.get(name, "unknown")) for machine in known}
        for name in names
    }
    return {name: tuple(sorted(each)) for name, each in values.items() if len(each) > 1}


def incomparable(cost: Cost, runs: Iterable[TrainingRun]) -> str:
    """Say why a cost of some runs cannot be compared across them; empty if it can."""
    if cost.counted:
        return ""
    runs = list(runs)
    if not all(machine_of(run) for run in runs):
        return "it depends on the machine, and some runs do not say theirs"
    if differing := differences(runs):
        return f"it depends on the machine, and the runs differ in {', '.join(differing)}"
    jobs = {run.jobs for run in runs}
    if cost.of_whole_machine and max(jobs, default=1) > 1:
        return f"it is of the whole machine, and up to {max(jobs)} trainings ran there at a time"
    if len(jobs) > 1 and cost.key != keys.MEMORY_PEAK:  # a process' memory is its own
        return f"of the runs, some shared their machine with others (up to {max(jobs)} at a time)"
    return ""
