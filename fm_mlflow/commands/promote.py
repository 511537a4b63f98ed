"""What `register` does once its second process is on its way: choose, verify, gate, promote."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from fm_mlflow import keys
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.records import TrainingRun
from fm_mlflow.commands import compare
from fm_mlflow.errors import ComparisonError
from fm_mlflow.listeners import ProgressListener
from fm_mlflow.naming import registered_model_name
from fm_mlflow.process.waiting import Waiting
from fm_mlflow.registration.benchmark_runs import candidates
from fm_mlflow.registration.champion import hold_against, shown_figures, who_would_pass
from fm_mlflow.registration.checks import load_test_data, verify
from fm_mlflow.registration.evidence import Verified, card, evidence, not_verified
from fm_mlflow.registration.gates import check_bounds
from fm_mlflow.registration.seeds import values_of
from fm_mlflow.results.register import GateError, Registration
from fm_mlflow.settings.registered import CHAMPION, PREVIOUS, REGISTERED_MODEL, RegisterConfig
from fm_mlflow.settings.selection import Choice, CompareConfig
from fm_mlflow.tracking.candidate import download_candidate, find_training_run, seed_runs
from fm_mlflow.tracking.model_files import ModelChangedError
from fm_mlflow.tracking.registry import ChampionChangedError, Registry
from fm_mlflow.tracking.run import TrackedRun
from fm_mlflow.tracking.store import tracking_uri


def promote(
    config: RegisterConfig, progress: ProgressListener, folder: Path, ready: Waiting | None
) -> Registration:
    """Do what `fm_mlflow.register` says.

    Args:
        config: Its settings.
        progress: Told each step.
        folder: An empty folder, which is removed afterwards.
        ready: What `fresh_process_ahead` has started for the same folder.
    """
    # The run that `mlflow run` opened for us is closed as the registration ended.
    inherited = "MLFLOW_RUN_ID" in os.environ
    title = f"registration of {config.name or 'the best model'}"
    run_context = TrackedRun(keys.KIND_REGISTRATION, title) if inherited else nullcontext()
    with run_context as tracked:
        Registry(config.name or REGISTERED_MODEL).versions()  # is there a registry at all?
        progress.stage("choosing the run")
        config, choice = candidates(config)
        run, reason = _choose(config, choice, progress)
        data = run.data_set
        kind = "classifier" if keys.TEST_ACCURACY in run.metrics else "model"
        registry = Registry(config.name or registered_model_name(data.name, data.digest, kind))
        if tracked is not None and tracked.name == title:
            tracked.rename(f"registration of {registry.name}")
        registry.check_data_set(data)  # before the work, and again within the promotion's turn
        registry.check_metric(Objective.of(config))
        progress.stage(f"downloading the model of {run.name}")
        candidate = download_candidate(run, folder)
        progress.stage("loading the test set")
        dataset = load_test_data(candidate, config.data_dir, progress.download)
        progress.stage("verifying the model in a fresh process")
        seconds, objective = config.verify_timeout, Objective.of(config)
        verification = verify(candidate, dataset, folder, seconds, objective, ready)
        verified = Verified(reason, candidate, dataset, verification)
        progress.stage("checking the gates")
        try:
            return _decide(config, verified, registry)
        except ChampionChangedError:
            # Another process was faster. The same model: then there is nothing left to do.
            again = _decide(config.model_copy(update={"dry_run": True}), verified, registry)
            if again.outcome == "unchanged":
                return again
            reason = f"version {again.champion} became the champion meanwhile; run it again"
            raise GateError(reason, replace(again, outcome="refused")) from None
        except ModelChangedError as error:
            raise GateError(str(error)) from error


def _choose(
    config: RegisterConfig, choice: CompareConfig, progress: ProgressListener
) -> tuple[TrainingRun, str]:
    """Return the run whose model is to be registered, and why it."""
    if config.run_id:
        run = find_training_run(config.run_id, Objective.of(config).metric)
        return run, "The run that was named."
    run, reason = _best(choice, progress)
    if run.version is None:
        raise GateError(
            f"the best run, {run.run_id}, was logged by other software, which leaves too little to "
            "verify; --models or --filter chooses among others"
        )
    return run, reason


def _best(choice: CompareConfig, progress: ProgressListener) -> tuple[TrainingRun, str]:
    try:
        return compare.choose(choice, progress)
    except ComparisonError:
        # No model keeps the bounds: then let the gates show for the best one which it breaks.
        unbounded = {cost: None for cost in Choice.model_fields if cost.startswith("max_")}
        if not any(getattr(choice, name) is not None for name in unbounded):
            raise
        return compare.choose(choice.model_copy(update=unbounded), progress)


def _decide(config: RegisterConfig, verified: Verified, registry: Registry) -> Registration:
    """Hold a verified model against its gates, and promote it if it may be."""
    run, uri = verified.run, verified.candidate.model_uri
    note = registry.check_data_set(verified.data_set)
    versions = registry.versions()
    own = next((each for each in versions if each.model_uri == uri), None)
    aliased = {alias: each for each in versions for alias in each.aliases}
    champion, previous = aliased.get(CHAMPION), aliased.get(PREVIOUS)
    objective = Objective.of(config)
    registry.check_metric(objective)
    ours = seed_runs(run, objective.metric, of_its_benchmark=bool(config.benchmark))
    seeds = values_of(ours, objective.metric)
    gates, against = check_bounds(config, verified.metrics, objective), None
    keeps_bounds = all(gate.passed for gate in gates)
    if champion is not None and champion is not own:
        held, against = hold_against(config, verified, ours, champion)
        gates += held
    figures = verified.metrics
    registration = Registration(
        run_id=run.run_id,
        run_name=run.name,
        model_uri=uri,
        name=registry.name,
        dataset=verified.data_set.name,
        dataset_digest=verified.data_set.digest or "",
        metric=objective.metric,
        direction=objective.direction,
        dataset_note=note,
        version=own.version if own else None,
        outcome="unchanged",
        champion=champion.version if champion else None,
        previous=previous.version if previous else None,
        reason=verified.reason,
        same_machine=verified.verification.same_machine,
        checks=(*verified.verification.checks, *not_verified(verified, objective)),
        gates=tuple(gates),
        tracking_uri=tracking_uri(),
        figures={name: figures[name] for name in shown_figures(config) if name in figures},
        against=against,
    )
    if registration.failures:
        is_named = keeps_bounds or config.run_id
        others = "" if is_named else who_would_pass(config, run, objective)
        refused = replace(registration, outcome="refused", others=others)
        raise GateError("; ".join(refused.failures), refused)
    is_same = own is not None and own.tags.get(keys.MODEL_DIGEST) == verified.candidate.model_digest
    if champion is own and is_same:
        if not config.dry_run:
            registry.end_abandoned_turns()
        return registration
    if config.dry_run:
        return replace(registration, outcome="dry run")
    description = card(registry.name, verified, seeds, objective)
    tags = evidence(verified, objective)
    version, is_new = registry.promote(uri, description, tags, registration.champion)
    return replace(
        registration,
        version=version.version,
        outcome="registered" if is_new else "moved",
        champion=version.version,
        previous=registration.champion or registration.previous,
    )
