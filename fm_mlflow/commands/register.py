"""The best model into the registry: chosen, verified, gated, promoted; listed and brought back."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fm_mlflow import keys
from fm_mlflow.analysis.costs import COSTS
from fm_mlflow.config import CHAMPION, PREVIOUS, Choice, RegisterConfig, TrainConfig
from fm_mlflow.errors import ComparisonError, InputError
from fm_mlflow.keys import Key
from fm_mlflow.listeners import ProgressListener
from fm_mlflow.naming import dataset_title, training_command
from fm_mlflow.process.signals import guard
from fm_mlflow.registration.checks import Verification, load_test_data, verify
from fm_mlflow.registration.gates import Contender, check_bounds, check_champion
from fm_mlflow.registration.model_card import ModelCard, render_model_card
from fm_mlflow.results.register import (
    Gate,
    GateError,
    RegisteredVersion,
    Registration,
    Rollback,
    VersionList,
)
from fm_mlflow.settings import parse

if TYPE_CHECKING:
    from fm_mlflow.analysis.records import TrainingRun
    from fm_mlflow.data.dataset import Dataset
    from fm_mlflow.tracking.candidate import Candidate
    from fm_mlflow.tracking.registry import Registry

# The figures that a version carries as tags, so that they outlive its run.
_EVIDENCE: tuple[Key, ...] = (
    keys.TEST_ACCURACY,
    keys.FLOPS_INFERENCE,
    keys.SIZE_INFERENCE,
    keys.LATENCY_P50,
    keys.MEMORY_PEAK,
)


@dataclass(frozen=True)
class _Chosen:
    run: TrainingRun
    reason: str


def register(*, progress: ProgressListener | None = None, **settings: Any) -> Registration:
    """Verify a model, hold it against its gates, and make it the champion of the registry.

    The model is the best of the store by the rule of `compare`, or that of `run_id`. It is loaded
    in a fresh process and measured again. Registering the same model again makes no second version.

    Args:
        progress: Hears how it goes on; by default nothing is said.
        **settings: The fields of `RegisterConfig`: run_id, name, min_accuracy, tolerance, data_dir,
            dry_run, and those of `compare` that choose and bound (experiment, cost, max_flops, …).

    Returns:
        What was checked and what was done.

    Raises:
        GateError: A figure does not hold or a bound is not kept; nothing was changed. It has the
            `Registration` with every check where it came that far.
        InputError: A setting was refused.
        ComparisonError: There is no run to choose from.
        DataError: The test set of the run cannot be had.
        TrackingError: The store refused, did not answer or has no registry.

    Example:
        >>> registration = fm_mlflow.register(min_accuracy=0.88)
        >>> registration.version, registration.outcome
    """
    from fm_mlflow.tracking.registry import ChampionChangedError, Registry

    config = parse(RegisterConfig, settings)
    progress = progress or ProgressListener()
    with guard(), _inherited_run(config), tempfile.TemporaryDirectory(prefix="fm_mlflow-") as name:
        registry = Registry(config.name)
        registry.versions()  # without a registry, say so before the work
        progress.stage("choosing the run")
        chosen = choose(config)
        prepared = _prepare(config, chosen, Path(name), progress)
        progress.stage("checking the gates")
        try:
            return _decide(config, prepared, registry)
        except ChampionChangedError:
            # Another process was faster. The same model: then there is nothing left to do.
            again = _decide(config.model_copy(update={"dry_run": True}), prepared, registry)
            if again.outcome == "unchanged":
                return again
            reason = f"version {again.champion} became the champion meanwhile; run it again"
            raise GateError(reason, replace(again, outcome="refused")) from None


def rollback(*, name: str = RegisterConfig.model_fields["name"].default) -> Rollback:
    """Make the previous champion of a registered model the champion again, and vice versa.

    Raises:
        InputError: There is no version to go back to.
        TrackingError: The store refused, did not answer or has no registry.
    """
    from fm_mlflow.tracking.registry import ChampionChangedError, Registry
    from fm_mlflow.tracking.store import tracking_uri

    config = parse(RegisterConfig, {"name": name})
    with guard():
        registry = Registry(config.name)
        try:
            now = registry.roll_back()
        except ChampionChangedError:
            raise GateError("another version became the champion meanwhile; see --list") from None
        versions = {each.version: each for each in registry.versions()}
        return Rollback(
            config.name,
            int(now.champion or 0),
            int(now.previous or 0),
            versions[int(now.champion or 0)].run_id,
            tracking_uri(),
        )


def list_versions(*, name: str = RegisterConfig.model_fields["name"].default) -> VersionList:
    """Return the versions of a registered model, their aliases and their evidence, newest first.

    Raises:
        TrackingError: The store refused, did not answer or has no registry.
    """
    from fm_mlflow.tracking.registry import Registry
    from fm_mlflow.tracking.store import tracking_uri

    config = parse(RegisterConfig, {"name": name})
    return VersionList(config.name, tuple(Registry(config.name).versions()), tracking_uri())


def choose(config: RegisterConfig) -> _Chosen:
    """Return the run whose model is to be registered, and why it."""
    from fm_mlflow.commands import compare as comparing
    from fm_mlflow.tracking.candidate import find_training_run

    if config.run_id:
        return _Chosen(find_training_run(config.run_id), "The run that was named.")
    choice = Choice(**config.model_dump(include=set(Choice.model_fields)))
    try:
        chosen = comparing.choose(choice)
    except ComparisonError:
        # No model keeps the bounds: then let the gates show for the best one which it breaks.
        unbounded = {cost: None for cost in Choice.model_fields if cost.startswith("max_")}
        if not any(getattr(choice, name) is not None for name in unbounded):
            raise
        chosen = comparing.choose(choice.model_copy(update=unbounded))
    return _Chosen(chosen.run, chosen.best.reason)


@dataclass(frozen=True)
class _Prepared:
    """A verified model, before anything is decided."""

    chosen: _Chosen
    candidate: Candidate
    dataset: Dataset
    verification: Verification
    verified_at: str

    @property
    def metrics(self) -> dict[str, float]:
        """The run's figures, and where they could be measured again, what was found."""
        return {**self.chosen.run.metrics, **self.verification.metrics}


def _prepare(
    config: RegisterConfig, chosen: _Chosen, folder: Path, progress: ProgressListener
) -> _Prepared:
    from fm_mlflow.tracking.candidate import download_candidate

    progress.stage(f"downloading the model of {chosen.run.name}")
    candidate = download_candidate(chosen.run, folder)
    progress.stage("loading the test set")
    dataset = load_test_data(candidate, config.data_dir, progress.download)
    progress.stage("verifying the model in a fresh process")
    verification = verify(candidate, dataset, folder)
    verified_at = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return _Prepared(chosen, candidate, dataset, verification, verified_at)


def _decide(config: RegisterConfig, prepared: _Prepared, registry: Registry) -> Registration:
    """Hold a verified model against its gates, and promote it if it may be."""
    from fm_mlflow.tracking.candidate import same_but_seed
    from fm_mlflow.tracking.registry import NewVersion
    from fm_mlflow.tracking.store import tracking_uri

    run, candidate = prepared.chosen.run, prepared.candidate
    versions = registry.versions()
    own = next((each for each in versions if each.model_uri == candidate.model_uri), None)
    champion = next((each for each in versions if CHAMPION in each.aliases), None)
    previous = next((each for each in versions if PREVIOUS in each.aliases), None)
    seeds = tuple(each.metrics[keys.TEST_ACCURACY] for each in same_but_seed(run))
    gates = check_bounds(config, prepared.metrics)
    if champion is not None and champion is not own:
        gates += _champion_gates(config, prepared, seeds, champion)
    registration = Registration(
        run_id=run.run_id,
        run_name=run.name,
        model_uri=candidate.model_uri,
        name=config.name,
        version=own.version if own else None,
        outcome="unchanged",
        champion=champion.version if champion else None,
        previous=previous.version if previous else None,
        reason=prepared.chosen.reason,
        same_machine=prepared.verification.same_machine,
        checks=prepared.verification.checks,
        gates=tuple(gates),
        tracking_uri=tracking_uri(),
    )
    if registration.failures:
        refused = replace(registration, outcome="refused")
        raise GateError("; ".join(registration.failures), refused)
    if champion is not None and champion is own:
        return registration
    if config.dry_run:
        return replace(registration, outcome="dry run")
    new = NewVersion(candidate.model_uri, _card(config, prepared, seeds), _evidence(prepared))
    version, is_new = registry.promote(new, registration.champion)
    return replace(
        registration,
        version=version.version,
        outcome="registered" if is_new else "moved",
        champion=version.version,
        previous=registration.champion or registration.previous,
    )


def _champion_gates(
    config: RegisterConfig,
    prepared: _Prepared,
    seeds: tuple[float, ...],
    champion: RegisteredVersion,
) -> list[Gate]:
    from fm_mlflow.tracking.candidate import find_training_run, same_but_seed

    (cost,) = (each.key for each in COSTS if each.key == config.cost)
    accuracy, champion_cost = champion.figure(keys.TEST_ACCURACY), champion.figure(cost)
    digest = champion.tags.get(keys.DATASET_DIGEST)
    champion_seeds: tuple[float, ...] = ()
    # Its evidence stands in its tags. Its run, which may be gone, leads to the other seeds, and
    # stands in for the evidence of a version that somebody registered by hand.
    with suppress(InputError):
        run = find_training_run(champion.run_id or "")
        champion_seeds = tuple(each.metrics[keys.TEST_ACCURACY] for each in same_but_seed(run))
        accuracy = accuracy if accuracy is not None else run.metrics.get(keys.TEST_ACCURACY)
        champion_cost = champion_cost if champion_cost is not None else run.metrics.get(cost)
        digest = digest or run.data_digest
    return check_champion(
        Contender(
            prepared.metrics.get(keys.TEST_ACCURACY),
            prepared.metrics.get(cost),
            seeds,
            prepared.chosen.run.data_digest,
        ),
        Contender(accuracy, champion_cost, champion_seeds, digest),
        version=champion.version,
        tolerance=config.tolerance,
        cost=cost,
    )


def _evidence(prepared: _Prepared) -> dict[str, str]:
    run, metrics = prepared.chosen.run, prepared.metrics
    # In the order in which the UI's table shows them, from the most asked for on.
    evidence: dict[str, str] = {key: _exact(metrics[key]) for key in _EVIDENCE if key in metrics}
    evidence |= {
        keys.MODEL: run.model,
        keys.VERIFIED_AT: prepared.verified_at,
        keys.DATASET_DIGEST: prepared.dataset.digest,
    }
    if prepared.candidate.weights_digest is not None:
        evidence[keys.WEIGHTS_DIGEST] = prepared.candidate.weights_digest
    return evidence


def _exact(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def _card(config: RegisterConfig, prepared: _Prepared, seeds: tuple[float, ...]) -> str:
    run, dataset = prepared.chosen.run, prepared.dataset
    settings = {name: run.config[name] for name in TrainConfig.model_fields if name in run.config}
    if run.seed is not None:
        settings["seed"] = str(run.seed)
    if settings.get("dataset") == "idx":
        settings["data_dir"] = "FOLDER"
    trained = parse(TrainConfig, {"model": run.model, **settings})
    trained_on = dataset.hold_out(trained.validation_split)
    held_out = trained_on.validation
    return render_model_card(
        ModelCard(
            name=config.name,
            model=run.model,
            run_id=run.run_id,
            run_name=run.name,
            command=training_command(trained),
            dataset=dataset_title(trained),
            dataset_digest=dataset.digest,
            train_images=len(trained_on.train),
            test_images=len(dataset.test),
            validated_on=f"{len(held_out):,} held-out images" if held_out else "the test set",
            config=run.config,
            class_names=dataset.class_names,
            input_shape=prepared.verification.input_shape,
            gives_logits=prepared.verification.gives_logits,
            metrics=prepared.metrics,
            measurements={
                **prepared.candidate.measurements,
                **prepared.verification.measurements,
            },
            same_machine=prepared.verification.same_machine,
            verified=tuple(check.figure for check in prepared.verification.checks if check.passed),
            verified_at=prepared.verified_at,
            machine=run.machine,
            seed_accuracies=seeds,
        )
    )


@contextmanager
def _inherited_run(config: RegisterConfig) -> Iterator[None]:
    """Close the run that `mlflow run` opened for us as the registration ended."""
    if "MLFLOW_RUN_ID" not in os.environ:
        yield
        return
    from fm_mlflow.tracking.run import TrackedRun

    with TrackedRun(keys.KIND_REGISTRATION, f"registration of {config.name}"):
        yield
