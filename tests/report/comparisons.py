"""Comparisons as the analysis makes them, with figures like those of real runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import (
    Answer,
    Best,
    ByClass,
    Comparison,
    Front,
    Group,
    Repeat,
    Statistic,
    TargetCost,
    Verdict,
    VerdictWord,
)
from fm_mlflow.analysis.costs import shown_costs
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.records import RunDetails, SkippedRun, TrainingRun
from fm_mlflow.settings.selection import Choice
from tests.analysis import simulated

HOSTILE = "<script>alert(1)</script>"
CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
_MEANS: dict[str, dict[str, tuple[float, float]]] = {
    "cnn": {
        keys.TEST_ACCURACY: (0.8904, 0.0021),
        keys.TEST_LOSS: (0.3008, 0.005),
        keys.PARAMETERS_TRAINABLE: (56714, 0),
        keys.SIZE_H5: (0.6874, 0),
        keys.SIZE_INFERENCE: (0.2454, 0),
        keys.FLOPS_INFERENCE: (1442332, 0),
        keys.FLOPS_TRAINING: (4147165.953, 0),
        keys.FLOPS_TRAINING_TOTAL: (1244151487497.5, 0),
        keys.ESTIMATE_INFERENCE_FLOPS: (113184, 0),
        keys.ESTIMATE_TRAINING_FLOPS: (339552, 0),
        keys.ESTIMATE_TRAINING_MEMORY: (0.6476, 0),
        keys.MEMORY_PEAK: (1492.7, 12),
        keys.MEMORY_TRAINING: (450.65, 9),
        keys.LATENCY_P50: (0.37, 0.02),
        keys.MFU: (32.2, 1.1),
        keys.FIT_SECONDS: (24.1, 0.9),
    },
    "mlp": {
        keys.TEST_ACCURACY: (0.8719, 0.0034),
        keys.TEST_LOSS: (0.3547, 0.007),
        keys.PARAMETERS_TRAINABLE: (235146, 0),
        keys.SIZE_H5: (2.7179, 0),
        keys.SIZE_INFERENCE: (0.9189, 0),
        keys.FLOPS_INFERENCE: (469948, 0),
        keys.FLOPS_TRAINING: (1420921.4, 0),
        keys.FLOPS_TRAINING_TOTAL: (426276420000, 0),
        keys.ESTIMATE_INFERENCE_FLOPS: (469504, 0),
        keys.ESTIMATE_TRAINING_FLOPS: (1408512, 0),
        keys.ESTIMATE_TRAINING_MEMORY: (2.6865, 0),
        keys.MEMORY_PEAK: (1255.2, 8),
        keys.MEMORY_TRAINING: (213.4, 7),
        keys.LATENCY_P50: (0.24, 0.01),
        keys.MFU: (11.8, 0.6),
        keys.FIT_SECONDS: (8.3, 0.4),
    },
}


def statistic(values: Sequence[float]) -> Statistic:
    n, mean = len(values), math.fsum(values) / len(values)
    if n == 1:
        return Statistic(1, mean, None, None, None, tuple(values))
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = _T.get(n, 2.0) * sd / math.sqrt(n)
    return Statistic(n, mean, sd, mean - half, mean + half, tuple(values))


def group(name: str, model: str = "cnn", seeds: int = 5, shift: float = 0.0) -> Group:
    """A group like the reference's models, `shift` less accurate and so much cheaper."""
    random = np.random.default_rng(len(name) + round(1000 * shift))
    metrics = {
        metric: [
            float(mean - shift if metric == keys.TEST_ACCURACY else mean * (1 - 8 * shift))
            + float(sd * random.standard_normal())
            for _ in range(seeds)
        ]
        for metric, (mean, sd) in _MEANS[model].items()
    }
    runs = tuple(
        TrainingRun(
            run_id=f"{name[:8]}-{seed}".ljust(32, "0"),
            name=f"{name}, 5 epochs, seed {seed}",
            model=name,
            config={"epochs": "5"},
            seed=seed,
            metrics={metric: values[seed] for metric, values in metrics.items()},
            version="1.0",
            model_uri=f"models:/m-{seed}",
        )
        for seed in range(seeds)
    )
    return Group(
        name=name,
        model=name,
        config={"epochs": "5", "batch_size": "64"},
        runs=runs,
        metrics={metric: statistic(values) for metric, values in metrics.items()},
        curves=tuple(_curves(metrics[keys.TEST_ACCURACY][s], random) for s in range(seeds)),
    )


def _curves(last: float, random: np.random.Generator) -> dict[str, list[tuple[int, float]]]:
    def points(end: float, start: float) -> list[tuple[int, float]]:
        return [
            (epoch, end + (start - end) * 0.45 ** (epoch - 1) + 0.002 * random.standard_normal())
            for epoch in range(1, 6)
        ]

    return {
        keys.ACCURACY: points(last + 0.012, 0.79),
        keys.VAL_ACCURACY: points(last, 0.845),
        keys.LOSS: points(1.16 - last, 0.56),
        keys.VAL_LOSS: points(1.19 - last, 0.42),
    }


def verdict(a: Group, b: Group, metric: str) -> Verdict:
    one, other = a.metrics[metric], b.metrics[metric]
    difference = one.mean - other.mean
    half = 2 * math.hypot(one.sd or 0, other.sd or 0)
    pairs = [(x > y) + 0.5 * (x == y) for x in one.values for y in other.values]
    better: VerdictWord = (
        "a_better" if (difference > 0) == (metric == keys.TEST_ACCURACY) else "b_better"
    )
    return Verdict(
        a=a.name,
        b=b.name,
        metric=metric,
        difference=difference,
        ci_low=difference - half,
        ci_high=difference + half,
        interval="bootstrap of seeds and test images, 10,000 resamples, percentiles",
        p_value=0.0079,
        p_unadjusted=0.0079,
        test="exact permutation test of the means, two-sided",
        verdict=better,
        probability_of_improvement=sum(pairs) / len(pairs),
        words=f"{a.name} differs from {b.name} (p = 0.008, {one.n} and {other.n} seeds).",
    )


def by_class(name: str, runs: int = 5, classes: int = 10, seed: int = 1) -> ByClass:
    random = np.random.default_rng(seed)
    confusion = random.integers(0, 40, (classes, classes))
    confusion[random.random((classes, classes)) < 0.5] = 0
    np.fill_diagonal(confusion, 0)
    np.fill_diagonal(confusion, 1000 * runs - confusion.sum(axis=1))
    if classes >= 7:
        confusion[6, 0] += 520
        confusion[6, 6] -= 520
    return ByClass(
        model=name,
        runs=runs,
        accuracy=tuple(float(row[i] / row.sum()) for i, row in enumerate(confusion)),
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
    )


def comparison(*groups: Group) -> Comparison:
    """A comparison of these groups; without any, of the reference's two, 5 seeds each."""
    return _comparison(*groups) if groups else _of_the_reference()


@cache
def _of_the_reference() -> Comparison:
    return _comparison(group("cnn"), group("mlp", "mlp"))


def _comparison(*groups: Group) -> Comparison:
    detailed = [g for g in groups if g.detailed]
    pairs = [(a, b) for i, a in enumerate(detailed) for b in detailed[i + 1 :]]
    metrics = [keys.TEST_ACCURACY, *(cost.key for cost in shown_costs(()))]
    first = groups[0]
    return Comparison(
        experiment="fashion",
        headline=f"Take {first.name}: more accurate, at 3.1 times the FLOPs per prediction.",
        evidence=(
            f"Test accuracy {first.metrics[keys.TEST_ACCURACY].mean:.4f}; exact permutation test, "
            f"p = 0.008; {counted_runs(first)}."
        ),
        groups=groups,
        verdicts=tuple(verdict(a, b, metric) for metric in metrics for a, b in pairs),
        fronts=tuple(_front(cost.key, groups) for cost in shown_costs(())),
        best=Best(
            model=first.name,
            run_id=first.runs[0].run_id,
            reason=(
                "Most accurate, and no other model is indistinguishable from it; so the cost, "
                "FLOPs per prediction, had nothing to decide."
            ),
            cost=keys.FLOPS_INFERENCE,
            contenders=(first.name,),
            excluded={},
        ),
        target=0.87,
        targets=tuple(
            TargetCost(
                g.name,
                len(g.runs) - i % 2,
                len(g.runs),
                *_target([2.0 + i + s % 2 for s in range(len(g.runs) - i % 2)]),
            )
            for i, g in enumerate(detailed)
        ),
        class_names=CLASSES,
        by_class=tuple(by_class(g.name, len(g.runs), seed=i) for i, g in enumerate(detailed)),
        answers=(
            Answer("Which model is more accurate?", f"{first.name}, by 1.9 points."),
            Answer("Which has fewer parameters?", f"{first.name}: 56,714 against 235,146."),
            Answer(
                "What is the trade-off between the two?",
                f"{first.name} needs 3.1 times the FLOPs for its accuracy, with a quarter of the "
                "parameters.",
            ),
            Answer(
                "Why is a CNN generally better for images?",
                "Its kernels look at neighbouring pixels and are the same at every position.",
            ),
        ),
        warnings=(
            "Validated on the test set: its accuracy chose nothing, but is no fresh estimate.",
            "Runs of 2 machines: times and memory are not ranked across them.",
        ),
        skipped=(
            SkippedRun("a" * 32, "cnn, 5 epochs, seed 7", "it is still RUNNING"),
            SkippedRun("b" * 32, HOSTILE, "it FAILED: InputError"),
        ),
        repeat=Repeat(
            commands=(
                "mlflow run . -e benchmark -P models=mlp,cnn -P seeds=5 --env-manager local",
                "fm-mlflow compare --experiment fashion",
            ),
            versions={"fm_mlflow": "0.1.0", "tensorflow": "2.21.0", "mlflow": "3.17.2"},
            data_digests={"eee656c63c1c7a3b7c885d28c97fd74dc039264ce75eae7cb8d991df379ef736": 10},
            commits={"0123456789abcdef0123456789abcdef01234567": 10},
        ),
    )


def _target(
    epochs: Sequence[float],
) -> tuple[Statistic | None, Statistic | None, Statistic | None]:
    if not epochs:
        return None, None, None
    return (
        statistic(epochs),
        statistic([4.8 * n for n in epochs]),
        statistic([248830297499.5 * n for n in epochs]),
    )


def counted_runs(one: Group) -> str:
    return f"{len(one.runs)} seeds" if len(one.runs) > 1 else "1 seed"


def _front(cost: str, groups: Sequence[Group]) -> Front:
    if cost == keys.FIT_SECONDS:
        return Front(cost, (), {}, {}, reason="measured on 2 machines")
    measured = [g for g in groups if cost in g.metrics and keys.TEST_ACCURACY in g.metrics]
    accuracy = np.array([g.metrics[keys.TEST_ACCURACY].mean for g in measured])
    price = np.array([g.metrics[cost].mean for g in measured])
    dominated = {}
    for i, g in enumerate(measured):
        better = (accuracy > accuracy[i]) & (price <= price[i])
        if better.any():
            dominated[g.name] = tuple(measured[j].name for j in np.flatnonzero(better)[:3])
    return Front(
        metric=cost,
        on_front=tuple(g.name for g in measured if g.name not in dominated),
        dominated=dominated,
        left_out={g.name: "not measured" for g in groups if cost not in g.metrics},
    )


def bare() -> Comparison:
    """One model, one run by somebody else: nothing measured, no curves, no predictions."""
    run = TrainingRun("c" * 32, "autolog", "theirs", {}, None, {keys.TEST_ACCURACY: 0.5})
    only = Group("theirs", "theirs", {}, (run,), {keys.TEST_ACCURACY: statistic([0.5])})
    return replace(
        comparison(),
        headline="Take theirs: there is no other model to compare it with.",
        evidence="Test accuracy 0.5000, one run.",
        groups=(only,),
        verdicts=(),
        fronts=tuple(
            Front(cost.key, (), {}, {"theirs": "not measured"}) for cost in shown_costs(())
        ),
        best=Best("theirs", "c" * 32, "The only one.", keys.FLOPS_INFERENCE, ("theirs",), {}),
        target=None,
        targets=(),
        class_names=(),
        by_class=(),
        warnings=(),
        skipped=(),
        repeat=Repeat(("fm-mlflow compare",), {}, {}, {}),
    )


def empty() -> Comparison:
    """No run at all that can be compared."""
    return replace(
        bare(),
        headline="Take none. No run qualifies.",
        evidence="",
        groups=(),
        fronts=(),
        best=Best(None, None, "No run qualifies.", keys.FLOPS_INFERENCE, (), {}),
        answers=(),
    )


@cache
def hostile() -> Comparison:
    """Names that try to be HTML, Markdown, rich markup, a formula, an escape code."""
    names = (HOSTILE, "[red]x[/red] *a* `b` | c", "=1+1", "p$^$\x1b[31m\n&lt;b&gt;", "n" * 90)
    made = comparison(*(group(name, shift=0.002 * i) for i, name in enumerate(names)))
    return replace(
        made,
        experiment=HOSTILE,
        warnings=(HOSTILE, *made.warnings),
        class_names=(HOSTILE, *CLASSES[1:]),
        answers=(Answer(HOSTILE, HOSTILE),),
        repeat=replace(made.repeat, commands=(f"echo '{HOSTILE}' ```",), commits={HOSTILE: 1}),
    )


@cache
def many(groups: int = 2000, detailed: int = 10, seeds: int = 5) -> Comparison:
    """A sweep: ten groups in detail, the others as figures."""
    made = []
    for i in range(groups):
        is_detailed = i < detailed
        one = group(
            f"cnn, learning_rate={0.001 * (i + 1):.3f}, batch_size={16 << i % 6}",
            seeds=seeds if is_detailed else 1,
            shift=0.0008 * i if is_detailed else 0.1 * i / groups,
        )
        made.append(one if is_detailed else replace(one, detailed=False, curves=()))
    skipped = tuple(
        SkippedRun(f"{i:032x}", f"run {i}", f"it FAILED: reason {i % 3}") for i in range(500)
    )
    return replace(comparison(*made), skipped=skipped)


@cache
def by_error(metric: str = "test_mae", models: int = 3) -> Comparison:
    """Models that are compared by an error; nothing else of them was measured but two costs."""
    each = [
        run
        for index in range(models)
        for run in simulated.runs(
            f"model {index}",
            [None] * 5,
            metrics={
                metric: [1 + index / 4 + seed / 100 for seed in range(5)],
                keys.FLOPS_INFERENCE: 1000.0 * (models - index),
                keys.PARAMETERS_TRAINABLE: 10.0 * (1 + index),
            },
        )
    ]
    objective = Objective.of(Choice(metric=metric, smaller_is_better=True))
    curves = {
        name: [(epoch, 1 + 1 / epoch) for epoch in range(1, 4)]
        for name in (objective.base, objective.validation)
    }
    details = {run.run_id: RunDetails(curves=curves) for run in each}
    made = simulated.compared(each, details, metric=metric, smaller_is_better=True)
    return replace(made, repeat=comparison().repeat)
