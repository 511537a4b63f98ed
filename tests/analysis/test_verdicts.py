"""What pairs of groups are said to be, where the truth is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pytest
from scipy import stats

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Group, Verdict
from fm_mlflow.analysis.examples import match_examples
from fm_mlflow.analysis.objective import DEFAULT
from fm_mlflow.analysis.records import Predictions, RunDetails
from fm_mlflow.analysis.statistics import resampling
from fm_mlflow.analysis.verdicts import cost_verdicts, objective_verdicts
from tests.analysis.simulated import (
    by_model,
    correctness,
    grouped,
    hardness,
    run,
    runs,
    with_predictions,
)


def accuracy_verdicts(
    groups: Sequence[Group], details: Mapping[str, RunDetails]
) -> tuple[Verdict, ...]:
    compared = [group for group in groups if group.detailed]
    examples = match_examples(compared, details, DEFAULT)
    return objective_verdicts(groups, examples, DEFAULT, 0.005)


def verdict_of(*each: object, details: object = None) -> Verdict:
    (verdict,) = accuracy_verdicts(grouped(*each), details or {})  # type: ignore[arg-type]
    return verdict


def simulate(gap: float, stores: int, monkeypatch: pytest.MonkeyPatch) -> list[Verdict]:
    """Two models of five seeds each, 10,000 test images, `gap` in logits apart."""
    # A coarser interval, for speed.
    monkeypatch.setattr(resampling, "_RESAMPLES", 250)
    random = np.random.default_rng(11)
    verdicts = []
    for _ in range(stores):
        level = 3 + hardness(random, 10_000)
        tables = {
            model: correctness(random, level + shift, 5, 10_000)
            for model, shift in (("a", 0.0), ("b", gap))
        }
        each, details = with_predictions(tables)
        verdicts.append(verdict_of(each, details=details))
    return verdicts


@pytest.mark.thorough
def test_equal_models_are_called_different_in_at_most_5_percent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verdicts = simulate(0.0, 100, monkeypatch)
    assert sum(each.is_shown for each in verdicts) <= 5
    # Equally good, yet their accuracies differ, by seeds and by images.
    assert np.std([each.difference for each in verdicts]) > 0.001


@pytest.mark.thorough
def test_a_gap_of_two_points_is_found_in_at_least_95_percent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verdicts = simulate(0.28, 60, monkeypatch)
    gap = np.mean([each.difference if each.a == "b" else -each.difference for each in verdicts])
    assert gap == pytest.approx(0.02, abs=0.002)
    found = [each.a == "b" and each.verdict == "a_better" for each in verdicts]
    assert np.mean(found) >= 0.95


@pytest.mark.thorough
def test_equal_models_among_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any false verdict among the pairs of a store counts: Holm's correction is for that."""
    monkeypatch.setattr(resampling, "_RESAMPLES", 125)
    random = np.random.default_rng(12)
    false = 0
    for _ in range(60):
        level = 3 + hardness(random, 1000)
        tables = {model: correctness(random, level, 6, 1000) for model in "abcd"}
        each, details = with_predictions(tables)
        verdicts = accuracy_verdicts(grouped(each), details)
        assert len(verdicts) == 6
        false += any(verdict.is_shown for verdict in verdicts)
    assert false <= 7  # 3, and what chance adds to it


def test_words_of_a_clear_difference() -> None:
    verdict = verdict_of(
        runs("cnn", [0.901, 0.902, 0.903, 0.904, 0.905]),
        runs("mlp", [0.871, 0.872, 0.873, 0.874, 0.875]),
    )
    assert verdict.words == (
        "cnn is better than mlp: 0.9030 against 0.8730 (difference 0.0300, 95% interval 0.0277 to "
        "0.0323; exact permutation test, p = 0.008, 5 and 5 seeds)."
    )
    assert verdict.p_value == verdict.p_unadjusted == pytest.approx(2 / 252)
    assert verdict.probability_of_improvement == 1
    assert verdict.seeds_needed is None
    assert verdict.interval == "over seeds alone, Welch's t"


def test_too_few_seeds_are_said_to_be_too_few() -> None:
    verdict = verdict_of(runs("cnn", [0.95, 0.951, 0.952]), runs("mlp", [0.8, 0.801, 0.802]))
    assert verdict.verdict == "not_distinguishable"
    assert verdict.p_value == pytest.approx(0.1)
    assert verdict.seeds_needed == 4
    assert "with 3 seeds each: no result of so few could reach p < 0.05; 4 seeds each could" in (
        verdict.words
    )


def test_more_pairs_need_more_seeds() -> None:
    each = [
        runs(model, [level, level + 0.001, level + 0.002, level + 0.003])
        for model, level in (("a", 0.9), ("b", 0.8), ("c", 0.7))
    ]
    verdicts = accuracy_verdicts(grouped(*each), {})
    assert [verdict.p_unadjusted for verdict in verdicts] == pytest.approx([2 / 70] * 3)
    assert [verdict.p_value for verdict in verdicts] == pytest.approx([6 / 70] * 3)
    assert {verdict.verdict for verdict in verdicts} == {"not_distinguishable"}
    assert {verdict.seeds_needed for verdict in verdicts} == {5}


def test_two_single_models() -> None:
    # Of 1,000 images, 60 only a has right, 20 only b.
    right_a, right_b = np.ones(1000, bool), np.ones(1000, bool)
    right_b[:60] = False
    right_a[60:80] = False
    each, details = with_predictions({"a": right_a[None], "b": right_b[None]})
    verdict = verdict_of(each, details=details)
    assert verdict.counts == (60, 20)
    assert verdict.test == "exact McNemar test"
    assert verdict.p_value is not None
    assert verdict.p_value < 0.001
    assert verdict.verdict == "a_better"
    assert verdict.words.startswith("The one run of a is better than that of b: 0.9800 against")
    assert "of the architectures that says nothing, 4 seeds each could." in verdict.words
    assert verdict.ci_low is not None
    assert 0.02 < verdict.ci_low < verdict.difference


def test_two_single_models_without_predictions() -> None:
    verdict = verdict_of(runs("a", [0.95]), runs("b", [0.5]))
    assert verdict.verdict == "not_distinguishable"
    assert verdict.p_value is verdict.ci_low is None
    assert verdict.test == ""
    assert "one run each, without predictions to compare example by example" in verdict.words


def test_one_run_against_several_says_what_it_can_reach() -> None:
    few = verdict_of(runs("a", [0.95]), runs("b", [0.9, 0.901, 0.902, 0.903, 0.904]))
    assert few.p_value == pytest.approx(1 / 6)
    assert few.seeds_needed == 4
    assert "with 1 and 5 seeds: no result of so few" in few.words
    many = verdict_of(runs("a", [0.95]), runs("b", [0.9 + n / 10_000 for n in range(20)]))
    assert many.p_value == pytest.approx(1 / 21)
    assert many.verdict == "a_better"


def test_a_difference_that_the_choice_of_images_explains() -> None:
    """Every seed of a has one image more right than every seed of b; the rest is by chance."""
    random = np.random.default_rng(0)
    a, b = random.random(300) < 0.9, random.random(300) < 0.9
    while a.sum() <= b.sum():
        a = random.random(300) < 0.9
    each, details = with_predictions({"a": np.tile(a, (5, 1)), "b": np.tile(b, (5, 1))})
    verdict = verdict_of(each, details=details)
    assert verdict.p_value == pytest.approx(2 / 252)
    assert verdict.verdict == "not_distinguishable"
    expected = "but not beyond what seeds and the choice of test examples explain together"
    assert expected in verdict.words
    assert verdict.ci_low is not None
    assert verdict.ci_low < 0


def test_predictions_of_other_images_are_not_compared_one_by_one() -> None:
    random = np.random.default_rng(0)
    tables = {model: random.random((5, 400)) < 0.9 for model in "ab"}
    each, details = with_predictions(tables)
    for seed in range(5):
        predicted = details[f"b-{seed}"].predictions
        assert predicted is not None
        other = Predictions(1 - predicted.label, 1 - predicted.predicted)
        details[f"b-{seed}"] = RunDetails(predictions=other)
    verdict = verdict_of(each, details=details)
    assert verdict.interval == "over seeds alone, Welch's t"


def test_better_never_has_an_interval_that_includes_zero() -> None:
    random = np.random.default_rng(1)
    each = []
    for store in range(300):
        each.append(runs(f"a, {store}", random.normal(0.905, 0.02, 4).tolist()))
        each.append(runs(f"b, {store}", random.normal(0.90, 0.0005, 8).tolist()))
    groups = by_model(each)
    seen = set()
    for store in range(300):
        pair = [groups[f"{name}, {store}"] for name in "ab"]
        (verdict,) = accuracy_verdicts(pair, {})
        assert verdict.ci_low is not None
        assert verdict.ci_high is not None
        assert verdict.p_value is not None
        shown = verdict.is_shown
        includes_zero = verdict.ci_low <= 0 <= verdict.ci_high
        assert not (shown and includes_zero)
        seen.add((shown, verdict.p_value < 0.05))
        if verdict.p_value < 0.05 and includes_zero:
            assert "not where the spreads of both are allowed for" in verdict.words
    assert seen == {(True, True), (False, False), (False, True)}


def cost_verdict(metric: str, a: object, b: object, **more: object) -> Verdict:
    (verdict,) = cost_verdicts(
        grouped(
            runs("a", [0.91, 0.91, 0.91, 0.91], metrics={metric: a}),
            runs("b", [0.9, 0.9, 0.9, 0.9], metrics={metric: b}, **more),
        )
    )
    assert verdict.metric == metric
    return verdict


def test_counts_are_compared_as_counts() -> None:
    verdict = cost_verdict(keys.FLOPS_INFERENCE, 1_442_332.0, 469_948.0)
    assert verdict.verdict == "b_better"
    assert verdict.test == "exact count"
    assert verdict.p_value is None
    assert verdict.ci_low == verdict.ci_high == verdict.difference == 972_384
    assert verdict.words == (
        "FLOPs per prediction: b 469,948; a 1,442,332, 3.07 times that (exact count)."
    )
    same = cost_verdict(keys.FLOPS_INFERENCE, 5.0, 5.0)
    assert same.verdict == "not_distinguishable"
    assert same.probability_of_improvement == 0.5
    assert same.words == "FLOPs per prediction: a and b the same, 5 (exact count)."


def test_a_count_that_varies_between_runs_is_not_exact() -> None:
    verdict = cost_verdict(keys.FLOPS_INFERENCE, [5.0, 5.0, 5.0, 6.0], 5.0)
    assert verdict.test == "exact permutation test"


def test_noisy_costs_are_tested() -> None:
    verdict = cost_verdict(keys.LATENCY_P50, [0.5, 0.51, 0.52, 0.53], [0.3, 0.31, 0.32, 0.33])
    assert verdict.verdict == "b_better"
    logs = np.log([0.5, 0.51, 0.52, 0.53]), np.log([0.3, 0.31, 0.32, 0.33])
    expected = stats.ttest_ind(*logs, equal_var=False)
    interval = np.exp(expected.confidence_interval(0.95))
    assert verdict.p_value == pytest.approx(expected.pvalue)
    assert verdict.ratio == pytest.approx(math.exp(logs[0].mean() - logs[1].mean()))
    assert (verdict.ratio_low, verdict.ratio_high) == pytest.approx(tuple(interval))
    assert verdict.ci_low == pytest.approx((interval[0] - 1) * 0.315)
    assert verdict.probability_of_improvement == 0
    assert verdict.words == (
        "Latency (median) is lower in b than in a: 0.32 ms against 0.52 ms (1.64 times, 95% "
        "interval 1.54 to 1.74; t-test on logarithms, p < 0.001, 4 and 4 runs)."
    )


def test_three_runs_decide_a_difference_of_ten_times_the_noise() -> None:
    each = [
        runs(name, [0.9, 0.9, 0.9], metrics={keys.MEMORY_PEAK: peaks})
        for name, peaks in (("a", [1090.0, 1100.0, 1110.0]), ("b", [990.0, 1000.0, 1010.0]))
    ]
    (verdict,) = cost_verdicts(grouped(*each))
    assert verdict.verdict == "b_better"
    assert verdict.words.startswith("Peak memory is lower in b than in a: 1,000 MiB against 1,100")


def test_the_ratio_is_named_the_larger_way_round() -> None:
    verdict = cost_verdict(keys.FIT_SECONDS, [10.0, 11.0, 9.0, 10.0], [10.5, 12.0, 9.5, 11.0])
    assert verdict.verdict == "not_distinguishable"
    assert verdict.ratio is not None
    assert verdict.ratio < 1
    assert "10.0 s against 10.8 s (1.07 times, 95% interval 0.92 to 1.26;" in verdict.words


@pytest.mark.parametrize("values", [(0.0, 0.0, 0.0, 0.1), (2.0, 2.0, 2.0, 2.0)])
def test_without_noise_or_logarithm_the_test_permutes(values: tuple[float, ...]) -> None:
    verdict = cost_verdict(keys.LATENCY_P50, [5.0, 5.0, 5.0, 5.0], list(values))
    assert (verdict.ratio, verdict.test) == (None, "exact permutation test")
    assert verdict.p_value == pytest.approx(2 / 70)


@pytest.mark.thorough
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_equal_costs_are_called_different_in_at_most_5_percent(seeds: int, noise: float) -> None:
    """Half of the pairs vary equally, half differently; then one of ten times the noise more."""
    random = np.random.default_rng(seeds)
    stores, gaps = range(300), (0, 10)
    each = []
    for store in stores:
        spreads = (noise, noise / 5 if store % 2 else noise)
        logs = [spread * random.standard_normal(seeds) for spread in spreads]
        for gap in gaps if store % 3 == 0 else gaps[:1]:
            for name, values in (("a", logs[0] + gap * noise), ("b", logs[1])):
                metrics = {keys.LATENCY_P50: np.exp(values).tolist()}
                each.append(runs(f"{name}, {store}, {gap}", [0.9] * seeds, metrics=metrics))
    groups = by_model(each)
    shown = {0: 0, 10: 0}
    for store, gap in (*product(stores, gaps[:1]), *product(stores[::3], gaps[1:])):
        pair = [groups[f"{name}, {store}, {gap}"] for name in "ab"]
        (verdict,) = cost_verdicts(pair)
        shown[gap] += verdict.is_shown
    assert shown[0] <= 0.05 * len(stores) + 9  # and what chance adds to it
    assert shown[10] >= 0.99 * len(stores[::3])


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (
            {"machine": {"cpu": "b", "cores": "2, 2 usable", "versions": "Python 3.11"}},
            "differ in cpu",
        ),
        ({"machine": {"cpu": "a", "cores": "2, 2 usable", "versions": "other"}}, "in versions"),
        ({"machine": {}}, "some runs do not say theirs"),
        ({"jobs": 4}, "up to 4 at a time"),
    ],
)
def test_costs_of_different_machines_are_not_compared(more: dict[str, object], reason: str) -> None:
    verdict = cost_verdict(keys.LATENCY_P50, [5.0, 5.1, 5.2, 5.3], [3.0, 3.1, 3.2, 3.3], **more)
    assert verdict.verdict == "not_distinguishable"
    assert verdict.p_value is None
    assert verdict.probability_of_improvement is None
    assert verdict.words.startswith("In latency (median), a and b are not compared")
    assert reason in verdict.words
    counted = cost_verdict(keys.PARAMETERS_TRAINABLE, 5.0, 3.0, **more)
    assert counted.verdict == "b_better"


def test_load_and_memory_of_shared_machines_compare() -> None:
    busy = {"machine": {"cpu": "a", "cores": "2, 2 usable", "versions": "Python 3.11", "load": "9"}}
    values = [5.0, 5.1, 5.2, 5.3], [3.0, 3.1, 3.2, 3.3]
    assert cost_verdict(keys.LATENCY_P50, *values, **busy).verdict == "b_better"
    assert cost_verdict(keys.MEMORY_PEAK, *values, jobs=2).verdict == "b_better"


def test_one_run_each_shows_nothing_of_a_noisy_cost() -> None:
    (verdict,) = cost_verdicts(
        grouped(
            [run("a", metrics={keys.FIT_SECONDS: 10.0})],
            [run("b", metrics={keys.FIT_SECONDS: 20.0})],
        )
    )
    assert verdict.verdict == "not_distinguishable"
    assert verdict.words.endswith("one run each; 3 runs each could show a difference.")
