"""The runs of one benchmark as the only candidates, and what it decides by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fm_mlflow import keys
from fm_mlflow.errors import InputError
from fm_mlflow.settings.base import parse
from fm_mlflow.settings.registered import RegisterConfig
from fm_mlflow.settings.selection import Choice, CompareConfig
from fm_mlflow.tracking.child_runs import children_of, comparison_of, read_run

if TYPE_CHECKING:
    from fm_mlflow.tracking.child_runs import StoredRun

_METRIC = ("metric", "smaller_is_better", "larger_is_better")
_DECIDES = (*_METRIC, "cost", "margin", "top")
_BESIDE = ("run_id", "experiment", "runs", "filter")
_ACCEPTED = "the id of a benchmark's run (its parent run)"


def candidates(config: RegisterConfig) -> tuple[RegisterConfig, CompareConfig]:
    """Return the settings with which the best run is chosen, of a store or of a benchmark.

    A benchmark's own comparison says by which metric, cost and margin, where this call does not.

    Args:
        config: As it was given.

    Returns:
        The settings, which name the benchmark's runs; and the comparison that chooses.

    Raises:
        InputError: There is no such benchmark, it has not finished, or other settings choose runs.
        TrackingError: The store does not answer.
    """
    chosen = config.model_dump(include=set(Choice.model_fields))
    if not config.benchmark:
        return config, parse(CompareConfig, chosen)
    for name in _BESIDE:
        if value := getattr(config, name):
            raise InputError(name, value, "nothing beside benchmark, whose runs are the candidates")
    benchmark = _finished(config.benchmark)
    runs = [each.run_id for each in children_of(benchmark.run_id) if each.finished]
    if not runs:  # without any, all runs of the experiment would be meant
        accepted = f"{_ACCEPTED} that has finished trainings; they are gone"
        raise InputError("benchmark", config.benchmark, accepted)
    chosen |= {"runs": ",".join(runs), **_decided_by(benchmark, config)}
    choice = parse(CompareConfig, chosen)
    taken = choice.model_dump(include=set(Choice.model_fields))
    return parse(RegisterConfig, {**config.model_dump(), **taken}), choice


def _finished(run_id: str) -> StoredRun:
    run = read_run(run_id, "benchmark")
    kind, parent = run.tags.get(keys.KIND), run.tags.get(keys.MLFLOW_PARENT_RUN_ID)
    if kind != keys.KIND_BENCHMARK:
        within = f" within run {parent}" if parent else ""
        accepted = f"{_ACCEPTED}; this is a run of kind {kind or 'unknown'}{within}"
        raise InputError("benchmark", run_id, accepted)
    if not run.finished:
        cause = run.tags.get(keys.ERROR, "")
        accepted = f"a benchmark that finished; this one is {run.status}"
        accepted += f" ({cause})" if cause else ""
        if not run.ended:
            accepted += " (where its process is gone, `fm-mlflow reconcile` closes it)"
        elif "--resume" not in cause:
            accepted += f"; `fm-mlflow benchmark --resume {run.run_id}` does what is left undone"
        raise InputError("benchmark", run_id, accepted)
    return run


def _decided_by(benchmark: StoredRun, config: RegisterConfig) -> dict[str, str]:
    """Return what the benchmark was decided by, without what this call has otherwise."""
    comparison = comparison_of(benchmark.run_id)
    decided = {} if comparison is None else comparison.params
    own = {
        name
        for name in _DECIDES
        if name in RegisterConfig.model_fields
        and getattr(config, name) != RegisterConfig.model_fields[name].default
    }
    if own.intersection(_METRIC):  # a direction belongs to its metric
        own.update(_METRIC)
    return {name: decided[name] for name in _DECIDES if name in decided and name not in own}
