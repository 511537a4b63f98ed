"""Comparisons by another metric than the accuracy: errors of models whose truth is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Comparison
from fm_mlflow.analysis.records import ExampleErrors, RunDetails
from fm_mlflow.analysis.statistics import resampling
from tests.analysis.simulated import compared, errors, run, runs, with_errors

FLOPS = str(keys.FLOPS_INFERENCE)
MAE = "test_mae"


def by_errors(
    metric: str = MAE, seeds: int = 5, scale: float = 1.3, examples: int = 500, seed: int = 1
) -> Comparison:
    """Two models, of which the first has the smaller errors."""
    random = np.random.default_rng(seed)
    tables = {
        "a": errors(random, seeds, examples),
        "b": errors(random, seeds, examples, scale),
    }
    each, details = with_errors(metric, tables, **{FLOPS: 10.0})
    return compared(each, details, metric=metric)


@pytest.mark.parametrize("metric", [MAE, "test_mse", "test_rmse", "val_mae"])
def test_less_of_an_error_is_better(metric: str) -> None:
    comparison = by_errors(metric)
    (verdict,) = (each for each in comparison.verdicts if each.metric == metric)
    assert (verdict.a, verdict.b, verdict.verdict) == ("a", "b", "a_better")
    assert verdict.difference < 0
    assert verdict.ci_high is not None
    assert verdict.ci_high < 0
    assert verdict.interval == "over seeds and test examples, both resampled"
    assert verdict.probability_of_improvement == 1
    assert verdict.words.startswith(f"In {metric}, a is better than b: ")
    assert comparison.best.model == "a"
    run_ids = {r.run_id: r.metrics[metric] for g in comparison.groups for r in g.runs}
    assert run_ids[comparison.best.run_id or ""] == min(run_ids.values())
    assert f"lowest {metric}" in comparison.best.reason
    assert comparison.headline.startswith(f"Take a: its {metric} is ")
    assert comparison.headline.endswith(" lower than b's, at the same FLOPs per prediction.")
    assert [answer.question for answer in comparison.answers] == [
        f"Which model is better by {metric}?",
        "Which model has fewer parameters?",
        "What is the trade-off between them?",
    ]
    text = f"{comparison.answers} {comparison.summary} {comparison.best} {comparison.warnings}"
    assert "accura" not in text
    assert "image" not in text


def test_more_is_better_where_that_is_asked_for() -> None:
    each, details = with_errors(MAE, {"a": np.ones((5, 9)), "b": np.full((5, 9), 2.0)})
    comparison = compared(each, details, metric=MAE, larger_is_better=True)
    assert comparison.best.model == "b"
    assert comparison.warnings[0] == (
        "More of test_mae is taken to be better, as was asked for; of metrics with such a name "
        "less is."
    )


def test_the_interval_is_that_of_independent_examples_and_seeds() -> None:
    random = np.random.default_rng(3)
    tables = {"a": errors(random, 5, 400), "b": errors(random, 7, 400)}
    each, details = with_errors(MAE, tables)
    (verdict,) = (v for v in compared(each, details, metric=MAE).verdicts if v.metric == MAE)
    by_example = np.var(tables["a"].mean(axis=0) - tables["b"].mean(axis=0)) / 400
    by_seed = [np.var(table.mean(axis=1), ddof=1) / len(table) for table in tables.values()]
    error = math.sqrt(by_example + sum(by_seed))
    parts = zip([by_example, *by_seed], [399, 4, 6], strict=True)
    degrees = error**4 / sum(part**2 / freedom for part, freedom in parts)
    assert verdict.ci_low is not None
    assert verdict.ci_high is not None
    half = (verdict.ci_high - verdict.ci_low) / 2
    assert half == pytest.approx(stats.t.ppf(0.975, degrees) * error, rel=0.05)


def test_single_models_are_compared_by_example() -> None:
    random = np.random.default_rng(2)
    a, b = errors(random, 1, 300), errors(random, 1, 300, 1.1)
    each, details = with_errors(MAE, {"a": a, "b": b})
    comparison = compared(each, details, metric=MAE)
    (verdict,) = (v for v in comparison.verdicts if v.metric == MAE)
    expected = stats.ttest_rel(a[0], b[0])
    assert verdict.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    sign = 1 if verdict.a == "a" else -1
    ends = sorted((sign * interval.low, sign * interval.high))
    assert [verdict.ci_low, verdict.ci_high] == pytest.approx(ends)
    assert verdict.test == "paired t-test over test examples"
    assert "the one run of" in verdict.words
    assert verdict.words.endswith("of the architectures that says nothing, 4 seeds each could.")


@pytest.mark.thorough
def test_of_a_root_single_models_have_the_interval_of_resamples() -> None:
    random = np.random.default_rng(2)
    tables = {"a": errors(random, 1, 1000), "b": errors(random, 1, 1000, 1.2)}
    each, details = with_errors("test_rmse", tables)
    (verdict,) = (v for v in compared(each, details, metric="test_rmse").verdicts[:1])
    picks = random.integers(1000, size=(2000, 1000))
    roots = [np.sqrt((table[0] ** 2)[picks].mean(axis=1)) for table in tables.values()]
    assert verdict.ci_low is not None
    assert verdict.ci_high is not None
    half = (verdict.ci_high - verdict.ci_low) / 2
    assert half == pytest.approx(1.96 * float(np.std(roots[0] - roots[1])), rel=0.1)
    squares = stats.ttest_rel(tables["a"][0] ** 2, tables["b"][0] ** 2)
    assert verdict.p_value == pytest.approx(squares.pvalue)


@pytest.mark.thorough
def test_equal_models_are_called_different_in_at_most_5_percent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resampling, "_RESAMPLES", 500)
    random = np.random.default_rng(4)
    stores = 100
    different = 0
    for _ in range(stores):
        each, details = with_errors(MAE, {m: errors(random, 5, 300) for m in "ab"})
        (verdict,) = (v for v in compared(each, details, metric=MAE).verdicts if v.metric == MAE)
        different += verdict.is_shown
    assert different <= 0.05 * stores


def test_predictions_that_do_not_give_what_was_logged_are_not_used() -> None:
    each, details = with_errors(MAE, {m: errors(np.random.default_rng(1), 5, 50) for m in "ab"})
    known = details["a-0"].errors
    assert known is not None
    damaged = {**details, "a-0": RunDetails(errors=ExampleErrors(known.values * 2, known.truth))}
    warnings = compared(each, damaged, metric=MAE).warnings
    assert any(w.startswith("Run a-0 logged test_mae that the stored pred") for w in warnings)
    other = {**details, "a-0": RunDetails(errors=replace(known, truth=b"other"))}
    warnings = compared(each, other, metric=MAE).warnings
    assert any(w.startswith("Run a-0 predicted other test examples, or in") for w in warnings)


def test_a_metric_of_other_data_is_compared_over_seeds_alone() -> None:
    tables = {model: errors(np.random.default_rng(1), 5, 50) for model in "ab"}
    each, details = with_errors(MAE, tables)
    validated = [replace(r, metrics={"val_mae": r.metrics[MAE] * 1.1}) for r in each]
    comparison = compared(validated, details, metric="val_mae")
    assert comparison.verdicts[0].interval == "over seeds alone, Welch's t"
    assert comparison.warnings == (
        "No stored predictions give val_mae: intervals there count the choice of seeds as chance, "
        "not that of test examples.",
        "No run of a and b measured any cost.",
    )


def test_runs_of_others_lack_things_once() -> None:
    each = [
        r
        for model in "abc"
        for r in runs(
            model,
            [None] * 5,
            metrics={MAE: [ord(model) + seed / 10 for seed in range(5)]},
            version=None,
            machine={},
            data_digest=None,
        )
    ]
    comparison = compared(each, metric=MAE)
    assert comparison.best.model == "a"
    assert comparison.warnings == (
        "The runs do not say on what data they were tested: it may not be the same.",
        "15 runs did not record on which machine.",
        "No stored predictions give test_mae: intervals there count the choice of seeds as chance, "
        "not that of test examples.",
        "No run of a, b and c measured any cost.",
    )


def test_the_front_is_of_less_error_at_less_cost() -> None:
    narrow = [0.999, 1.0, 1.001]
    each = [
        r
        for model, level, flops in (("a", 1, 30), ("b", 2, 20), ("c", 3, 10), ("d", 4, 25))
        for r in runs(
            model, [None] * 3, metrics={MAE: [level * n for n in narrow], FLOPS: float(flops)}
        )
    ]
    front = next(f for f in compared(each, metric=MAE).fronts if f.metric == FLOPS)
    assert front.on_front == ("a", "b", "c")
    assert front.dominated == {"d": ("b", "c")}


def test_single_runs_dominate_by_the_interval_over_examples() -> None:
    random = np.random.default_rng(2)
    tables = {"a": errors(random, 1, 300), "b": errors(random, 1, 300, 3.0)}
    each, details = with_errors(MAE, tables, **{FLOPS: 10.0})
    front = next(f for f in compared(each, details, metric=MAE).fronts if f.metric == FLOPS)
    assert front.dominated == {"b": ("a",)}
    front = next(f for f in compared(each, metric=MAE).fronts if f.metric == FLOPS)
    assert front.dominated == {}


@pytest.mark.parametrize(
    ("factor", "target", "epochs"),
    [(1.0, 0.52, [2.0, 3.0]), (1e-6, 0.52e-6, [2.0, 3.0]), (1000.0, 520.0, [2.0, 3.0])],
)
def test_the_target_is_an_error_that_every_curve_reaches(
    factor: float, target: float, epochs: list[float]
) -> None:
    curves = {"a": [0.9, 0.5, 0.4], "b": [0.9, 0.8, 0.5123]}
    each = [run(model, accuracy=None, metrics={MAE: factor}) for model in curves]
    details = {
        f"{model}-0": RunDetails(
            curves={"val_mae": [(n, v * factor) for n, v in enumerate(values, start=1)]}
        )
        for model, values in curves.items()
    }
    comparison = compared(each, details, metric=MAE)
    assert comparison.target == pytest.approx(target)
    reached = {t.model: t.epochs.mean for t in comparison.targets if t.epochs is not None}
    assert [reached["a"], reached["b"]] == epochs
    (first, _) = compared(each, details, metric=MAE, target=0.4 * factor).targets
    assert (first.reached, first.runs) == (1, 1)


def test_of_validated_runs_the_best_in_validation_is_taken() -> None:
    metrics: dict[str, object] = {MAE: [1.0, 2.0], "val_mae": [1.5, 1.2]}
    each = runs("a", [None, None], metrics=metrics, held_out=True)
    best = compared(each, metric=MAE).best
    assert best.run_id == "a-1"
    assert "Run a-1 of it has the lowest val_mae, on held-out validation data" in best.reason
