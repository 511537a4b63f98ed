"""Test examples that models got wrong: what they disagree on, and what none has right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fm_mlflow.analysis.comparison import (
    NONE_WRONG,
    Group,
    WrongExample,
    WrongExamples,
    WrongKind,
)
from fm_mlflow.analysis.examples import TestExamples
from fm_mlflow.analysis.records import Predictions, RunDetails

MOST_MODELS = 4
"""Models that are looked at: the best of those with predictions."""

MOST_OF_A_KIND = 12
_MOST_ALIKE = 3


def wrong_examples(
    groups: Sequence[Group],
    details: Mapping[str, RunDetails],
    examples: TestExamples,
    most: int = MOST_OF_A_KIND,
) -> WrongExamples:
    """Choose test examples that models got wrong, the same ones for the same predictions.

    A model has an example right if more than half of its runs have, and of those that have it
    wrong, the most frequent answer counts. Of a kind, those come first in
    which the share of right runs differs most between models, or is least in all; of equals, those
    of which the wrong runs are surest; then by their place in the test set.

    Args:
        groups: The best first.
        details: By run id.
        examples: The runs' predictions, checked against each other.
        most: Examples of a kind.
    """
    looked_at: list[tuple[str, list[Predictions]]] = []
    run_id = ""
    for group in groups:
        known = [
            (run.run_id, predictions)
            for run in group.runs
            if run.run_id in examples.values
            and (predictions := details[run.run_id].predictions) is not None
        ]
        if known and len(looked_at) < MOST_MODELS:
            run_id = run_id or known[0][0]
            looked_at.append((group.name, [predictions for _, predictions in known]))
    if not looked_at:
        return NONE_WRONG
    models = tuple((name, len(runs)) for name, runs in looked_at)
    runs_of = [runs for _, runs in looked_at]
    right = np.array([np.mean([run.correct for run in runs], axis=0) for runs in runs_of])
    sureness = _certainty_of_wrong(runs_of)
    kinds = []
    for title, chosen, strength in _kinds([name for name, _ in models], right):
        positions = np.flatnonzero(chosen)
        order = np.lexsort((positions, -sureness[positions], -strength[positions]))
        if len(positions):
            candidates = (_example(int(at), runs_of) for at in positions[order])
            kinds.append(WrongKind(title, len(positions), tuple(_varied(candidates, most))))
    return WrongExamples(models, examples.count, run_id, tuple(kinds))


def _kinds(
    names: Sequence[str], right: NDArray[np.float64]
) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[np.float64]]]:
    """Yield title, which examples, and how much they are of the kind.

    Args:
        names: Of the models.
        right: Share of the runs that have an example right, shape (models, examples).
    """
    has: NDArray[np.bool_] = right > 0.5
    every, some = np.all(has, axis=0), np.any(has, axis=0)
    spread = right.max(axis=0) - right.min(axis=0)
    if len(names) == 2:
        for at, name in enumerate(names):
            yield f"Only {name} is right", has[at] & ~has[1 - at], spread
    elif len(names) > 2:
        yield "The models disagree", some & ~every, spread
    all_wrong = {1: f"{names[0]} is wrong", 2: "Both are wrong"}.get(len(names), "All are wrong")
    yield all_wrong, ~some, -right.max(axis=0)


def _certainty_of_wrong(runs_of: Sequence[Sequence[Predictions]]) -> NDArray[np.float64]:
    """Return how sure the surest wrong run is of an example, 0 where none is; shape (examples,)."""
    surest = np.zeros(len(runs_of[0][0].label))
    for run in (run for runs in runs_of for run in runs):
        if run.confidence is not None:
            np.maximum(surest, np.where(run.correct, 0, run.confidence), out=surest)
    return surest


def _varied(candidates: Iterable[WrongExample], most: int) -> list[WrongExample]:
    """Take the first, of the same mistake only some, while there are others."""
    taken: list[WrongExample] = []
    left: list[WrongExample] = []
    times: Counter[tuple[int, ...]] = Counter()
    for each in candidates:
        mistake = (each.label, *(said for said, _ in each.said))
        times[mistake] += 1
        (taken if times[mistake] <= _MOST_ALIKE else left).append(each)
        if len(taken) == most:
            break
    return [*taken, *left][:most]


def _example(position: int, runs_of: Sequence[Sequence[Predictions]]) -> WrongExample:
    label = int(runs_of[0][0].label[position])
    said = []
    for runs in runs_of:
        given = Counter(int(run.predicted[position]) for run in runs)
        is_right = 2 * given[label] > len(runs)
        answers = given if is_right else given.keys() - {label}
        most = min(answers, key=lambda each: (-given[each], each))
        said.append((most, given[most]))
    return WrongExample(position, label, tuple(said))
