"""The best model into the registry: chosen, verified, gated, promoted; listed and brought back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fm_mlflow.errors import InputError
from fm_mlflow.listeners import ProgressListener
from fm_mlflow.process.signals import guard
from fm_mlflow.process.temporary import temporary_folder
from fm_mlflow.registration.ahead import fresh_process_ahead
from fm_mlflow.registration.reports import reported
from fm_mlflow.results.register import GateError, Registration, Rollback, VersionList
from fm_mlflow.settings.base import parse
from fm_mlflow.settings.registered import REGISTERED_MODEL, RegisterConfig

if TYPE_CHECKING:
    from fm_mlflow.tracking.registry import Registry

_MOST_NAMES_SHOWN = 10


def register(*, progress: ProgressListener | None = None, **settings: Any) -> Registration:
    """Verify a model, hold it against its gates, and make it the champion of the registry.

    The model is the best of the store by the rule of `compare`, that of one `benchmark`, or that of
    `run_id`. It is loaded and measured again in a fresh process, whose code is not trusted.
    Registering the same model again makes no second version.

    Args:
        progress: Told each step; by default nothing is said.
        **settings: The fields of `RegisterConfig`: run_id, benchmark, name (by default that of the
            model's data set: `digits-classifier`), min_accuracy, min_metric, tolerance,
            against_champion, data_dir, verify_timeout, dry_run, junit, summary, and those of
            `compare` that choose and bound (experiment, cost, max_flops, …).

    Returns:
        What was checked and what was done.

    Raises:
        GateError: A figure does not hold, a bound is not kept, or the registered model belongs to
            another data set or is decided by another metric; nothing was changed. It has the
            `Registration` with every check where it came that far.
        InputError: A setting was refused.
        ComparisonError: There is no run to choose from.
        DataError: The test set of the run cannot be had.
        TrackingError: The store refused, did not answer or has no registry.

    Examples:
        >>> registration = fm_mlflow.register(min_accuracy=0.88)
        >>> registration.version, registration.outcome
        >>> fm_mlflow.register(benchmark=fm_mlflow.benchmark(models="mine.py:wide").run_id)
    """
    with guard(), reported(settings) as report:
        config = parse(RegisterConfig, settings)
        with temporary_folder() as folder, fresh_process_ahead(folder) as ready:
            from fm_mlflow.commands.promote import promote  # MLflow, beside that process' imports

            registration = promote(config, progress or ProgressListener(), folder, ready)
        report(registration)
    return registration


def rollback(*, name: str = "", dataset: str = "") -> Rollback:
    """Make the previous champion of a registered model the champion again, and vice versa.

    Args:
        name: The registered model; by default the only one that belongs to a data set.
        dataset: Where there are several: the data set, by name or by how its digest begins.

    Raises:
        GateError: Another process changed the champion at the same moment, the files of the
            previous version are not those that were verified, or it is of another data set than
            its registered model.
        InputError: There is no version to go back to, or several registered models could be meant.
        TrackingError: The store refused, did not answer or has no registry.
    """
    from fm_mlflow.tracking.model_files import ModelChangedError
    from fm_mlflow.tracking.registry import ChampionChangedError, Registry
    from fm_mlflow.tracking.store import tracking_uri

    config = parse(RegisterConfig, {"name": name, "dataset": dataset})
    with guard():
        registry = Registry(config.name or _only_name(config.dataset))
        try:
            now = registry.roll_back()
        except ChampionChangedError:
            raise GateError("another version became the champion meanwhile; see --list") from None
        except ModelChangedError as error:
            raise GateError(str(error)) from error
        champion, previous = now.champion or 0, now.previous or 0
        run_ids = {each.version: each.run_id for each in registry.versions()}
        return Rollback(
            *(registry.name, *_data_set(registry), champion, previous),
            run_ids[champion],
            tracking_uri(),
        )


def list_versions(*, name: str = "", dataset: str = "") -> VersionList:
    """Return the versions of a registered model, their aliases and their evidence, newest first.

    Args:
        name: The registered model; by default the only one that belongs to a data set.
        dataset: Where there are several: the data set, by name or by how its digest begins.

    Raises:
        InputError: Several registered models could be meant.
        TrackingError: The store refused, did not answer or has no registry.
    """
    from fm_mlflow.tracking.registry import Registry
    from fm_mlflow.tracking.store import tracking_uri

    config = parse(RegisterConfig, {"name": name, "dataset": dataset})
    registry = Registry(config.name or _only_name(config.dataset))
    versions = tuple(registry.versions())
    return VersionList(registry.name, *_data_set(registry), versions, tracking_uri())


def _only_name(dataset: str) -> str:
    """Return the registered model that is meant where neither it nor a run is named."""
    from fm_mlflow.tracking.registry import known_data_sets

    known = known_data_sets()
    meant = [name for name, data in known.items() if not dataset or data.is_meant_by(dataset)]
    if dataset and not meant:
        accepted = f"the data set of a registered model: {_some(map(str, known.values()))}"
        raise InputError("dataset", dataset, accepted)
    if len(meant) > 1:
        raise InputError("name", "", f"one of {_some(meant)}")
    return meant[0] if meant else REGISTERED_MODEL


def _some(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names))[:_MOST_NAMES_SHOWN]) or "there is none yet"


def _data_set(registry: Registry) -> tuple[str | None, str | None]:
    data, _ = registry.data_set()
    return (data.name, data.digest) if data is not None else (None, None)
