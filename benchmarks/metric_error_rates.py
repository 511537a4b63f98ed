"""How often intervals and verdicts on errors of a regression are wrong, where the truth is known.

    python -m benchmarks.metric_error_rates [--stores 1000]

Each store holds two models that are equally good. The absolute error of a seed on an example is the
product of how hard the example is for everybody (gamma), of the size of this seed's errors, and of
|1 + what is hard for this model + chance|; so errors are skewed, and those of two models on one
example are alike. The table is that of docs/statistics.md.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fm_mlflow.analysis.compare import compare
from fm_mlflow.analysis.comparison import Repeat, Verdict
from fm_mlflow.analysis.grouping import group_runs
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.records import ExampleErrors, RunDetails, TrainingRun
from fm_mlflow.analysis.statistics.significance import ALPHA
from fm_mlflow.settings.selection import CompareConfig

_FEWER = 200
"""Stores of large test sets."""


@dataclass(frozen=True)
class _Setting:
    """What is simulated: a metric, examples, seeds of both models, spread of a seed's errors."""

    metric: str
    examples: int
    seeds: tuple[int, int]
    spread: float


_SETTINGS = [
    _Setting(metric, examples, seeds, spread)
    for examples in (300, 10_000)
    for metric in ("test_mae", "test_rmse")
    for seeds, spread in (
        *(((3, 3), 0.02), ((5, 5), 0.0), ((5, 5), 0.1)),
        *(((10, 10), 0.02), ((1, 5), 0.02), ((1, 1), 0.0)),
    )
]


def _errors(
    random: np.random.Generator, hard: NDArray[np.float64], seeds: int, spread: float
) -> NDArray[np.float64]:
    """Draw a model's absolute errors, shape (seeds, examples)."""
    examples = len(hard)
    of_model = random.normal(0, 0.3, examples)
    of_seed = 1 + random.normal(0, spread, (seeds, 1))
    chance = random.normal(0, 0.8, (seeds, examples))
    return np.asarray(hard * of_seed * np.abs(1 + of_model + chance))


def _verdict(setting: _Setting, random: np.random.Generator) -> tuple[Verdict, float]:
    """Return the verdict on a store, and the SD between seeds as a share of the metric."""
    config = CompareConfig(metric=setting.metric)
    objective = Objective.of(config)
    hard = random.gamma(2.0, 0.5, setting.examples)
    runs, details, shares = [], {}, []
    for model, seeds in zip("ab", setting.seeds, strict=True):
        errors = _errors(random, hard, seeds, setting.spread)
        values = errors**2 if objective.is_root else errors
        logged = objective.of_means(values.mean(axis=1))
        shares.append(float(np.std(logged, ddof=1) / logged.mean()) if seeds > 1 else 0.0)
        for seed, (value, row) in enumerate(zip(logged.tolist(), values, strict=True)):
            run_id = f"{model}{seed}"
            metrics = {setting.metric: value}
            runs.append(TrainingRun(run_id, run_id, model, {}, seed, metrics, "digest"))
            details[run_id] = RunDetails(errors=ExampleErrors(row, b"truth"))
    groups = group_runs(runs, 10, None, objective).groups
    comparison = compare("", groups, details, (), config, Repeat((), {}, {}, {}))
    return comparison.verdicts[0], max(shares)


def _low(verdict: Verdict) -> float:
    return -np.inf if verdict.ci_low is None else verdict.ci_low


def _high(verdict: Verdict) -> float:
    return np.inf if verdict.ci_high is None else verdict.ci_high


def main() -> None:
    """Print a row a setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stores", type=int, default=1000)
    stores = parser.parse_args().stores
    print("| metric | test examples | seeds | SD between seeds | covers | test alone | verdict |")
    print("|---|---|---|---|---|---|---|")
    for setting in _SETTINGS:
        random = np.random.default_rng(20_240_501)
        count = stores if setting.examples < 1000 else min(stores, _FEWER)
        found = [_verdict(setting, random) for _ in range(count)]
        verdicts = [verdict for verdict, _ in found]
        covers = np.mean([_low(v) <= 0 <= _high(v) for v in verdicts])
        alone = np.mean([v.p_value is not None and v.p_value < ALPHA for v in verdicts])
        wrong = np.mean([v.is_shown for v in verdicts])
        share = 100 * np.mean([share for _, share in found])
        a, b = setting.seeds
        print(
            f"| {setting.metric} | {setting.examples:,} | {a} and {b} | {share:.1f}% "
            f"| {covers:.3f} | {alone:.3f} | {wrong:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
