"""Who is on the front, and who dominates whom: only where intervals are apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Front
from fm_mlflow.analysis.examples import TestExamples
from fm_mlflow.analysis.objective import DEFAULT
from fm_mlflow.analysis.pareto import fronts
from fm_mlflow.analysis.records import RunDetails, TrainingRun
from tests.analysis.simulated import grouped, run, runs

FLOPS = str(keys.FLOPS_INFERENCE)
LATENCY = str(keys.LATENCY_P50)
NARROW = [-0.001, 0.0, 0.001]


def around(accuracy: float) -> list[float]:
    return [accuracy + each for each in NARROW]


def front(metric: str, *each: list[TrainingRun], images: int = 0, details: object = None) -> Front:
    known: Any = details or {}
    found = fronts(grouped(*each), known, TestExamples(images, {}), DEFAULT)
    return next(each for each in found if each.metric == metric)


def test_more_accurate_and_cheaper_dominates() -> None:
    found = front(
        FLOPS,
        runs("a", around(0.95), metrics={FLOPS: 30.0}),
        runs("b", around(0.90), metrics={FLOPS: 20.0}),
        runs("c", around(0.85), metrics={FLOPS: 10.0}),
        runs("d", around(0.80), metrics={FLOPS: 25.0}),
        runs("e", around(0.80), metrics={FLOPS: 10.0}),
    )
    assert found.on_front == ("a", "b", "c")
    # e costs what c costs: that counts, because it is counted.
    assert found.dominated == {"d": ("b", "c"), "e": ("c",)}
    assert found.left_out == {}
    assert found.reason == ""


def test_no_dominance_where_accuracies_overlap() -> None:
    found = front(
        FLOPS,
        runs("a", [0.90, 0.92, 0.94], metrics={FLOPS: 10.0}),
        runs("b", [0.88, 0.90, 0.92], metrics={FLOPS: 20.0}),
        runs("c", [0.9200, 0.9200, 0.9200], metrics={FLOPS: 30.0}),
    )
    assert set(found.on_front) == {"a", "b", "c"}


def test_no_dominance_where_costs_overlap() -> None:
    slow, fast = [1.0, 1.2, 1.4], [0.8, 1.0, 1.2]
    found = front(
        LATENCY,
        runs("a", around(0.95), metrics={LATENCY: fast}),
        runs("b", around(0.90), metrics={LATENCY: slow}),
        runs("c", around(0.85), metrics={LATENCY: [9.0, 9.1, 9.2]}),
    )
    assert found.on_front == ("a", "b")
    assert found.dominated == {"c": ("a", "b")}


def test_single_runs_need_the_test_images_for_a_claim() -> None:
    each = runs("a", [0.95], metrics={FLOPS: 1.0}), runs("b", [0.90], metrics={FLOPS: 2.0})
    assert front(FLOPS, *each).dominated == {}
    assert front(FLOPS, *each, images=100).dominated == {}
    assert front(FLOPS, *each, images=10_000).dominated == {"b": ("a",)}


def test_single_noisy_costs_take_the_interval_that_was_measured() -> None:
    each = runs("a", [0.95], metrics={LATENCY: 1.0}), runs("b", [0.90], metrics={LATENCY: 2.0})
    assert front(LATENCY, *each, images=10_000).dominated == {}
    details = {
        name: RunDetails(measurements={LATENCY: {"interval": interval}})
        for name, interval in (("a-0", [0.9, 1.1]), ("b-0", [1.9, 2.1]))
    }
    assert front(LATENCY, *each, images=10_000, details=details).dominated == {"b": ("a",)}
    details["b-0"] = RunDetails(measurements={LATENCY: {"interval": [1.0, 2.1]}})
    assert front(LATENCY, *each, images=10_000, details=details).dominated == {}


def test_what_cannot_be_ranked_is_left_out_with_the_reason() -> None:
    found = front(
        LATENCY,
        runs("a", around(0.95), metrics={LATENCY: [1.0, 1.0, 1.0]}),
        runs("b", around(0.90)),
        runs("c", around(0.85), metrics={LATENCY: [2.0, 2.1, 2.2]}, machine={}),
        runs("other data", [0.99], metrics={LATENCY: 0.1}, data_digest="other"),
    )
    assert found.on_front == ("a",)
    assert found.left_out == {
        "b": "not measured",
        "c": "its runs do not say on which machine they were",
    }


def test_nobody_is_ranked_by_what_two_machines_took() -> None:
    found = front(
        LATENCY,
        runs("a", around(0.95), metrics={LATENCY: 1.0}),
        runs("b", around(0.90), metrics={LATENCY: 2.0}, machine={"cpu": "other"}),
    )
    assert found.on_front == ()
    assert found.dominated == {}
    assert found.reason.startswith("it depends on the machine, and the runs differ in")


def test_dominance_is_what_its_definition_says() -> None:
    random = np.random.default_rng(4)
    each = [
        run(f"m{number}", seed, float(accuracy + random.normal(0, 0.004)), metrics={FLOPS: cost})
        for number, (accuracy, cost) in enumerate(
            zip(random.uniform(0.8, 0.9, 60), random.integers(1, 30, 60).tolist(), strict=True)
        )
        for seed in range(4)
    ]
    groups = grouped(each)
    found = front(FLOPS, each)

    def dominates(a: object, b: object) -> bool:
        first, second = (g.metrics[keys.TEST_ACCURACY] for g in (a, b))  # type: ignore[attr-defined]
        costs = [g.metrics[FLOPS].mean for g in (a, b)]  # type: ignore[attr-defined]
        return bool(first.ci_low > second.ci_high and costs[0] <= costs[1])

    dominated = {b.name for b in groups if any(dominates(a, b) for a in groups)}
    assert set(found.dominated) == dominated
    assert set(found.on_front) == {group.name for group in groups} - dominated
    by_name = {group.name: group for group in groups}
    for name, by in found.dominated.items():
        assert by == tuple(f for f in found.on_front if dominates(by_name[f], by_name[name]))
