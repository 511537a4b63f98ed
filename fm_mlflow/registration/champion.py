"""A verified model against the champion of its registered model, and who else would pass."""

from __future__ import annotations

from contextlib import suppress

from fm_mlflow import keys
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.prose.words import counted, in_row
from fm_mlflow.analysis.records import TrainingRun
from fm_mlflow.errors import InputError
from fm_mlflow.registration.evidence import EVIDENCE, Verified
from fm_mlflow.registration.gates import Contender, check_bounds, check_champion
from fm_mlflow.registration.seeds import over_examples, values_of
from fm_mlflow.results.register import Champion, Gate, RegisteredVersion
from fm_mlflow.settings.registered import RegisterConfig
from fm_mlflow.tracking.candidate import find_training_run, seed_runs
from fm_mlflow.tracking.find_runs import find_runs


def shown_figures(config: RegisterConfig) -> tuple[str, ...]:
    """Return the names of the figures that a model and the champion are shown with."""
    return tuple(dict.fromkeys((config.metric, *EVIDENCE, config.cost)))


def hold_against(
    config: RegisterConfig,
    verified: Verified,
    ours: tuple[TrainingRun, ...],
    champion: RegisteredVersion,
) -> tuple[list[Gate], Champion]:
    """Check the gates against the champion; return them, and the champion.

    Args:
        config: The settings.
        verified: The model.
        ours: All seeds of its configuration.
        champion: The version in use.
    """
    objective = Objective.of(config)
    metric = objective.metric
    names = shown_figures(config)
    figures = {name: value for name in names if (value := champion.figure(name)) is not None}
    digest = champion.tags.get(keys.DATASET_DIGEST)
    model = champion.tags.get(keys.MODEL, "")
    theirs: tuple[TrainingRun, ...] = ()
    # Its evidence stands in its tags. Its run, which may be gone, leads to the other seeds, and
    # stands in for the evidence of a version that somebody registered by hand.
    with suppress(InputError):
        run = find_training_run(champion.run_id or "", metric)
        theirs = seed_runs(run, metric, of_its_benchmark=bool(config.benchmark))
        figures = {**{name: run.metrics[name] for name in names if name in run.metrics}, **figures}
        digest, model = digest or run.data_digest, model or run.model
    own = verified.metrics
    gates = check_champion(
        Contender(
            *(own.get(metric), own.get(config.cost)),
            values_of(ours, metric),
            verified.run.data_digest,
        ),
        Contender(figures.get(metric), figures.get(config.cost), values_of(theirs, metric), digest),
        version=champion.version,
        tolerance=config.tolerance,
        cost=config.cost,
        objective=objective,
        over_examples=over_examples(ours, theirs, objective),
        has_to_gain=config.against_champion == "better",
    )
    return gates, Champion(champion.version, model, champion.run_id, figures)


def who_would_pass(config: RegisterConfig, chosen: TrainingRun, objective: Objective) -> str:
    """Say which other run would keep the bounds: they take no part in the choice.

    Else the run would be chosen for its test score, which then flatters; whoever wants it says so.
    """
    passing = [
        run
        for run in find_runs(config, objective.metric).runs
        if run.version is not None
        and run.model_uri is not None
        and not run.data_set.is_other_than(chosen.data_set)
        and all(gate.passed for gate in check_bounds(config, run.metrics, objective))
    ]
    if not passing:
        return "no other run keeps the bounds by what it logged"
    best = max(passing, key=lambda run: objective.gain(run.metrics[objective.metric]))
    value = in_row(objective.metric, best.metrics[objective.metric])
    return (
        f"{counted(len(passing), 'run')} would keep the bounds by what they logged, the best of "
        f"them {best.run_id} ({best.name}: {objective.title} {value}); --run-id takes it"
    )
