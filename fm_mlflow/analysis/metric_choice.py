"""What models may be compared by: metrics of data that they were not trained on."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable

from fm_mlflow import keys
from fm_mlflow.analysis.objective import less_is_better
from fm_mlflow.analysis.prose.words import counted
from fm_mlflow.analysis.records import TrainingRun
from fm_mlflow.settings.selection import (
    OTHER_DATA,
    USER_PREFIX,
    is_of_other_data,
    on_other_data,
)

_UNITS_OF_RESULTS = ("fraction", "nats", keys.TEST_MAE.unit)
_MOST_NAMES = 8
_TIMES = ("seconds", "time", "_ms", "_s", "duration", "latency")


def is_of_training(metric: str, run: TrainingRun) -> bool:
    """Tell whether a run is known to have a metric of the data that it was trained on.

    It is where the run has the same metric of other data, as Keras names it.
    """
    if is_of_other_data(metric):
        return False
    is_ours = run.version is not None and metric in (keys.LOSS, keys.ACCURACY)
    return is_ours or not run.metrics.keys().isdisjoint(on_other_data(metric))


def comparable(logged: Iterable[str]) -> list[str]:
    """Return the metrics that a run is compared by, the most telling first.

    Those of the test set before those of the validation data; accuracy, other scores, losses.
    """

    def rank(metric: str) -> tuple[int, bool, bool]:
        is_accuracy = metric in (keys.TEST_ACCURACY, keys.VAL_ACCURACY)
        return not _is_of_test_set(metric), metric.endswith(keys.LOSS), not is_accuracy

    return sorted(filter(is_of_other_data, logged), key=rank)


def only_metric(runs: Iterable[TrainingRun]) -> str | None:
    """Return the score of the test set that runs have beside losses, if they have one alone.

    Without any it is their only loss. None where a person has to choose: among several, or where
    a name does not say which direction is better.
    """
    names = sorted({name for run in runs for name in run.metrics if _is_of_test_set(name)})
    names = [name for name in names if not name.endswith(_TIMES)]
    found = [name for name in names if not name.endswith(keys.LOSS)] or names
    is_one = len(found) == 1 and less_is_better(found[0]) is not None
    return found[0] if is_one else None


def suggested(metric: str, others: Counter[str]) -> str:
    """Name the metrics that runs have instead: what is spelt alike, then what tells most.

    Costs are left out, and metrics of the training data that are there on other data, too; in
    place of one that runs have, only those that are known to be of other data.

    Args:
        metric: What was asked for.
        others: In how many runs each is, by name.
    """

    def is_elsewhere(name: str) -> bool:
        return not others.keys().isdisjoint(on_other_data(name))

    costs = {key for key in keys.all_keys() if key.is_metric and key.unit not in _UNITS_OF_RESULTS}
    names = [name for name, _ in sorted(others.items(), key=lambda each: (-each[1], each[0]))]
    results = [
        name
        for name in (*comparable(names), *names)
        if name not in costs
        and not name.startswith("system/")
        and (is_of_other_data(name) or not (metric in others or is_elsewhere(name)))
    ]
    same = [name for name in on_other_data(metric) if name in results]
    alike = difflib.get_close_matches(metric, results, _MOST_NAMES)
    named = list(dict.fromkeys([*same, *alike, *results]))[:_MOST_NAMES]
    return ", ".join(f"{name} ({counted(others[name], 'run')})" for name in named)


def _is_of_test_set(metric: str) -> bool:
    return metric.removeprefix(USER_PREFIX).startswith(OTHER_DATA[0])
