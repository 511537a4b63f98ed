"""Which wrong test examples are shown: those that tell most, the same ones every time."""

from __future__ import annotations

import numpy as np
import pytest

from fm_mlflow.analysis.comparison import NONE_WRONG, WrongExamples
from fm_mlflow.analysis.records import Predictions, RunDetails
from tests.analysis.simulated import compared, runs

TRUE = np.array([0, 1, 2, 0, 1, 2, 0, 1])
Said = list[tuple[list[int], list[float]]]
"""Of each run of a model: the class it gives each example, and how sure it is."""


def wrong(models: dict[str, Said]) -> WrongExamples:
    each, details = [], {}
    for model, said in models.items():
        made = runs(model, [float(np.mean(np.array(classes) == TRUE)) for classes, _ in said])
        each += made
        for run, (classes, sureness) in zip(made, said, strict=True):
            confidence = np.array(sureness, np.float32)
            predictions = Predictions(TRUE, np.array(classes), confidence)
            details[run.run_id] = RunDetails(predictions=predictions)
    return compared(each, details).wrong


def sure(**of: float) -> list[float]:
    return [of.get(f"at{position}", 0.5) for position in range(len(TRUE))]


def test_two_models_who_is_right_and_what_nobody_knows() -> None:
    found = wrong(
        {
            "a": [([0, 1, 2, 0, 1, 0, 1, 1], sure())],
            "b": [([0, 0, 1, 2, 1, 2, 2, 1], sure(at2=0.7, at1=0.9))],
        }
    )
    assert (found.models, found.test_set, found.run_id) == ((("a", 1), ("b", 1)), 8, "a-0")
    shown = {kind.title: [each.position for each in kind.examples] for kind in found.kinds}
    assert shown == {
        "Only a is right": [1, 2, 3],  # the surest mistake first
        "Only b is right": [5],
        "Both are wrong": [6],
    }
    assert [kind.count for kind in found.kinds] == [3, 1, 1]
    assert found.kinds[2].examples[0].said == ((1, 1), (2, 1))


def test_runs_that_agree_come_before_sureness() -> None:
    right = [0, 1, 2, 0, 1, 2, 0, 1]
    found = wrong(
        {
            "a": [(right, sure())] * 3,
            "b": [
                ([1, 2, *right[2:]], sure(at1=0.99)),
                ([1, 2, *right[2:]], sure()),
                ([1, *right[1:]], sure()),
            ],
        }
    )
    (only_a,) = found.kinds
    assert [each.position for each in only_a.examples] == [0, 1]
    assert only_a.examples[1].said == ((1, 3), (2, 2))  # class and how many runs say it


def test_half_of_the_runs_are_not_most() -> None:
    right = [0, 1, 2, 0, 1, 2, 0, 1]
    found = wrong({"a": [(right, sure()), ([2, *right[1:]], sure())]})
    (kind,) = found.kinds
    assert (kind.title, kind.count) == ("a is wrong", 1)
    assert kind.examples[0].said == ((2, 1),)  # what is wrong in it


def test_more_than_two_models_disagree() -> None:
    right = [0, 1, 2, 0, 1, 2, 0, 1]
    found = wrong(
        {
            "a": [(right, sure())],
            "b": [([*right[:7], 2], sure())],
            "c": [([1, *right[1:7], 0], sure())],
        }
    )
    assert [(kind.title, kind.count) for kind in found.kinds] == [("The models disagree", 2)]


def test_of_the_same_mistake_not_all_are_shown_first() -> None:
    label = np.zeros(60, np.int64)
    said = np.ones(60, np.int64)
    said[50:] = 2
    (run,) = runs("a", [0.0])
    sureness = np.linspace(1, 0.5, 60, dtype=np.float32)
    details = {run.run_id: RunDetails(predictions=Predictions(label, said, sureness))}
    (kind,) = compared([run], details).wrong.kinds
    assert [each.position for each in kind.examples] == [0, 1, 2, 50, 51, 52, 3, 4, 5, 6, 7, 8]
    assert kind.count == 60


@pytest.mark.parametrize("details", [{}, {"a-0": RunDetails()}])
def test_without_predictions_nothing_is_shown(details: dict[str, RunDetails]) -> None:
    assert compared(runs("a", [0.5]), details).wrong == NONE_WRONG


def test_predictions_without_confidence_go_by_position() -> None:
    (run,) = runs("a", [0.75])
    said = np.array([0, 1, 0, 0, 1, 0, 0, 1])
    details = {run.run_id: RunDetails(predictions=Predictions(TRUE, said))}
    (kind,) = compared([run], details).wrong.kinds
    assert [each.position for each in kind.examples] == [2, 5]
