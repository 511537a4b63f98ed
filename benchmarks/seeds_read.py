"""How much the predictions of more seeds narrow an interval: why `compare` reads those of 100.

    python -m benchmarks.seeds_read

Two models of 1,000 seeds each, 10,000 test images. Of all seeds the accuracy is known, and of some
the predictions; the interval is the product's own. Of the three kinds of models the first is like
an MLP and a CNN on Fashion-MNIST, where most seeds fail on the same images. The last is the worst
that there can be: which images a seed gets wrong is chance alone, so that those of infinitely many
seeds would tell nothing apart.
"""

from __future__ import annotations

import numpy as np

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Group
from fm_mlflow.analysis.examples import TestExamples
from fm_mlflow.analysis.objective import DEFAULT
from fm_mlflow.analysis.records import TrainingRun
from fm_mlflow.analysis.statistics.intervals import describe
from fm_mlflow.analysis.statistics.resampling import SeedsAndExamples

SEEDS, IMAGES, ACCURACY = 1_000, 10_000, 0.9
SPREAD = 0.003
READ = (5, 10, 20, 50, 100, 200, 500, 1_000)
KINDS = {
    "most images hard for every seed": (1.0, 0.6, 0.6),
    "half and half": (1.0, 0.6, 1.2),
    "chance of the seed alone": (0.0, 0.0, 1.0),
}
"""How much of what makes an image hard is of the image, of it and the model, of it and the seed."""


def main() -> None:
    """Print a row for each kind of models."""
    heads = " | ".join(f"{read:,}" for read in READ)
    print(f"| which images a seed gets wrong | {heads} |\n|---|{'---|' * len(READ)}")
    for kind, shares in KINDS.items():
        groups, right = _simulated(*shares)
        halves = []
        for read in READ:
            ids = [run.run_id for group in groups for run in group.runs[:read]]
            examples = TestExamples(IMAGES, {run_id: right[run_id] for run_id in ids})
            interval = SeedsAndExamples(groups, examples, DEFAULT).interval(*groups)
            assert interval is not None
            halves.append(50 * (interval.interval.high - interval.interval.low))
        print(f"| {kind} | {' | '.join(f'{half:.3f}' for half in halves)} |")


def _simulated(
    of_image: float, of_model: float, of_seed: float
) -> tuple[list[Group], dict[str, np.ndarray[tuple[int], np.dtype[np.bool_]]]]:
    random = np.random.default_rng(0)
    shared = of_image * random.normal(size=IMAGES)
    groups, right = [], {}
    for model in ("a", "b"):
        hardness = shared + of_model * random.normal(size=IMAGES)
        runs = []
        for seed in range(SEEDS):
            count = round((ACCURACY + random.normal(0, SPREAD)) * IMAGES)
            order = np.argsort(hardness + of_seed * random.normal(size=IMAGES))
            is_right = np.zeros(IMAGES, dtype=bool)
            is_right[order[:count]] = True
            metrics = {str(keys.TEST_ACCURACY): count / IMAGES}
            runs.append(TrainingRun(f"{model}-{seed}", model, model, {}, seed, metrics))
            right[runs[-1].run_id] = is_right
        values = [run.metrics[keys.TEST_ACCURACY] for run in runs]
        statistics = {str(keys.TEST_ACCURACY): describe(values, keys.TEST_ACCURACY)}
        groups.append(Group(model, model, {}, tuple(runs), statistics))
    return groups, right


if __name__ == "__main__":
    main()
