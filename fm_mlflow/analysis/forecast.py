"""What a number of seeds can decide and costs, said before anything is trained."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from scipy import special

from fm_mlflow import keys
from fm_mlflow.analysis.prose.words import counted, listed, number, p_text
from fm_mlflow.analysis.records import TrainingRun
from fm_mlflow.analysis.seed_design import looks
from fm_mlflow.analysis.statistics.sequential import nominal_level
from fm_mlflow.analysis.statistics.significance import ALPHA, seeds_needed, smallest_p
from fm_mlflow.settings.config import BenchmarkConfig

USUAL_SD = 0.003
"""Of the accuracy between seeds, where the store has no earlier runs: small networks on
Fashion-MNIST."""

OF_IMAGES = 0.03
"""Variance over images of the difference of two models' chances to be right, as those of an MLP
and a CNN on Fashion-MNIST; divided by the number of images, it is that of the mean."""

_POWER = 0.8
_FEW = 5
"""Seeds, as an example of what an early look finds."""

_OF_COST = ("epochs", "batch_size")
"""Settings that decide how long a training takes."""


@dataclass(frozen=True)
class Earlier:
    """What earlier runs of the store say of the trainings to come.

    Attributes:
        sd: Standard deviation of the accuracy between seeds; None where it is not known.
        runs: Runs that it is of.
        seconds: Mean of a training, by model.
        flops: Mean of a whole fit, by model.
    """

    sd: float | None = None
    runs: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    flops: Mapping[str, float] = field(default_factory=dict)


def earlier(runs: Iterable[TrainingRun], config: BenchmarkConfig, digest: str) -> Earlier:
    """Summarise earlier runs on the same data.

    Args:
        runs: Finished ones, of any data and settings.
        config: Of the benchmark to come.
        digest: Of its data.
    """
    accuracies: dict[tuple[str, frozenset[tuple[str, str]]], dict[object, float]]
    accuracies = defaultdict(dict)
    seconds: dict[str, list[float]] = defaultdict(list)
    flops: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        if run.data_digest != digest:
            continue
        key = (run.model, frozenset(run.config.items()))
        if (accuracy := run.metrics.get(keys.TEST_ACCURACY)) is not None and run.seed is not None:
            accuracies[key][run.seed] = accuracy
        alike = all(run.config.get(name) == str(getattr(config, name)) for name in _OF_COST)
        if alike and run.model in config.model_names:
            if run.end_time > run.start_time and run.jobs == 1:
                seconds[run.model].append((run.end_time - run.start_time) / 1000)
            if (total := run.metrics.get(keys.FLOPS_TRAINING_TOTAL)) is not None:
                flops[run.model].append(total)
    several = {key: list(each.values()) for key, each in accuracies.items() if len(each) > 1}
    ours = {key: each for key, each in several.items() if key[0] in config.model_names}
    sd, count = _pooled_sd(list((ours or several).values()))
    return Earlier(sd, count, _means(seconds), _means(flops))


def _pooled_sd(groups: Sequence[Sequence[float]]) -> tuple[float | None, int]:
    squares, degrees = 0.0, 0
    for values in groups:
        mean = math.fsum(values) / len(values)
        squares += math.fsum((value - mean) ** 2 for value in values)
        degrees += len(values) - 1
    count = sum(map(len, groups))
    return (math.sqrt(squares / degrees), count) if squares > 0 else (None, count)


def _means(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: math.fsum(each) / len(each) for name, each in values.items()}


def forecast(config: BenchmarkConfig, images: int, known: Earlier) -> tuple[str, ...]:
    """Say in sentences what the seeds of a benchmark can decide and what they cost at most.

    Args:
        config: Of the benchmark.
        images: Of the test set; 0 where models predict numbers, whose spread nobody can assume, as
            of any metric but the accuracy.
        known: What earlier runs say.
    """
    pairs = math.comb(len(config.model_names), 2)
    is_accuracy = config.metric in ("", keys.TEST_ACCURACY) and not config.smaller_is_better
    is_known = pairs and images and is_accuracy
    decide = _can_decide(config, images, known, pairs) if is_known else ()
    return (*decide, _cost(config, known))


def found_difference(
    sd: float, seeds: int, images: int, level: float, degrees: float | None = None
) -> float:
    """Return the difference of two models that is found in 80% of cases.

    Args:
        sd: Between seeds.
        seeds: Of each, at least 2.
        images: Of the test set.
        level: Two-sided, of the test.
        degrees: Of freedom; by default those of equal variances.
    """
    of_seeds, of_images = 2 * sd**2 / seeds, OF_IMAGES / images
    freedom = degrees or 2 * (seeds - 1)
    freedom *= ((of_seeds + of_images) / of_seeds) ** 2
    quantiles = special.stdtrit(freedom, [1 - level / 2, _POWER])
    return float(quantiles.sum()) * math.sqrt(of_seeds + of_images)


def _can_decide(
    config: BenchmarkConfig, images: int, known: Earlier, pairs: int
) -> tuple[str, ...]:
    models = len(config.model_names)
    sd = known.sd or USUAL_SD
    source = f"of {counted(known.runs, 'earlier run')}" if known.sd else "assumed"
    given = f"SD between seeds {_points(sd)}, {source}; {counted(images, 'test image')}"
    corrected = f" after Holm's correction for {pairs} pairs" if pairs > 1 else ""
    if config.seeds == "auto":
        numbers = looks(config.max_seeds)
        alpha = config.alpha / pairs
        few = next((at for at, number in enumerate(numbers) if number >= _FEW), len(numbers) - 1)
        examples = [
            f"{numbers[at]} seeds find one of "
            + _points(
                found_difference(
                    sd, numbers[at], images, nominal_level(alpha, numbers, at), numbers[at] - 1
                )
            )
            for at in dict.fromkeys((few, len(numbers) - 1))
        ]
        shown = ", ".join(map(str, numbers))
        return (
            f"Looks at {shown} seeds of each model in question. Of differences, in 80% of cases "
            f"{', '.join(examples)}{corrected} ({given}).",
            _equivalence(config, sd, images, alpha),
        )
    seeds = config.seeds
    smallest = min(1.0, smallest_p(seeds, seeds) * pairs)
    each = f"{counted(seeds, 'seed')} of each of {models} models"
    if smallest >= ALPHA:
        needed = seeds_needed(pairs)
        return (
            f"{each} cannot show that one is better: {p_text(smallest)} at best{corrected}; "
            f"{needed} of each could, or --seeds auto.",
        )
    found = found_difference(sd, seeds, images, ALPHA / pairs)
    return (
        f"{each}: {p_text(smallest)} at best{corrected}; a difference of {_points(found)} is "
        f"found in 80% of cases ({given}).",
    )


def _equivalence(config: BenchmarkConfig, sd: float, images: int, alpha: float) -> str:
    """Say how many seeds show two equal models to be equivalent, in 80% of cases."""
    within = f"in 80% of cases to be equivalent within {_points(config.margin)}"
    # Both one-sided tests have to reject: each in 90%.
    quantiles = float(special.ndtri(1 - alpha) + special.ndtri((1 + _POWER) / 2))
    of_seeds = (config.margin / quantiles) ** 2 - OF_IMAGES / images
    if of_seeds <= 0:
        return f"No number of seeds shows two equal models {within}: the test images are too few."
    seeds = max(looks(config.max_seeds)[0], math.ceil(2 * sd**2 / of_seeds))
    beyond = ", beyond the limit," if seeds > config.max_seeds else ""
    return f"About {seeds} seeds{beyond} show two equal models {within}."


def _cost(config: BenchmarkConfig, known: Earlier) -> str:
    count = len(config.model_names) * config.most_seeds
    what = f"{'At most ' if config.seeds == 'auto' else ''}{counted(count, 'training')}"
    seconds, timed = _total(config, known.seconds)
    flops, counted_ = _total(config, known.flops)
    if seconds is None:
        time = f"no earlier run with these settings says how long one of {listed(timed)} takes"
    else:
        at_a_time = f", {config.jobs} at a time" if config.jobs > 1 else ""
        time = f"about {_duration(seconds / config.jobs)} by earlier runs{at_a_time}"
    if flops is None:
        return f"{what}: {time}; FLOPs of {listed(counted_)} are not known yet."
    return f"{what}: {time}; {number(keys.FLOPS_TRAINING_TOTAL, flops)}FLOPs."


def _total(
    config: BenchmarkConfig, by_model: Mapping[str, float]
) -> tuple[float | None, list[str]]:
    """Return the sum over all trainings; None, and of which models it is not known."""
    unknown = [model for model in config.model_names if model not in by_model]
    if unknown:
        return None, unknown
    return config.most_seeds * math.fsum(by_model[m] for m in config.model_names), []


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes >= 10 else f"{minutes:.1f} min"


def _points(share: float) -> str:
    return f"{100 * share:.2g} points"
