"""The whole comparison, as far as the other files do not look at its parts."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Comparison
from fm_mlflow.analysis.records import Predictions, RunDetails, TrainingRun
from fm_mlflow.analysis.to_json import to_json_dict
from tests.analysis.simulated import compared, correctness, hardness, run, runs, with_predictions

COSTS: dict[str, dict[str, Any]] = {
    "cnn": {
        keys.PARAMETERS_TRAINABLE: 56_714.0,
        keys.FLOPS_INFERENCE: 1_442_332.0,
        keys.FLOPS_TRAINING: 4_147_166.0,
        keys.FLOPS_TRAINING_TOTAL: 5 * 60_000 * 4_147_166.0,
        keys.LATENCY_P50: [0.50, 0.51, 0.52, 0.53, 0.54],
    },
    "mlp": {
        keys.PARAMETERS_TRAINABLE: 235_146.0,
        keys.FLOPS_INFERENCE: 469_948.0,
        keys.FLOPS_TRAINING: 1_052_889.0,
        keys.FLOPS_TRAINING_TOTAL: 5 * 60_000 * 1_052_889.0,
        keys.LATENCY_P50: [0.30, 0.31, 0.32, 0.33, 0.34],
    },
}
LAYERS = {"cnn": ("Conv2D", "Dense"), "mlp": ("Dense",)}


def store(
    levels: dict[str, float], seeds: int = 5, images: int = 2000
) -> tuple[list[TrainingRun], dict[str, RunDetails]]:
    """Runs of mlp and cnn with all that a training logs."""
    generator = np.random.default_rng(2)
    hard = hardness(generator, images)
    each: list[TrainingRun] = []
    details: dict[str, RunDetails] = {}
    for model, level in levels.items():
        table = correctness(generator, level + hard, seeds, images)
        made, known = with_predictions({model: table}, metrics=COSTS[model])
        each += made
        for one in made:
            accuracy = one.metrics[keys.TEST_ACCURACY]
            curve = [(epoch, accuracy - 0.02 * (5 - epoch)) for epoch in range(1, 6)]
            details[one.run_id] = replace(
                known[one.run_id],
                curves={
                    keys.VAL_ACCURACY: curve,
                    keys.EPOCH_SECONDS: [(epoch, 2.0) for epoch in range(1, 6)],
                },
                class_names=("right", "wrong", "unused"),
                layer_types=LAYERS[model],
            )
    return each, details


def answers(comparison: Comparison) -> list[str]:
    return [answer.answer for answer in comparison.answers]


@pytest.fixture(scope="module")
def cnn_wins() -> Comparison:
    return compared(*store({"cnn": 3.5, "mlp": 2.7}))


@pytest.fixture(scope="module")
def mlp_wins() -> Comparison:
    return compared(*store({"cnn": 2.7, "mlp": 3.5}))


def test_the_summary_says_what_to_take_and_on_what_evidence(cnn_wins: Comparison) -> None:
    gap = 100 * cnn_wins.verdicts[0].difference
    assert cnn_wins.headline == (
        f"Take cnn: {gap:.1f} points more accurate than mlp, at 3.1 times the FLOPs per prediction."
    )
    assert cnn_wins.evidence.startswith("Test accuracy 0.9")
    assert "; 95% interval of the difference " in cnn_wins.evidence
    assert cnn_wins.evidence.endswith("; exact permutation test, p = 0.008; 5 seeds each.")
    assert cnn_wins.summary == f"{cnn_wins.headline} {cnn_wins.evidence}"


def test_the_questions_are_answered_from_the_data(cnn_wins: Comparison) -> None:
    accurate, parameters, trade_off, why = answers(cnn_wins)
    assert accurate.startswith("cnn with a test accuracy of 0.9")
    assert accurate.endswith(" (mean of 5 runs) is the most accurate of 2 models, better than mlp.")
    assert parameters == (
        "cnn, with 56,714 trainable parameters; mlp has 235,146, 4.15 times as many."
    )
    assert "cnn has 3.94 times the FLOPs per training example, 3.07 times the FLOPs" in trade_off
    assert "mlp has 4.15 times the trainable parameters." in trade_off
    assert "Which of them is cheaper depends on the cost that one looks at." in trade_off
    assert "Not compared: peak memory, size to predict and fit time." in trade_off
    assert why.startswith("In these runs cnn is more accurate than mlp by 0.0")
    assert "A prediction of cnn takes 25.4 FLOPs a parameter, one of mlp 2.0" in why
    assert "4.15 times fewer parameters" in why
    assert "gains most on right (+0.0" in why


def test_nearly_the_same_is_no_trade_off() -> None:
    memory = [1400.0, 1400.1, 1400.2, 1400.3, 1400.4]
    each = [
        *runs("a", [0.90, 0.91, 0.92, 0.93, 0.94], metrics={keys.MEMORY_PEAK: memory}),
        *runs("b", [0.90, 0.91, 0.92, 0.93, 0.94], metrics={keys.MEMORY_PEAK: [1398.0] * 5}),
    ]
    comparison = compared(each)
    assert comparison.verdicts[1].verdict == "b_better"
    trade_off = answers(comparison)[2]
    assert trade_off.startswith(
        "a and b score the same. The same, nearly so, or not told apart: peak memory."
    )


def test_if_the_mlp_wins_it_says_so(mlp_wins: Comparison) -> None:
    accurate, _, trade_off, why = answers(mlp_wins)
    assert mlp_wins.best.model == "mlp"
    assert accurate.endswith("better than cnn.")
    assert trade_off.startswith("mlp is more accurate than cnn by 0.0")
    assert why.startswith("In these runs it is not: mlp is more accurate than cnn.")


def test_if_nobody_wins_it_says_so() -> None:
    comparison = compared(*store({"cnn": 3.0, "mlp": 3.0}, images=500))
    accurate, _, trade_off, why = answers(comparison)
    assert "but not distinguishable from" in accurate
    assert "not shown to be more than chance" in trade_off
    assert why.startswith("In these runs it is not shown to be: cnn and mlp are not disting")
    # The more accurate is not shown to be; the cheaper is chosen.
    assert comparison.best.model == "mlp"
    assert comparison.best.contenders in {("cnn", "mlp"), ("mlp", "cnn")}


def test_models_of_which_nothing_is_known() -> None:
    comparison = compared([*runs("a", [0.9, 0.91]), *runs("b", [0.8, 0.81])])
    _, parameters, _, why = answers(comparison)
    assert parameters == "No run counted its parameters."
    assert why.startswith("No model in this comparison is known to be convolutional")
    assert comparison.by_class == ()
    assert comparison.targets == ()
    assert comparison.target is None


@pytest.mark.parametrize(
    ("each", "summary"),
    [
        ([], "Take none. No model has a test accuracy."),
        (
            [run("a")],
            "Take a: there is no other model to compare it with. Test accuracy 0.9000, one run.",
        ),
        (
            runs("a", [0.9, 0.92]),
            "Take a: there is no other model to compare it with. Test accuracy 0.9100, mean of 2 "
            "runs.",
        ),
        (runs("a", [None]), "Take none. No model has a test accuracy."),
    ],
)
def test_little_to_compare(each: list[TrainingRun], summary: str) -> None:
    comparison = compared(each)
    assert comparison.summary == summary
    assert comparison.verdicts == ()
    assert len(comparison.answers) == 4
    json.dumps(to_json_dict(comparison), allow_nan=False)


def test_many_models() -> None:
    each = [
        one
        for number in range(12)
        for one in runs(f"m{number:02}", [0.9 - number / 50 + seed / 1000 for seed in range(8)])
    ]
    comparison = compared(each)
    assert comparison.headline == (
        "Take m00: 2.0 points more accurate than m01, the next of 12 models; FLOPs per prediction "
        "not measured."
    )
    assert answers(comparison)[0] == (
        "m00 with a test accuracy of 0.9035 (mean of 8 runs) is the most accurate of 10 models, "
        "better than each."
    )
    assert len([v for v in comparison.verdicts if v.metric == keys.TEST_ACCURACY]) == 45
    assert [group.detailed for group in comparison.groups] == [True] * 10 + [False] * 2


def test_nothing_depends_on_the_order_of_runs(cnn_wins: Comparison) -> None:
    each, details = store({"cnn": 3.5, "mlp": 2.7})
    for seed in range(3):
        assert compared(random.Random(seed).sample(each, len(each)), details) == cnn_wins


def test_renaming_models_renames_them() -> None:
    each, details = store({"cnn": 3.5, "mlp": 2.7})
    renamed = [replace(one, model={"cnn": "zzz", "mlp": "aaa"}[one.model]) for one in each]
    comparison = compared(renamed, details)
    assert comparison.best.model == "zzz"
    assert comparison.verdicts[0].ci_low == pytest.approx(
        compared(each, details).verdicts[0].ci_low, abs=0.001
    )


def test_cost_to_reach_an_accuracy(cnn_wins: Comparison) -> None:
    accuracies = [v for g in cnn_wins.groups for v in g.metrics[keys.TEST_ACCURACY].values]
    assert cnn_wins.target == math.floor(100 * min(accuracies)) / 100
    for target in cnn_wins.targets:
        assert target.reached == target.runs == 5
        assert target.epochs is not None
        assert target.seconds is not None
        assert target.flops is not None
        assert target.seconds.mean == pytest.approx(2 * target.epochs.mean)
        total = COSTS[target.model][keys.FLOPS_TRAINING_TOTAL]
        assert target.flops.mean == pytest.approx(total / 5 * target.epochs.mean)


def test_a_target_that_some_miss() -> None:
    each = runs("a", [0.9, 0.9, 0.9])
    curves = {
        "a-0": [(1, 0.80), (2, 0.85), (3, 0.84)],
        "a-1": [(1, 0.85), (2, 0.86), (3, 0.90)],
        "a-2": [(1, 0.70), (2, 0.71), (3, 0.72)],
    }
    details = {
        name: RunDetails(curves={keys.VAL_ACCURACY: curve}) for name, curve in curves.items()
    }
    (target,) = compared(each, details, target_accuracy=0.85).targets
    assert (target.reached, target.runs) == (2, 3)
    assert target.epochs is not None
    assert target.epochs.values == (2.0, 1.0)
    assert target.seconds is target.flops is None
    assert compared(each, details).target == 0.72
    (nobody,) = compared(each, details, target_accuracy=0.99).targets
    assert nobody.reached == 0
    assert nobody.epochs is None


def test_classes() -> None:
    label = np.array([0, 0, 1, 1, 1])
    each = runs("a", [0.6, 0.8])
    details = {
        "a-0": RunDetails(predictions=Predictions(label, np.array([0, 1, 1, 1, 0]))),
        "a-1": RunDetails(predictions=Predictions(label, np.array([0, 0, 1, 1, 3]))),
    }
    comparison = compared(each, details)
    (found,) = comparison.by_class
    assert comparison.class_names == ("0", "1", "2", "3")
    assert found.runs == 2
    assert found.accuracy[:2] == (3 / 4, 4 / 6)
    assert all(math.isnan(value) for value in found.accuracy[2:])
    assert found.confusion == ((3, 1, 0, 0), (1, 4, 0, 1), (0,) * 4, (0,) * 4)
    assert to_json_dict(comparison)["by_class"][0]["accuracy"][2] is None


def test_details_reach_the_groups() -> None:
    each = runs("a", [0.9], metrics={keys.FLOPS_INFERENCE: 5.0})
    curve = [(1, 0.5)]
    details = {
        "a-0": RunDetails(
            curves={keys.LOSS: curve},
            measurements={
                keys.LATENCY_P50: {"value": None, "reason": "the call failed"},
                keys.FLOPS_INFERENCE: {"value": 5.0, "reason": None},
            },
        )
    }
    comparison = compared(each, details)
    (group,) = comparison.groups
    assert group.curves == ({keys.LOSS: curve},)
    assert group.missing == {keys.LATENCY_P50: "the call failed"}
    front = next(f for f in comparison.fronts if f.metric == keys.LATENCY_P50)
    assert front.left_out == {"a": "the call failed"}


def test_json_is_what_the_contract_says(cnn_wins: Comparison) -> None:
    document = json.loads(json.dumps(to_json_dict(cnn_wins), allow_nan=False))
    model = document["models"][0]
    assert model["model"] == "cnn"
    assert model["run_ids"] == [f"cnn-{seed}" for seed in range(5)]
    assert model["config"] == {"epochs": "5", "validation_split": "0"}
    assert set(model["metrics"][keys.TEST_ACCURACY]) == {
        *("n", "mean", "sd", "ci_low", "ci_high", "values")
    }
    assert {
        *("a", "b", "metric", "difference", "ci_low", "ci_high", "p_value", "test", "verdict")
    } <= set(document["verdicts"][0])
    assert document["pareto"][keys.FLOPS_INFERENCE] == ["cnn", "mlp"]
    assert {"model", "run_id", "reason"} <= set(document["best"])
    assert document["warnings"] == list(cnn_wins.warnings)
    again = compared([run("a", 0, run_id="1"), run("a", 0, run_id="2")])
    assert to_json_dict(again)["skipped"] == [
        {
            "run_id": "1",
            "name": "a, seed 0",
            "reason": "same seed as run 2; not independent evidence",
        }
    ]
