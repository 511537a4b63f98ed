"""Energy as a cost: weighed where runs have it, not spoken of where none has."""

from __future__ import annotations

from typing import Any

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Comparison
from fm_mlflow.analysis.records import TrainingRun
from fm_mlflow.analysis.to_json import to_json_text
from tests.analysis.simulated import compared, runs

ENERGY = str(keys.ENERGY_TRAINING)
SAME = [0.90, 0.91, 0.92]


def both(**of_each: Any) -> list[TrainingRun]:
    a, b = ({"metrics": {ENERGY: [each, each + 1, each + 2]}} for each in (100.0, 300.0))
    return [*runs("frugal", SAME, **a, **of_each), *runs("hungry", SAME, **b, **of_each)]


def pair(comparison: Comparison) -> Any:
    (found,) = (each for each in comparison.verdicts if each.metric == ENERGY)
    return found


def test_energy_decides_between_equals() -> None:
    found = compared(both(), cost=ENERGY)
    assert found.best.model == "frugal"
    assert "cheapest of them by energy to train (101.0 J)" in found.best.reason
    assert pair(found).verdict == "a_better"
    assert round(pair(found).ratio, 2) == round((100 * 101 * 102 / 300 / 301 / 302) ** (1 / 3), 2)
    assert next(front for front in found.fronts if front.metric == ENERGY).on_front
    assert "2.98 times the energy to train" in next(
        each.answer for each in found.answers if "energy" in each.answer
    )


def test_what_other_trainings_drew_is_not_a_models() -> None:
    found = compared(both(jobs=2), cost=ENERGY)
    reason = "it is of the whole machine, and up to 2 trainings ran there at a time"
    assert pair(found).verdict == "not_distinguishable"
    assert reason in pair(found).words
    assert reason in found.best.reason
    assert next(front for front in found.fronts if front.metric == ENERGY).reason == reason


def test_where_no_run_has_it_a_comparison_does_not_speak_of_it() -> None:
    found = compared([*runs("a", SAME), *runs("b", SAME)])
    assert "energy" not in to_json_text(found).lower()
    one = compared([*both()[:3], *runs("b", SAME)])
    (front,) = (each for each in one.fronts if each.metric == ENERGY)
    assert front.left_out == {"b": "not measured"}
    assert not [each for each in one.fronts if each.metric == keys.ENERGY_GPU_TRAINING]
