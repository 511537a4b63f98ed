"""The experiment of a run: the one that was chosen, else this package's own."""

from __future__ import annotations

import os
from typing import Any

import mlflow
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes
from mlflow.tracking import MlflowClient

from fm_mlflow import keys
from fm_mlflow.errors import InputError
from fm_mlflow.naming import OWN_EXPERIMENT
from fm_mlflow.tracking import charts
from fm_mlflow.tracking.store import has_code, if_existing

_OF_MLFLOW = "0"
"""Id of the experiment that MLflow calls Default, in every store."""

_MOST_NAMES_SHOWN = 10
_NEWEST = 100
_NOTE = """\
Trainings of fm_mlflow: each run is one model with one seed, what it scores and what it costs.

- **Runs**: the search `tags.fm_mlflow.kind = 'training'` leaves the trainings; others are \
`benchmark`, `sweep`, `trial` and `comparison`. The column `{accuracy}` is the result, \
measured once, after training.
- **Reports**: a comparison's run has `{report}` among its artifacts: which model \
to take, why, and how sure that is. `fm-mlflow compare` writes a new one.
- **Charts**: [with accuracy and loss first]({charts}), then memory, then costs, by what stands \
before the slash; MLflow's own order puts accuracy and loss ("Model metrics") last. `estimate` \
holds rules of thumb, no measurements.
- **Models** are all called `model`, so that `runs:/RUN_ID/model` works: the source run, and the \
columns `model` and `seed` among the parameters, tell them apart.
- **Costs**: `measurements.json` of each run has every cost with its method, or why there is none.
"""


def find_experiment(client: MlflowClient, given: str, *, with_trainings: bool = True) -> Experiment:
    """Return an experiment by name or id; where none is given, the one that runs go to.

    Args:
        client: Of the store.
        given: Name or id; may be empty.
        with_trainings: Whether trainings are searched for. Where nobody chose, they are in MLflow's
            default experiment as long as our own has none (comparisons of others' runs, say).

    Raises:
        InputError: There is no such experiment.
    """
    name = given or os.environ.get("MLFLOW_EXPERIMENT_NAME", "")
    if name:
        experiment = client.get_experiment_by_name(name)
        if experiment is None and name.isdigit():
            experiment = if_existing(client.get_experiment, name)
    elif chosen := _chosen_id():
        name, experiment = chosen, if_existing(client.get_experiment, chosen)
    else:
        name, experiment = _OF_MLFLOW, client.get_experiment_by_name(OWN_EXPERIMENT)
        default = if_existing(client.get_experiment, _OF_MLFLOW)
        if not _is_active(experiment) or (
            with_trainings
            and not _has_trainings(client, experiment)
            and _has_trainings(client, default)
        ):
            experiment = default
    if experiment is None or not _is_active(experiment):
        existing = client.search_experiments(max_results=_MOST_NAMES_SHOWN)
        names = [each.name for each in existing]
        some = f", such as {', '.join(names)}" if names else "; it has none"
        raise InputError("experiment", name, f"an experiment of the store{some}", names)
    return experiment


def left_elsewhere(client: MlflowClient, searched: Experiment, *, of_others: bool) -> str:
    """Return the name of the other default experiment where it has trainings that are not searched.

    There are two: our own, and MLflow's, which `mlflow run` chooses where its user does not. Empty
    where the other has no trainings, and where somebody chose the experiment.

    Args:
        client: Of the store.
        searched: The experiment that was searched.
        of_others: Whether runs of other software count.
    """
    if searched.name == OWN_EXPERIMENT and not _is_chosen():
        other = if_existing(client.get_experiment, _OF_MLFLOW)
    elif searched.experiment_id == _chosen_id() == _OF_MLFLOW:
        other = client.get_experiment_by_name(OWN_EXPERIMENT)
    else:
        return ""
    has_some = _has_trainings(client, other, of_others=of_others)
    return str(other.name) if other and has_some else ""


def start_run(**arguments: Any) -> mlflow.ActiveRun:
    """Call `mlflow.start_run`, when others may do so at the same moment.

    A new run goes to the experiment of the run that it is within, else to the chosen one, else to
    that of `default_experiment`. MLflow creates the experiment that $MLFLOW_EXPERIMENT_NAME names
    where it is missing: of several processes that do this at once, all but the first are refused.
    """
    if not (arguments.get("run_id") or os.environ.get("MLFLOW_RUN_ID")):
        within = mlflow.active_run()
        if within is not None:
            arguments["experiment_id"] = within.info.experiment_id
        elif not _is_chosen():
            arguments["experiment_id"] = default_experiment(MlflowClient())
    try:
        return mlflow.start_run(**arguments)
    except MlflowException as error:
        if not has_code(error, codes.RESOURCE_ALREADY_EXISTS):
            raise
        return mlflow.start_run(**arguments)


def default_experiment(client: MlflowClient) -> str:
    """Return the id of the experiment for runs where nobody chose one; make it if it is missing.

    A store whose default experiment of MLflow's already has runs of ours keeps them together there.
    """
    own = client.get_experiment_by_name(OWN_EXPERIMENT)
    if own is not None and _is_active(own):
        return str(own.experiment_id)
    # Who deleted it, and empties the trash later, shall not have to do it again.
    if own is not None or _has_runs(client, _OF_MLFLOW, f"tags.`{keys.KIND}` LIKE '%'"):
        return _OF_MLFLOW
    return experiment_of(client, OWN_EXPERIMENT)


def for_journal() -> tuple[str | None, str | None]:
    """Return id and name of the experiment of a new run; the name is empty where nobody chose."""
    chosen = _chosen_id()
    return chosen or None, os.environ.get("MLFLOW_EXPERIMENT_NAME") or (None if chosen else "")


def experiments_of_journal(
    client: MlflowClient, experiment_id: str | None, name: str | None
) -> list[str]:
    """Return where the run of a journal may be already; the first is where it is to be made.

    Journals of version 0.1 have neither where nobody chose: MLflow's default was meant.
    """
    if experiment_id or name is None:
        return [experiment_id or _OF_MLFLOW]
    if name:
        return [experiment_of(client, name)]
    return list(dict.fromkeys([default_experiment(client), _OF_MLFLOW]))


def experiment_of(client: MlflowClient, name: str) -> str:
    """Return the id of the experiment of a name; make it, if nobody has or does at this moment."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        tags = charts.tags() if name == OWN_EXPERIMENT else {}
        try:
            made = str(client.create_experiment(name, tags=tags))
            if name == OWN_EXPERIMENT:
                note = _NOTE.format(
                    charts=charts.link(made),
                    accuracy=keys.TEST_ACCURACY,
                    report=keys.REPORT_HTML_FILE,
                )
                client.set_experiment_tag(made, keys.MLFLOW_RUN_NOTE, note)
            return made
        except MlflowException as error:
            experiment = client.get_experiment_by_name(name)
            if not has_code(error, codes.RESOURCE_ALREADY_EXISTS) or experiment is None:
                raise
    return str(experiment.experiment_id)


def _is_chosen() -> bool:
    return bool(os.environ.get("MLFLOW_EXPERIMENT_NAME") or _chosen_id())


def _chosen_id() -> str:
    """Return what `mlflow.set_experiment`, MLFLOW_EXPERIMENT_ID or the platform say; else ''."""
    given = os.environ.get("MLFLOW_EXPERIMENT_ID")  # `mlflow.set_experiment` sets it, too
    if given is not None or os.environ.get("MLFLOW_EXPERIMENT_NAME"):
        return given or ""
    try:
        from mlflow.tracking.fluent import _get_experiment_id
    except ImportError:
        return ""
    active = str(_get_experiment_id() or _OF_MLFLOW)
    return "" if active == _OF_MLFLOW else active


def _is_active(experiment: Experiment | None) -> bool:
    return experiment is not None and experiment.lifecycle_stage == LifecycleStage.ACTIVE


def _has_trainings(
    client: MlflowClient, experiment: Experiment | None, *, of_others: bool = True
) -> bool:
    """Whether an experiment has trainings of ours, or runs of other software among its newest."""
    if experiment is None or not _is_active(experiment):
        return False
    place = experiment.experiment_id
    if _has_runs(client, place, f"tags.`{keys.KIND}` = '{keys.KIND_TRAINING}'"):
        return True
    newest = client.search_runs([place], max_results=_NEWEST) if of_others else ()
    return any(keys.KIND not in run.data.tags for run in newest)


def _has_runs(client: MlflowClient, experiment_id: str, text: str) -> bool:
    return bool(client.search_runs([experiment_id], text, max_results=1))
