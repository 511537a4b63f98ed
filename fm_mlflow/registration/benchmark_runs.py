"""The runs of one benchmark as the only candidates, and what it decides by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fm_mlflow import keys
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.prose.words import listed
from fm_mlflow.errors import InputError
from fm_mlflow.settings.base import parse
from fm_mlflow.settings.registered import DECIDED_BY, DIRECTIONS, RegisterConfig
from fm_mlflow.settings.selection import Choice, CompareConfig
from fm_mlflow.tracking.child_runs import children_of, comparison_of, read_run

if TYPE_CHECKING:
    from fm_mlflow.tracking.child_runs import StoredRun

_DECIDES = (*DECIDED_BY, "margin", "top")
_BESIDE = ("experiment", "runs", "filter")
_MOST_RUNS = 5
_ACCEPTED = "the id of a benchmark's run (its parent run)"


def candidates(config: RegisterConfig) -> tuple[RegisterConfig, CompareConfig]:
    """Return the settings with which the best run is chosen, of a store or of a benchmark.

    A benchmark's own comparison says by which metric, cost and margin; this call may not differ.

    Args:
        config: As it was given.

    Returns:
        The settings, which name the benchmark's runs; and the comparison that chooses.

    Raises:
        InputError: There is no such benchmark, it has not finished, it was decided otherwise, or
            other settings choose runs.
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
    if config.run_id and config.run_id not in runs:
        accepted = f"beside benchmark, one of its finished trainings: {listed(runs, _MOST_RUNS)}"
        raise InputError("run_id", config.run_id, accepted)
    chosen |= {"runs": ",".join(runs), **_decided_by(benchmark.run_id, config)}
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


def _decided_by(benchmark: str, config: RegisterConfig) -> dict[str, str]:
    """Return what the benchmark was decided by; refuse what this call says otherwise."""
    comparison = comparison_of(benchmark)
    params = {} if comparison is None else comparison.params
    decided = {name: params[name] for name in _DECIDES if name in params}
    again = f"`fm-mlflow benchmark --resume {benchmark}`"
    if not {"metric", "cost"} <= decided.keys():  # the defaults could promote the worst model
        accepted = f"{_ACCEPTED} with its comparison, which is gone; {again} compares again"
        raise InputError("benchmark", benchmark, accepted)
    theirs = parse(Choice, {k: v for k, v in decided.items() if k in Choice.model_fields})
    given = config.model_dump(include=config.model_fields_set.intersection(_DECIDES))
    accepted = f"{{}}, as the benchmark was decided (leave it out; {again} decides by another)"
    for name in ("metric", "cost"):
        if given.get(name, there := getattr(theirs, name)) != there:
            raise InputError(name, given[name], accepted.format(there))
    objective = Objective.of(theirs)
    if asked := {name: given[name] for name in DIRECTIONS if name in given}:
        own = Objective.of(Choice(metric=theirs.metric, **asked))
        if own.smaller_is_better != objective.smaller_is_better:
            way = "less" if objective.smaller_is_better else "more"
            name, value = max(asked.items(), key=lambda each: each[1])
            is_better = f"nothing: {way} {theirs.metric} is better"
            raise InputError(name, value, accepted.format(is_better))
    return decided
