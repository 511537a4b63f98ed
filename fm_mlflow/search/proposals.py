"""Proposals of settings, by Optuna: a function of the seed, the round and what is known."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from fm_mlflow.errors import InputError
from fm_mlflow.search.fronts import point_of
from fm_mlflow.search.trials import Trial
from fm_mlflow.settings.space import (
    Float,
    Int,
    OneOf,
    Range,
    choice_texts,
    dimensions,
    point_text,
    text_point,
)

if TYPE_CHECKING:
    import optuna

_MOST_ATTEMPTS = 20
"""How often a proposal that was made before is asked for anew."""

_MOST_IMPORTANT = "the importance of settings takes trials of different results"


def check_installed() -> None:
    """Refuse to search without Optuna.

    Raises:
        InputError: It is not installed.
    """
    try:
        import optuna  # noqa: F401
    except ImportError:
        accepted = "an installation with Optuna: pip install 'fm_mlflow[sweep]'"
        raise InputError("sweep", "Optuna is missing", accepted) from None


def propose(
    space: Mapping[str, Range],
    known: Sequence[Trial],
    count: int,
    *,
    seed: int,
    turn: int,
    startup: int,
    sampler: str,
) -> list[dict[str, str]]:
    """Return new settings, as text by name; fewer where the space holds no more.

    Args:
        space: What is searched.
        known: All trials so far; of those that failed, that they exist.
        count: How many at once.
        seed: Of the search.
        turn: Number of the round: each draws random numbers of its own.
        startup: Trials before which nothing is learnt from.
        sampler: `tpe` or `random`.
    """
    import optuna

    with _silence():
        numbers = np.random.SeedSequence([seed, turn]).generate_state(1)
        study = _study(space, known, _sampler(sampler, int(numbers[0]), startup))
        given = _distributions(space)
        seen = {tuple(sorted(trial.settings.items())) for trial in known}
        found: list[dict[str, str]] = []
        for _ in range(count):
            for _ in range(_MOST_ATTEMPTS):
                asked = study.ask(given)
                settings = point_text(space, asked.params)
                identity = tuple(sorted(settings.items()))
                if identity not in seen:
                    seen.add(identity)
                    found.append(settings)
                    break
                study.tell(asked, state=optuna.trial.TrialState.FAIL)
        return found


def importances(space: Mapping[str, Range], known: Sequence[Trial]) -> tuple[dict[str, float], str]:
    """Return how much each setting matters for the metric, as shares; else why it is not known.

    By fANOVA on the trials that were trained: how much of the metric's variance each explains.

    Args:
        space: What was searched.
        known: The trials.
    """
    import optuna

    trained = [trial for trial in known if point_of(trial) is not None]
    given = dimensions(space)
    if len({trial.value for trial in trained}) < 2:
        return {}, _MOST_IMPORTANT
    with _silence():
        study = _study(space, trained, optuna.samplers.RandomSampler(seed=0))
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        shares = optuna.importance.get_param_importances(
            study, evaluator=evaluator, target=lambda trial: float(trial.values[0])
        )
    return {name: float(shares.get(name, 0.0)) for name in given}, ""


def _sampler(name: str, seed: int, startup: int) -> optuna.samplers.BaseSampler:
    import optuna

    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(
        n_startup_trials=startup, seed=seed, multivariate=True, constant_liar=True
    )


def _study(
    space: Mapping[str, Range], known: Sequence[Trial], sampler: optuna.samplers.BaseSampler
) -> optuna.Study:
    import optuna

    study = optuna.create_study(sampler=sampler, directions=["maximize", "minimize"])
    given = _distributions(space)
    values = [trial.value for trial in known if trial.value is not None]
    costs = [trial.cost for trial in known if trial.cost is not None]
    for trial in known:
        point = text_point(space, trial.settings)
        if point is None:  # the default, outside of the space
            continue
        told: dict[str, Any] = {"params": point, "distributions": given}
        if trial.bounded and values:
            told["values"] = (min(values), trial.cost if trial.cost is not None else max(costs))
            told["constraints"] = {"bounds": 1.0}
        elif (at := point_of(trial)) is not None:
            told["values"], told["constraints"] = at, {"bounds": 0.0}
        else:
            told["state"] = optuna.trial.TrialState.FAIL
        study.add_trial(optuna.trial.create_trial(**told))
    return study


def _distributions(space: Mapping[str, Range]) -> dict[str, optuna.distributions.BaseDistribution]:
    from optuna import distributions

    found: dict[str, distributions.BaseDistribution] = {}
    for name, each in dimensions(space).items():
        match each:
            case OneOf():
                found[name] = distributions.CategoricalDistribution(choice_texts(each))
            case Int(low, high, log):
                found[name] = distributions.IntDistribution(low, high, log=log)
            case Float(low, high, log):
                found[name] = distributions.FloatDistribution(low, high, log=log)
    return found


@contextmanager
def _silence() -> Iterator[None]:
    """Keep Optuna's own messages from the user: they speak of studies, which nobody made."""
    log = logging.getLogger("optuna")
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)
