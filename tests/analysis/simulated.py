"""Runs and groups as plain records, with chosen figures or of models whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fm_mlflow import keys
from fm_mlflow.analysis.compare import compare
from fm_mlflow.analysis.comparison import Comparison, Group, Repeat
from fm_mlflow.analysis.grouping import group_runs
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.records import ExampleErrors, Predictions, RunDetails, TrainingRun
from fm_mlflow.settings.selection import CompareConfig

MACHINE = {"cpu": "a", "cores": "2, 2 usable", "versions": "Python 3.11", "load": "0.5"}
REPEAT = Repeat((), {}, {}, {})

Table = NDArray[np.bool_]


def run(model: str, seed: int | None = 0, accuracy: float | None = 0.9, **more: Any) -> TrainingRun:
    """A run; `metrics` and `config` are added to the usual ones."""
    metrics = {} if accuracy is None else {str(keys.TEST_ACCURACY): accuracy}
    fields: dict[str, Any] = {
        "run_id": f"{model}-{seed}",
        "name": f"{model}, seed {seed}",
        "model": model,
        "seed": seed,
        "data_digest": "d" * 64,
        "machine": MACHINE,
        "version": "0.1.0",
        **more,
        "config": {"epochs": "5", "validation_split": "0", **more.get("config", {})},
        "metrics": metrics | more.get("metrics", {}),
    }
    return TrainingRun(**fields)


def runs(model: str, accuracies: Sequence[float | None], **more: Any) -> list[TrainingRun]:
    """One run a seed; values of metrics given as lists go by seed."""
    metrics = more.pop("metrics", {})
    return [
        run(
            model,
            seed,
            accuracy,
            metrics={
                name: value[seed] if isinstance(value, list) else value
                for name, value in metrics.items()
            },
            **more,
        )
        for seed, accuracy in enumerate(accuracies)
    ]


def grouped(*each: Sequence[TrainingRun], top: int = 10) -> tuple[Group, ...]:
    return group_runs([run for runs in each for run in runs], top).groups


def by_model(each: Sequence[Sequence[TrainingRun]]) -> dict[str, Group]:
    """Group models of which each has one configuration, such as those of many stores at once."""
    return {group.model: group for group in grouped(*each, top=1 << 20)}


def compared(
    each: Sequence[TrainingRun], details: Mapping[str, RunDetails] | None = None, **config: Any
) -> Comparison:
    settings = CompareConfig(**config)
    grouping = group_runs(each, settings.top, settings, Objective.of(settings))
    return compare("experiment", grouping.groups, details or {}, grouping.skipped, settings, REPEAT)


def correctness(
    generator: np.random.Generator,
    level: float | NDArray[np.float32],
    seeds: int,
    images: int,
    seed_effect: float = 0.02,
) -> Table:
    """Draw which images each seed of a model has right, shape (seeds, images).

    Chance has its four sources: images are hard for everybody (`level` says so, `hardness`) or for
    this model; seeds are good at everything or at an image. At a level of 3 the accuracy is about
    0.88; its standard deviation between seeds is 0.3 points then, of 10,000 images.
    """
    model_effect = generator.standard_normal(images, dtype=np.float32) * 0.8
    seed_effects = generator.standard_normal((seeds, 1), dtype=np.float32) * seed_effect
    interaction = generator.standard_normal((seeds, images), dtype=np.float32) * 0.4
    logit = level + model_effect + seed_effects + interaction
    return np.asarray(
        generator.random((seeds, images), dtype=np.float32) * (1 + np.exp(-logit)) < 1
    )


def hardness(generator: np.random.Generator, images: int) -> NDArray[np.float32]:
    """Draw how easy the images are for everybody, to add to a level."""
    return generator.standard_normal(images, dtype=np.float32) * np.float32(1.6)


def with_predictions(
    tables: Mapping[str, Table], **more: Any
) -> tuple[list[TrainingRun], dict[str, RunDetails]]:
    """Make runs, one a row, and their details; class 1 stands for every mistake."""
    everything: list[TrainingRun] = []
    details = {}
    for model, table in tables.items():
        made = runs(model, table.mean(axis=1).tolist(), **more)
        everything += made
        label = np.zeros(table.shape[1], dtype=np.int64)
        for each, row in zip(made, table, strict=True):
            predictions = Predictions(label, np.where(row, 0, 1))
            details[each.run_id] = RunDetails(predictions=predictions)
    return everything, details


def errors(
    generator: np.random.Generator, seeds: int, examples: int, scale: float = 1.0
) -> NDArray[np.float64]:
    """Draw a model's errors, shape (seeds, examples): hard examples, the model, the seed, chance.

    The standard deviation of their mean between seeds is about 2% of it.
    """
    hard = np.random.default_rng(5).gamma(2.0, 0.5, examples)  # the same for every model
    of_model = generator.normal(0, 0.3, examples)
    of_seed = 1 + generator.normal(0, 0.02, (seeds, 1))
    own = generator.normal(0, 0.8, (seeds, examples))
    return np.asarray(scale * of_seed * hard * np.abs(1 + of_model + own))


def with_errors(
    metric: str, tables: Mapping[str, NDArray[np.float64]], **costs: float
) -> tuple[list[TrainingRun], dict[str, RunDetails]]:
    """Make runs of a regression, one a row of errors, and their details; squared for a square."""
    objective = Objective(metric)
    squared = objective.quantity({}) == "squared error"
    everything: list[TrainingRun] = []
    details = {}
    for model, table in tables.items():
        values = table**2 if squared else table
        logged = objective.of_means(values.mean(axis=1)).tolist()
        made = runs(model, [None] * len(table), metrics={metric: logged, **costs})
        everything += made
        for each, row in zip(made, values, strict=True):
            details[each.run_id] = RunDetails(errors=ExampleErrors(row, b"truth"))
    return everything, details
