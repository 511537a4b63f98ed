"""From the tracking store to plain records: which runs there are, whoever logged them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.tracking import MlflowClient
from pydantic import TypeAdapter, ValidationError

from fm_mlflow import keys
from fm_mlflow.analysis.metric_choice import comparable, is_of_training
from fm_mlflow.analysis.prose.words import counted
from fm_mlflow.analysis.records import SkippedRun, TrainingRun, is_number
from fm_mlflow.analysis.seed_design import SeedDesign
from fm_mlflow.errors import InputError
from fm_mlflow.process.identity import ProcessIdentity
from fm_mlflow.results.recovery import Verdict
from fm_mlflow.settings.config import LATER_DEFAULTS, NOT_SHAPING
from fm_mlflow.settings.dataset import last_part
from fm_mlflow.settings.model_reference import ARGUMENT_PREFIX, BUILTIN_DEFAULTS
from fm_mlflow.settings.selection import Selection, on_other_data
from fm_mlflow.tracking.experiment import find_experiment, left_elsewhere
from fm_mlflow.tracking.params import unquoted, whole_number
from fm_mlflow.tracking.running import DEAD_AFTER_SECONDS, judge
from fm_mlflow.tracking.store import (
    OLDEST_FIRST,
    check_reachable,
    get_run,
    has_code,
    pages,
    store_errors,
)

_MOST_NAMES_SHOWN = 10

# Of the tags, parameters and metrics of one run; a training logs fewer than 100 of each.
_MOST_VALUES = 1_000
_MOST_CHARACTERS = 1_000_000

# They do not shape the result, or make the group's identity in another way.
_NOT_CONFIG = frozenset({"model", "seed", *NOT_SHAPING, *keys.PARAMS_OF_STOP})

_MACHINE = TypeAdapter(dict[str, str])

_OPTIMIZER_OF_MLFLOW = ("optimizer_", "opt_")
"""How parameters begin that `mlflow.keras.MlflowCallback` and MLflow's autologging log."""


@dataclass(frozen=True)
class FoundRuns:
    """What the store holds.

    Attributes:
        experiment: Name of the experiment that was searched; of the runs' own where runs were
            named.
        runs: Finished training runs, oldest first.
        skipped: The others, and why.
        unfinished: Training runs among the skipped: failed, running, without a result.
        other_metrics: What finished runs logged that were skipped for want of the metric, or
            because theirs is of the training data, without others of it: in how many, by name.
        elsewhere: Name of the other default experiment of the store that has trainings, where
            nobody chose one: MLflow's or our own.
    """

    experiment: str
    runs: list[TrainingRun]
    skipped: list[SkippedRun]
    unfinished: list[TrainingRun]
    other_metrics: Counter[str]
    elsewhere: str = ""


def find_runs(choice: Selection, metric: str = keys.TEST_ACCURACY) -> FoundRuns:
    """Find the training runs that a comparison is about.

    Runs of other kinds (comparisons, benchmarks) are not mentioned: they are no trainings. Runs of
    other software are found where they are named; and by another metric than the default, which
    somebody must have meant, where they have it.

    Args:
        choice: Which runs are meant.
        metric: What each needs.

    Raises:
        InputError: There is no such experiment or run, or MLflow cannot read the filter.
        TrackingError: The store does not answer or refuses.
    """
    check_reachable()
    client = MlflowClient()
    named = _words(choice.runs)
    if named and choice.filter:
        raise InputError("filter", choice.filter, "nothing where runs are named")
    elsewhere = ""
    with store_errors("query runs"):
        if named:
            accepted = "ids of runs in the store, with commas"
            found: Iterable[Run] = [get_run(one, "runs", accepted) for one in dict.fromkeys(named)]
            ids = dict.fromkeys(run.info.experiment_id for run in found)
            experiments = {each: client.get_experiment(each).name for each in ids}
        else:
            experiment = find_experiment(client, choice.experiment)
            experiments = {experiment.experiment_id: experiment.name}
            found = _search(client, experiment.experiment_id, choice, metric)
            if not choice.experiment:  # runs of others are found by other metrics only
                by_another = metric != keys.TEST_ACCURACY
                elsewhere = left_elsewhere(client, experiment, of_others=by_another)
        result = _sorted_out(experiments, found, choice, metric)
        return replace(result, elsewhere=elsewhere)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _search(
    client: MlflowClient, experiment_id: str, choice: Selection, metric: str
) -> Iterator[Run]:
    """Yield the runs one by one, so that only records are kept of them."""
    text, models = choice.filter, _words(choice.models)
    # For several, MLflow's language has no `or`; and runs of others, which are found by another
    # metric only, have no such tag.
    if metric == keys.TEST_ACCURACY and len(models) == 1 and "'" not in models[0]:
        model = f"tags.`{keys.MODEL}` = '{models[0]}'"
        text = f"{text} and {model}" if text else model
    try:
        yield from pages(client.search_runs, [experiment_id], text, order_by=OLDEST_FIRST)
    except MlflowException as error:
        if not (text and has_code(error, INVALID_PARAMETER_VALUE)):
            raise
        accepted = f"a filter that MLflow reads ({error.message})"
        raise InputError("filter", text, accepted) from error


def _sorted_out(
    experiments: Mapping[str, str], found: Iterable[Run], choice: Selection, metric: str
) -> FoundRuns:
    models, named, is_there = _words(choice.models), bool(_words(choice.runs)), False
    data_sets: set[str] = set()
    result = FoundRuns(", ".join(experiments.values()), [], [], [], Counter())
    own_run = os.environ.get("MLFLOW_RUN_ID")  # `mlflow run` opened it for this comparison
    for run in found:
        kind = run.data.tags.get(keys.KIND)
        if run.info.run_id == own_run or kind not in (None, keys.KIND_TRAINING):
            continue
        record = _record(run, experiments[run.info.experiment_id])
        data = record.data_set
        # Of one that failed before it had its data nobody knows which it was to have.
        says_data = bool(data.name or data.digest)
        if says_data:
            data_sets.add(str(data))
            is_there |= data.is_meant_by(choice.dataset)
        if models and record.model not in models:
            continue
        if choice.dataset and says_data and not data.is_meant_by(choice.dataset):
            continue
        too_much = _too_much(run)
        reason = too_much or _reason_to_skip(run, record, metric, named)
        if reason is None and choice.dataset and not says_data:
            reason = "it does not say on which data it was trained"
        if reason is None:
            result.runs.append(record)
            continue
        result.skipped.append(SkippedRun(record.run_id, record.name, reason))
        lacks = metric not in record.metrics or is_of_training(metric, record)
        if run.info.status == keys.FINISHED and lacks and not too_much:
            names = (n for n in record.metrics if n == metric or not is_of_training(n, record))
            result.other_metrics.update(names)
        is_asked_for = says_data or not choice.dataset
        active = run.info.lifecycle_stage == LifecycleStage.ACTIVE
        if active and (kind or named) and is_asked_for and not too_much:
            result.unfinished.append(record)
    if choice.dataset and data_sets and not is_there:
        accepted = f"a data set of these runs: {', '.join(sorted(data_sets)[:_MOST_NAMES_SHOWN])}"
        if unknown := result.skipped:
            accepted += f"; of {counted(len(unknown), 'run')} it is not known ({unknown[0].reason})"
        raise InputError("dataset", choice.dataset, accepted)
    return result


def _too_much(run: Run) -> str | None:
    """Say that a run holds more than is read: one run should not take the memory of all."""
    data = run.data
    counts = {"tags": len(data.tags), "parameters": len(data.params), "metrics": len(data.metrics)}
    for name, count in counts.items():
        if count > _MOST_VALUES:
            return f"it has {count:,} {name}; runs of up to {_MOST_VALUES:,} are read"
    texts: list[str] = [*data.tags, *data.tags.values(), *data.params, *data.params.values()]
    characters = sum(map(len, [run.info.run_name or "", *data.metrics, *texts]))
    if characters > _MOST_CHARACTERS:
        return (
            f"its names and values have {characters:,} characters; runs of up to "
            f"{_MOST_CHARACTERS:,} are read"
        )
    return None


def _reason_to_skip(run: Run, record: TrainingRun, metric: str, named: bool) -> str | None:
    status = run.info.status
    if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
        return "it was deleted"
    if status not in keys.ENDED:
        if ProcessIdentity.from_tags(run.data.tags) is None:
            return f"it has not ended: {status}"
        judged = judge(run, DEAD_AFTER_SECONDS)
        advice = "; `fm-mlflow reconcile` closes it" if judged.verdict is Verdict.DEAD else ""
        return f"it has not ended: {judged.reason}{advice}"
    if status != keys.FINISHED:
        return f"it ended as {status}: {run.data.tags.get(keys.ERROR, 'no cause is recorded')}"
    is_default = metric == keys.TEST_ACCURACY
    if is_default and keys.KIND not in run.data.tags:
        return None if named else "logged by others; naming it (runs) includes it"
    if metric not in record.metrics:
        lacking = "incomplete: " if is_default else ""
        if metric in run.data.metrics:
            return f"{lacking}its {metric} is not a finite number"
        if of_other_data := comparable(record.metrics):
            return f"it has no {metric}; --metric {of_other_data[0]} compares such runs"
        return f"{lacking}it has no {metric}"
    if is_of_training(metric, record):
        instead = [name for name in on_other_data(metric) if name in record.metrics]
        has = f"; it has {' and '.join(instead)}" if instead else ""
        return f"its {metric} is of the data that it was trained on{has}"
    return None


def _record(run: Run, experiment: str) -> TrainingRun:
    tags, params = run.data.tags, run.data.params
    name = run.info.run_name or run.info.run_id
    seed = _normal(params.get("seed", ""))
    process = ProcessIdentity.from_tags(tags)
    return TrainingRun(
        run_id=run.info.run_id,
        name=name,
        model=tags.get(keys.MODEL) or _normal(params.get("model", "")) or name,
        config=_config(params, tags),
        seed=int(seed) if seed.isdecimal() else None,
        metrics=_of_the_model(run.data.metrics),
        data_digest=tags.get(keys.DATASET_DIGEST),
        machine=_machine(tags),
        host=process.host if process else "",
        jobs=whole_number(tags.get(keys.JOBS, ""), 1),
        parts=whole_number(tags.get(keys.PARTS, ""), 1),
        version=tags.get(keys.VERSION),
        commit=tags.get(keys.MLFLOW_GIT_COMMIT),
        start_time=run.info.start_time or 0,
        end_time=run.info.end_time or 0,
        artifact_uri=run.info.artifact_uri or "",
        model_uri=model_uri(run),
        experiment=experiment,
        status=run.info.status,
        error=tags.get(keys.ERROR),
        held_out=_held_out(params, tags),
        benchmark=tags.get(keys.MLFLOW_PARENT_RUN_ID),
        design=SeedDesign.read(tags[keys.DESIGN]) if keys.DESIGN in tags else None,
        design_model=tags.get(keys.DESIGN_MODEL),
    )


def _machine(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the facts of the machine, also of runs that had a tag for each of them."""
    if keys.MACHINE in tags:
        try:
            return _MACHINE.validate_json(tags[keys.MACHINE])
        except ValidationError:
            return {}
    prefix = keys.MACHINE_PREFIX
    return {
        name.removeprefix(prefix): text for name, text in tags.items() if name.startswith(prefix)
    }


def _of_the_model(logged: Mapping[str, float]) -> dict[str, float]:
    """Return the last values; where an earlier epoch's weights were kept, those of that epoch."""
    prefix = keys.KEPT_PREFIX
    kept = {name.removeprefix(prefix): name for name in logged if name.startswith(prefix)}
    names = {**{name: name for name in logged if not name.startswith(prefix)}, **kept}
    return {name: logged[each] for name, each in names.items() if is_number(logged[each])}


def _held_out(params: Mapping[str, str], tags: Mapping[str, str]) -> bool:
    """Tell whether a run validated on data that it neither trained on nor was tested on."""
    if keys.VALIDATED_ON in tags:
        return tags[keys.VALIDATED_ON] == keys.HELD_OUT
    try:
        return float(params.get("validation_split", "0")) > 0
    except ValueError:  # a parameter of that name that other software logged
        return False


def model_uri(run: Run) -> str | None:
    """Return the model of a run, `models:/<id>`; of one that was extended, the last."""
    outputs = run.outputs.model_outputs if run.outputs else []
    return f"models:/{max(outputs, key=lambda model: model.step).model_id}" if outputs else None


def _config(params: Mapping[str, str], tags: Mapping[str, str]) -> dict[str, str]:
    """Return what shaped the result, spelt in one way whoever logged it."""
    counted = {
        name: value
        for name, value in params.items()
        if name not in _NOT_CONFIG and value != LATER_DEFAULTS.get(name)
    }
    _read_mlflows_optimizer(counted)
    for name in params:  # what a compiled model brought is what counted
        if name.startswith(keys.COMPILED_PREFIX):
            counted[name.removeprefix(keys.COMPILED_PREFIX)] = counted.pop(name)
    if keys.EXTENDED_EPOCHS in tags:  # the parameter says what the run began with
        counted["epochs"] = tags[keys.EXTENDED_EPOCHS]
    if keys.KIND in tags:  # before there were arguments, runs did not say them
        defaults = BUILTIN_DEFAULTS.get(tags.get(keys.MODEL, ""), {})
        counted = {**{f"{ARGUMENT_PREFIX}{name}": v for name, v in defaults.items()}, **counted}
    normal = {name: _normal(value) for name, value in sorted(counted.items())}
    if "dataset" in normal:  # `mlflow run` logs the path that the user typed, others the name
        normal["dataset"] = last_part(normal["dataset"])
    return normal


def _read_mlflows_optimizer(params: dict[str, str]) -> None:
    """Say what MLflow's own callback logged of an optimizer as we do: its kind and its rate.

    The rest nobody chose, and Keras numbers the names of a process' optimizers.
    """
    for prefix in _OPTIMIZER_OF_MLFLOW:
        if f"{prefix}name" not in params:
            continue
        logged = {name: params.pop(name) for name in list(params) if name.startswith(prefix)}
        params.setdefault("optimizer", re.sub(r"_\d+$", "", logged[f"{prefix}name"]).lower())
        try:  # a float32, which MLflow writes as a double; of a schedule, a mapping
            rate = str(np.float32(logged.get(f"{prefix}learning_rate", "")))
        except ValueError:
            continue
        params.setdefault("learning_rate", rate)


def _normal(text: str) -> str:
    """Spell a value in one way: `mlflow run` logs what the user typed, `1e-3` or `'a b'`."""
    text = unquoted(text)
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
