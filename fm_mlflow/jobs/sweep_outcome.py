"""What a sweep has shown: its trials, the finalists of the front, and what their proof says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Comparison
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.jobs.recommendation import compared_with_default, recommend
from fm_mlflow.jobs.trial_rounds import trial_params
from fm_mlflow.results.benchmark import BenchmarkResult
from fm_mlflow.results.sweep import Finalist, Spent, SweepResult, SweepTrial, TrialStatus
from fm_mlflow.search.fronts import front, thinned
from fm_mlflow.search.trials import Trial
from fm_mlflow.settings.model_reference import joined_settings
from fm_mlflow.settings.selection import Choice
from fm_mlflow.settings.space import TRAINING_SETTINGS, space_text
from fm_mlflow.settings.sweep import SweepConfig
from fm_mlflow.tracking.run import TrackedRun
from fm_mlflow.tracking.store import tracking_uri
from fm_mlflow.tracking.trial_runs import TrialRun
from fm_mlflow.training.search_space import SearchSpace

_Z = 1.96

_COSTS = (
    keys.FLOPS_INFERENCE,
    keys.FLOPS_TRAINING,
    keys.PARAMETERS_TRAINABLE,
    keys.SIZE_INFERENCE,
    keys.MEMORY_PEAK,
)


def entry_of(config: SweepConfig, settings: Mapping[str, str]) -> str:
    """Return settings as a benchmark lists them: a model with arguments and settings of its own."""
    own = {name: settings[name] for name in TRAINING_SETTINGS if name in settings}
    return joined_settings(trial_params(config, settings, 0)["model"], own)


@dataclass(frozen=True)
class Outcome:
    """What the search has shown.

    Attributes:
        trials: By number.
        finalists: The default first, as yet without proof.
        spent: By the search.
    """

    trials: tuple[SweepTrial, ...]
    finalists: tuple[Finalist, ...]
    spent: Spent

    @property
    def entries(self) -> tuple[str, ...]:
        """The finalists as a benchmark lists them; nothing where there is nothing to prove."""
        return tuple(each.entry for each in self.finalists)

    def result(
        self,
        run: TrackedRun,
        config: SweepConfig,
        space: SearchSpace,
        importance: Mapping[str, float],
        ended: str,
        proof: BenchmarkResult | None,
    ) -> SweepResult:
        """Return the whole result.

        Args:
            run: The run of the sweep.
            config: Its settings.
            space: What was searched.
            importance: Of each setting.
            ended: Why the search ended.
            proof: The benchmark of the finalists.
        """
        compared = proof.comparison if proof else None
        comparison = compared.comparison if compared else None
        finalists = self.finalists
        recommended, reason = "", "no finalist was trained with fresh seeds"
        if proof and comparison:
            finalists = tuple(_proven(each, proof, comparison, config) for each in finalists)
            finalists = compared_with_default(finalists, comparison)
            recommended, reason = recommend(finalists, comparison, config)
        return SweepResult(
            run_id=run.run_id,
            run_name=run.name,
            experiment_id=run.experiment_id,
            tracking_uri=tracking_uri(),
            config=config,
            space=space_text(space.ranges),
            ranges=space.ranges,
            trials=self.trials,
            finalists=finalists,
            recommended=recommended,
            reason=reason,
            spent=self.spent,
            importance=importance,
            ended=ended,
            comparison=compared,
        )


def outcome(
    config: SweepConfig,
    space: SearchSpace,
    known: Sequence[Trial],
    stored: Mapping[int, TrialRun],
    images: int,
    held_out: int,
    seconds: float,
) -> Outcome:
    """Sum up a search.

    Args:
        config: The sweep's settings.
        space: What was searched.
        known: The trials, by number.
        stored: Their runs.
        images: Training images of an epoch.
        held_out: Images of the validation data.
        seconds: That the search took.
    """
    furthest = max((trial.epochs for trial in known), default=0)
    trained = [trial for trial in known if trial.epochs == furthest > 0 and not trial.failed]
    on_front = front(trained)
    numbers = {trial.number for trial in on_front}
    gain = Objective.of(Choice(metric=config.metric)).gain
    trials = tuple(
        replace(
            _trial(trial, stored[trial.number], config, images, gain(trial.value or 0.0)),
            on_front=trial.number in numbers,
        )
        for trial in known
    )
    finalists = _finalists(config, space, trained, on_front, held_out) if config.finalists else ()
    return Outcome(trials, finalists, _spent(trials, stored, config, images, seconds))


def _trial(
    trial: Trial, stored: TrialRun, config: SweepConfig, images: int, value: float
) -> SweepTrial:
    status: TrialStatus = "stopped"
    if trial.bounded:
        status = "bounded out"
    elif trial.failed or not trial.values:
        status = "failed"
    elif trial.epochs >= config.epochs:
        status = "trained"
    return SweepTrial(
        number=trial.number,
        run_id=stored.run_id,
        settings=trial.settings,
        status=status,
        epochs=trial.epochs,
        value=None if trial.value is None else value,
        curve={epoch: stored.curve[epoch] for epoch in sorted(trial.values)},
        costs={key: stored.metrics[key] for key in _COSTS if key in stored.metrics},
        training_flops=stored.training_flops(trial.epochs, images),
        note=trial.bounded or trial.failed,
        is_default=trial.is_default,
    )


def _finalists(
    config: SweepConfig,
    space: SearchSpace,
    trained: Sequence[Trial],
    on_front: Sequence[Trial],
    held_out: int,
) -> tuple[Finalist, ...]:
    """Return the default and the front, thinned to what could win; nothing where nothing won."""
    is_accuracy = config.metric == keys.VAL_ACCURACY

    def is_distinguishable(one: float, other: float) -> bool:
        if not is_accuracy:
            return False
        variance = (one * (1 - one) + other * (1 - other)) / max(held_out, 1)
        return abs(one - other) > _Z * math.sqrt(max(variance, 0.0))

    chosen = thinned(on_front, config.finalists, is_distinguishable)
    gain = Objective.of(Choice(metric=config.metric)).gain
    finalists = {
        entry: Finalist(entry, trial.number, trial.is_default, searched=gain(trial.value or 0.0))
        for trial in chosen
        for entry in [entry_of(config, trial.settings)]
    }
    default = () if space.defaults is None else (entry_of(config, space.defaults),)
    searched = {trial.number: gain(trial.value or 0.0) for trial in trained if trial.is_default}
    number, value = next(iter(searched.items()), (None, None))
    first = [
        finalists.pop(entry, Finalist(entry, number, True, searched=value)) for entry in default
    ]
    if not chosen:
        return ()
    return (*(replace(each, is_default=True) for each in first), *finalists.values())


def _spent(
    trials: Sequence[SweepTrial],
    stored: Mapping[int, TrialRun],
    config: SweepConfig,
    images: int,
    seconds: float,
) -> Spent:
    bounded = [trial for trial in trials if trial.status == "bounded out"]
    saved = (stored[each.number].training_flops(config.epochs, images) for each in bounded)
    return Spent(
        seconds=seconds,
        flops=sum(trial.training_flops or 0.0 for trial in trials),
        epochs=sum(trial.epochs for trial in trials),
        full_epochs=len(trials) * config.epochs,
        bounded_out=len(bounded),
        bounded_flops=sum(flops or 0.0 for flops in saved),
        stopped=sum(trial.status == "stopped" for trial in trials),
    )


def _proven(
    finalist: Finalist, proof: BenchmarkResult, comparison: Comparison, config: SweepConfig
) -> Finalist:
    runs = {each.run_id for each in proof.trainings if each.model == finalist.entry}
    group = next((g for g in comparison.groups if runs & {run.run_id for run in g.runs}), None)
    if group is None:
        return finalist
    metric, cost = group.metrics.get(comparison.objective.metric), group.metrics.get(config.cost)
    return replace(
        finalist,
        group=group.name,
        proven=metric.mean if metric else None,
        proven_low=metric.ci_low if metric else None,
        proven_high=metric.ci_high if metric else None,
        cost=cost.mean if cost else None,
    )
