"""The decision: the most accurate; of those not distinguishable from it, the cheapest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fm_mlflow import keys
from fm_mlflow.analysis.choice import choose_best
from fm_mlflow.analysis.comparison import Best
from fm_mlflow.analysis.examples import TestExamples
from fm_mlflow.analysis.grouping import group_runs
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.records import TrainingRun
from fm_mlflow.analysis.verdicts import objective_verdicts
from fm_mlflow.settings.selection import Choice
from tests.analysis.simulated import runs

FLOPS = str(keys.FLOPS_INFERENCE)
LATENCY = str(keys.LATENCY_P50)


def five(accuracy: float) -> list[float]:
    return [accuracy + seed / 1000 for seed in range(5)]


def best(*each: list[TrainingRun], **settings: Any) -> Best:
    choice = Choice(**settings)
    objective = Objective.of(choice)
    groups = group_runs([run for some in each for run in some], 10, choice, objective).groups
    verdicts = objective_verdicts(groups, TestExamples(0, {}), objective, 0.005)
    return choose_best(groups, verdicts, choice, objective)


def test_the_most_accurate_where_it_is_distinguishable() -> None:
    decision = best(
        runs("cnn", five(0.90), metrics={FLOPS: 30.0}),
        runs("mlp", five(0.87), metrics={FLOPS: 10.0}),
    )
    assert decision.model == "cnn"
    assert decision.contenders == ("cnn",)
    assert decision.run_id == "cnn-4"
    assert decision.reason == (
        "The most accurate of 2 that were compared pair by pair, and distinguishable from every "
        "other: test accuracy 0.9020 (mean of 5 runs). Run cnn-4 of it has the highest test "
        "accuracy (0.9040); chosen by the test set, this figure flatters: expect 0.9020."
    )


def test_the_cheapest_of_those_that_cannot_be_told_apart() -> None:
    each = (
        runs("big", five(0.901), metrics={FLOPS: 30.0, LATENCY: [1.0] * 5}),
        runs("small", five(0.900), metrics={FLOPS: 10.0, LATENCY: [2.0] * 5}),
        runs("bad", five(0.800), metrics={FLOPS: 1.0, LATENCY: [0.1] * 5}),
    )
    decision = best(*each)
    assert decision.model == "small"
    assert decision.contenders == ("big", "small")
    assert "it is the cheapest of them by FLOPs per prediction (10)" in decision.reason
    assert best(*each, cost=LATENCY).model == "big"


def test_too_few_seeds_are_owned_up_to() -> None:
    decision = best(
        runs("big", [0.95, 0.95], metrics={FLOPS: 30.0}),
        runs("small", [0.8, 0.8], metrics={FLOPS: 10.0}),
    )
    assert decision.model == "small"
    assert "with too few seeds to tell" in decision.reason


def test_a_cost_that_lacks_or_does_not_compare_decides_nothing() -> None:
    unmeasured = best(runs("a", five(0.901)), runs("b", five(0.9)))
    assert unmeasured.model == "a"
    assert "is not measured in any" in unmeasured.reason

    partly = best(runs("a", five(0.901)), runs("b", five(0.9), metrics={FLOPS: 1.0}))
    assert partly.model == "b"
    assert "which is not measured in a" in partly.reason

    elsewhere = best(
        runs("a", five(0.901), metrics={LATENCY: [2.0] * 5}),
        runs("b", five(0.9), metrics={LATENCY: [1.0] * 5}, machine={"cpu": "other"}),
        cost=LATENCY,
    )
    assert elsewhere.model == "a"
    assert "cannot decide, because it depends on the machine" in elsewhere.reason

    tied = best(
        runs("a", five(0.901), metrics={FLOPS: 1.0}), runs("b", five(0.9), metrics={FLOPS: 1.0})
    )
    assert tied.model == "a"


def test_bounds_exclude() -> None:
    each = (
        runs("cnn", five(0.95), metrics={FLOPS: 1_442_332.0}),
        runs("mlp", five(0.9), metrics={FLOPS: 469_948.0}),
        runs("unknown", five(0.92)),
    )
    decision = best(*each, max_flops=500_000)
    assert decision.model == "mlp"
    assert decision.excluded == {
        "cnn": "FLOPs per prediction 1,442,332, max_flops is 500,000",
        "unknown": "FLOPs per prediction not measured, max_flops is 500,000",
    }
    nobody = best(*each, max_flops=1)
    assert nobody.model is nobody.run_id is None
    assert nobody.reason == "Every model exceeds a bound (3 models)."


def test_a_bound_that_excludes_all_of_the_top_leaves_the_next() -> None:
    each = [
        run
        for number in range(14)
        for run in runs(f"m{number}", five(0.95 - number / 50), metrics={FLOPS: 15.0 - number})
    ]
    assert best(each, max_flops=2).model == "m13"


def test_the_run_is_chosen_by_held_out_images_where_there_are_some() -> None:
    accuracies = [0.90, 0.91, 0.92]
    validation = {keys.VAL_ACCURACY: [0.95, 0.94, 0.93]}
    decision = best(runs("cnn", accuracies, metrics=validation, held_out=True))
    assert decision.run_id == "cnn-0"
    assert "highest accuracy on the held-out validation images (0.9500)." in decision.reason
    # Without, the validation accuracy is that of the test set.
    assert best(runs("cnn", accuracies, metrics=validation)).run_id == "cnn-2"
    # A script may call its test set held out.
    same = {keys.VAL_ACCURACY: accuracies}
    assert best(runs("cnn", accuracies, metrics=same, held_out=True)).run_id == "cnn-2"
    assert best(runs("cnn", [0.9])).reason.endswith("Run cnn-0 is its only one.")


def test_nothing_to_choose_from() -> None:
    assert best().model is None
    assert best(runs("a", [None])).reason == "No model has a test accuracy."


def test_what_is_worse_than_a_contender_is_none() -> None:
    # A design gives a model that is worse than another no more seeds: its other pairs stay open.
    each = (
        runs("big", five(0.901), metrics={FLOPS: 30.0}),
        runs("small", five(0.900), metrics={FLOPS: 10.0}),
        runs("bad", five(0.800), metrics={FLOPS: 1.0}),
    )
    objective = Objective.of(Choice())
    groups = group_runs([run for some in each for run in some], 10, Choice(), objective).groups
    verdicts = [
        replace(verdict, verdict="not_distinguishable") if pair == {"big", "bad"} else verdict
        for verdict in objective_verdicts(groups, TestExamples(0, {}), objective, 0.005)
        if (pair := {verdict.a, verdict.b})
    ]
    decision = choose_best(groups, verdicts, Choice(), objective)
    assert decision.model == "small"
    assert decision.contenders == ("big", "small")
