"""How often designs of a benchmark are wrong, what they find and what they take, by simulation.

    python -m benchmarks.seed_designs [--benchmarks 2000] [--part choice|table|robust]
        [--models 2] [--images 300]

A benchmark's models score truth + choice of test images + seed + chance of the seed on the images.
The first model is better than the others, which are equal, by the stated difference. All is drawn
at once for all benchmarks: normal means instead of single images, whose variances are those of two
networks on Fashion-MNIST. `tests/analysis/test_seed_design.py` runs the product's own code on the
benchmarks of this script and on single images. The tables are those of docs/statistics.md.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fm_mlflow.analysis.seed_design import looks
from fm_mlflow.analysis.statistics import sequential

Array = NDArray[np.float64]

ALPHA = 0.05
MARGIN = 0.005
MOST = 20

OF_MODEL = 0.015
"""Variance over images of how likely a model is to be right beyond what is common to models."""

OF_CHANCE = 0.025
"""Mean variance of being right on an image, over the seeds of a model."""

_SPLITS = 1000


@dataclass(frozen=True)
class Cell:
    """What is simulated.

    Attributes:
        models: How many.
        difference: By which the first is better, a share.
        sd: Of the seeds' true effects, a share.
        images: Of the test set.
        seeds: How the seeds' effects are distributed: `normal`, `heavy` (t with 3 degrees),
            `failing` (one in ten is worse by 5 SD) or `unequal` (the others vary by a third).
    """

    models: int
    difference: float
    sd: float
    images: int
    seeds: str = "normal"


def draw(cell: Cell, benchmarks: int, random: np.random.Generator) -> Array:
    """Draw accuracies, shape (benchmarks, models, seeds)."""
    shape = (benchmarks, cell.models, MOST)
    effects = random.standard_normal(shape)
    if cell.seeds == "heavy":
        effects = random.standard_t(3, shape) / np.sqrt(3)
    elif cell.seeds == "failing":
        effects = (effects - 5 * (random.random(shape) < 0.1) + 0.5) / np.sqrt(1 + 25 * 0.09)
    elif cell.seeds == "unequal":
        effects[:, 1:] /= 3
    truth = np.zeros((cell.models, 1))
    truth[0] = cell.difference
    of_images = random.normal(0, np.sqrt(OF_MODEL / cell.images), (benchmarks, cell.models, 1))
    chance = random.normal(0, np.sqrt(OF_CHANCE / cell.images), shape)
    return np.asarray(0.8 + truth + of_images + cell.sd * effects + chance)


@dataclass(frozen=True)
class Evidence:
    """The difference of a pair of models by their first seeds, shapes (benchmarks,)."""

    difference: Array
    error: Array
    degrees: Array

    def p_different(self) -> Array:
        """Two-sided."""
        return np.asarray(2 * special.stdtr(self.degrees, -np.abs(self.difference) / self.error))

    def p_apart(self) -> Array:
        """Of the hypothesis that the difference is not within the margin."""
        inside = MARGIN - np.abs(self.difference)
        return np.asarray(special.stdtr(self.degrees, -inside / self.error))


def evidence(a: Array, b: Array, images: int, *, cautious: bool) -> Evidence:
    """Return what the product's interval of seeds and images comes to, in closed form.

    Args:
        a: Accuracies of a model, shape (benchmarks, seeds).
        b: Of another.
        images: Of the test set.
        cautious: With the degrees of freedom of a design instead of Welch's.
    """
    n = a.shape[1]
    parts = [np.var(each, axis=1, ddof=1) / n for each in (a, b)]
    # What single seeds do on single images counts twice, as in the resampling.
    of_images = np.full(len(a), (2 * OF_MODEL + 2 * OF_CHANCE / n) / images)
    variance = of_images + parts[0] + parts[1]
    of_seeds = parts[0] ** 2 + parts[1] ** 2
    if cautious:
        of_seeds = (parts[0] + parts[1]) ** 2
    degrees = variance**2 / (of_seeds / (n - 1) + of_images**2 / (images - 1))
    degrees = np.maximum(n - 1, degrees)
    return Evidence(a.mean(axis=1) - b.mean(axis=1), np.sqrt(variance), degrees)


@dataclass(frozen=True)
class Outcome:
    """What a design found: shapes (benchmarks, pairs) and (benchmarks, models).

    Attributes:
        word: 1: the first of the pair is better, -1: the second, 2: equivalent, 0: open.
        seeds: Of each model.
    """

    word: NDArray[np.int64]
    seeds: NDArray[np.int64]


Worth = Callable[[Array, int, Sequence[int]], Array]
"""What a two-sided p-value at a look is worth: p, number of the look, seeds at each look."""


def by_spending(power: float) -> Worth:
    """Alpha spending, alpha x t^power."""

    def worth(p: Array, look: int, numbers: Sequence[int]) -> Array:
        nominal = sequential.nominal_levels(tuple(numbers), power)[:, look]
        return _interpolated(p, nominal)

    return worth


def by_obrien_fleming(p: Array, look: int, numbers: Sequence[int]) -> Array:
    """Lan and DeMets' spending that is like the bounds of O'Brien and Fleming."""
    shares = np.array(numbers) / numbers[-1]
    levels = np.minimum(sequential._LEVELS, 0.9999)[:, None]
    spent = np.minimum(4 * special.ndtr(special.ndtri(levels / 4) / np.sqrt(shares)), levels)
    key = tuple(numbers)
    if key not in _OBRIEN_FLEMING:
        _OBRIEN_FLEMING[key] = sequential.boundaries(shares, np.diff(spent, axis=1, prepend=0.0))
    return _interpolated(p, _OBRIEN_FLEMING[key][:, look])


_OBRIEN_FLEMING: dict[tuple[int, ...], Array] = {}


def anytime(p: Array, look: int, numbers: Sequence[int]) -> Array:
    """Robbins' normal mixture (Howard and others, 2021), tightest near 8 seeds."""
    n, rho = numbers[look], 1.0
    square = special.ndtri(np.clip(p, 1e-300, 1) / 2) ** 2
    return np.asarray(np.exp(-square * n / (2 * (n + rho))) * np.sqrt((n + rho) / rho)).clip(0, 1)


def every_look(p: Array, *_: object) -> Array:
    """A fixed-sample test at each look: what adding seeds until it is significant does."""
    return p


def _interpolated(p: Array, nominal: Array) -> Array:
    x, known = np.log(np.maximum(nominal, 1e-300)), np.log(sequential._LEVELS)
    return np.asarray(np.exp(np.interp(np.log(np.maximum(p, 1e-300)), x, known)))


def sequentially(scores: Array, cell: Cell, worth: Worth, numbers: Sequence[int]) -> Outcome:
    """Follow a design through all benchmarks at once."""
    count, models, _ = scores.shape
    pairs = list(itertools.combinations(range(models), 2))
    different, apart = np.ones((count, len(pairs))), np.ones((count, len(pairs)))
    word = np.zeros((count, len(pairs)), dtype=np.int64)
    seeds = np.full((count, models), numbers[0])
    contending = np.ones((count, models), dtype=bool)
    for look, n in enumerate(numbers):
        open_ = _open(word, contending, pairs)
        if not open_.any():
            break
        signs = np.zeros_like(word)
        for index, (a, b) in enumerate(pairs):
            looked = open_[:, index]
            seeds[looked, a] = seeds[looked, b] = n
            found = evidence(scores[:, a, :n], scores[:, b, :n], cell.images, cautious=True)
            signs[:, index] = np.sign(found.difference)
            one = worth(found.p_different(), look, numbers)
            two = worth(np.minimum(1, 2 * found.p_apart()), look, numbers) / 2
            different[looked, index] = np.minimum(different[looked, index], one[looked])
            apart[looked, index] = np.minimum(apart[looked, index], two[looked])
        better = open_ & (holm(different) < ALPHA)
        word[better] = signs[better]
        word[open_ & ~better & (holm(apart) < ALPHA)] = 2
        for index, (a, b) in enumerate(pairs):
            contending[word[:, index] == 1, b] = False
            contending[word[:, index] == -1, a] = False
    return Outcome(word, seeds)


def _open(
    word: NDArray[np.int64], contending: NDArray[np.bool_], pairs: Sequence[tuple[int, int]]
) -> NDArray[np.bool_]:
    both = np.stack([contending[:, a] & contending[:, b] for a, b in pairs], axis=1)
    return np.asarray(both & (word == 0))


def fixed(scores: Array, cell: Cell, seeds: int, random: np.random.Generator) -> Outcome:
    """Judge a fixed number of seeds as `compare` does: permutation and t-test, each by Holm."""
    count, models, _ = scores.shape
    pairs = list(itertools.combinations(range(models), 2))
    results = np.ones((4, count, len(pairs)))
    splits = np.sign(random.permuted(np.tile([1.0, -1.0], (_SPLITS, seeds)), axis=1))
    for index, (a, b) in enumerate(pairs):
        first, second = scores[:, a, :seeds], scores[:, b, :seeds]
        found = evidence(first, second, cell.images, cautious=False)
        both = np.concatenate([first, second], axis=1)
        both = both - both.mean(axis=1, keepdims=True)
        sums = np.abs(both @ splits.T)
        limit = np.abs(first.sum(axis=1) - second.sum(axis=1))[:, None] * (1 - 1e-9)
        p = (1 + (sums >= limit).sum(axis=1)) / (1 + _SPLITS)
        floor = 2 / special.comb(2 * seeds, seeds)
        results[:, :, index] = (
            np.maximum(p, floor), found.p_different(), found.p_apart(), np.sign(found.difference)
        )  # fmt: skip
    shown = np.maximum(holm(results[0]), holm(results[1])) < ALPHA
    word = np.where(shown, results[3], np.where(holm(results[2]) < ALPHA, 2, 0))
    return Outcome(word.astype(np.int64), np.full((count, models), seeds))


def holm(p: Array) -> Array:
    """Adjust p-values along the second axis (Holm, 1979)."""
    order = np.argsort(p, axis=1)
    factors = p.shape[1] - np.arange(p.shape[1])
    adjusted = np.maximum.accumulate(np.take_along_axis(p, order, axis=1) * factors, axis=1)
    result = np.empty_like(p)
    np.put_along_axis(result, order, np.minimum(adjusted, 1), axis=1)
    return result


@dataclass(frozen=True)
class Rates:
    """Shares of benchmarks.

    Attributes:
        wrong_better: In which any pair is called different that is not, or the wrong way round.
        wrong_equal: In which any pair is called equivalent that differs by the margin or more.
        found: Of the pairs with the first model, called rightly different.
        equal: Of the pairs whose difference is below the margin, called equivalent.
        seeds: Mean number a model.
    """

    wrong_better: float
    wrong_equal: float
    found: float
    equal: float
    seeds: float


def rates(cell: Cell, outcome: Outcome) -> Rates:
    """Hold what was found against the truth."""
    pairs = list(itertools.combinations(range(cell.models), 2))
    gaps = np.array([cell.difference if a == 0 else 0.0 for a, _ in pairs])
    word = outcome.word
    wrong = ((word == -1) | ((word == 1) & (gaps == 0))).any(axis=1)
    unequal = ((word == 2) & (gaps >= MARGIN - 1e-12)).any(axis=1)
    within = gaps < MARGIN - 1e-12
    return Rates(
        float(wrong.mean()),
        float(unequal.mean()),
        float((word == 1)[:, gaps > 0].mean()) if cell.difference else 0.0,
        float((word == 2)[:, within].mean()) if within.any() else 0.0,
        float(outcome.seeds.mean()),
    )


GRID = [
    Cell(models, difference, sd, images)
    for models in (2, 5)
    for images in (10_000, 300)
    for sd in (0.001, 0.003, 0.01)
    for difference in (0.0, 0.001, 0.0025, 0.005, 0.01, 0.02)
]

METHODS: dict[str, Worth] = {
    "O'Brien-Fleming": by_obrien_fleming,
    "spending t^3": by_spending(3),
    "spending t^2": by_spending(2),
    "spending t^1.5": by_spending(1.5),
    "spending t": by_spending(1),
    "anytime-valid": anytime,
    "every look": every_look,
}

CHOSEN = by_spending(sequential._SPENDING_POWER)


def choice(benchmarks: int, grid: Sequence[Cell]) -> None:
    """Print, for each method, the worst error rates over the grid, and power and seeds."""
    print(
        "| method | wrong better | wrong equivalent | seeds a model: 2 points, SD 0.3 | "
        "1 point | 0.5 points | none | found: 0.5 points | equivalent: none |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    numbers = looks(MOST)
    for name, worth in METHODS.items():
        found = {}
        for cell in grid:
            scores = draw(cell, benchmarks, np.random.default_rng(20_261))
            found[cell] = rates(cell, sequentially(scores, cell, worth, numbers))
        each = {d: found[Cell(2, d, 0.003, 10_000)] for d in (0.02, 0.01, 0.005, 0.0)}
        seeds = " | ".join(f"{rate.seeds:.1f}" for rate in each.values())
        better = max(rate.wrong_better for rate in found.values())
        equal = max(rate.wrong_equal for rate in found.values())
        print(
            f"| {name} | {better:.3f} | {equal:.3f} | {seeds} | {each[0.005].found:.2f} | "
            f"{each[0.0].equal:.2f} |",
            flush=True,
        )


def table(benchmarks: int, grid: Sequence[Cell]) -> None:
    """Print the grid: the design beside fixed numbers of seeds."""
    print(
        "| models | test images | seeds' SD | difference | wrong better | wrong equivalent | "
        "found | equivalent | seeds | fixed 5: wrong, found, equivalent | fixed 10 | fixed 20 |"
    )
    print("|" + "---|" * 12)
    numbers = looks(MOST)
    for cell in grid:
        random = np.random.default_rng(20_261)
        scores = draw(cell, benchmarks, random)
        ours = rates(cell, sequentially(scores, cell, CHOSEN, numbers))
        others = [rates(cell, fixed(scores, cell, n, random)) for n in (5, 10, 20)]
        beside = " | ".join(
            f"{max(r.wrong_better, r.wrong_equal):.3f}, {r.found:.2f}, {r.equal:.2f}"
            for r in others
        )
        print(
            f"| {cell.models} | {cell.images:,} | {100 * cell.sd:g} | "
            f"{100 * cell.difference:g} | {ours.wrong_better:.3f} | {ours.wrong_equal:.3f} | "
            f"{ours.found:.2f} | {ours.equal:.2f} | {ours.seeds:.1f} | {beside} |",
            flush=True,
        )


def robust(benchmarks: int, grid: Sequence[Cell]) -> None:
    """Print the design's error rates where seeds are not normal or vary unequally."""
    print("| seeds | models | wrong better | wrong equivalent |")
    print("|---|---|---|---|")
    numbers = looks(MOST)
    for kind, models in itertools.product(("heavy", "failing", "unequal"), (2, 5)):
        worst = [0.0, 0.0]
        for cell in (replace(each, seeds=kind) for each in grid if each.models == models):
            scores = draw(cell, benchmarks, np.random.default_rng(20_261))
            rate = rates(cell, sequentially(scores, cell, CHOSEN, numbers))
            worst = [max(worst[0], rate.wrong_better), max(worst[1], rate.wrong_equal)]
        print(f"| {kind} | {models} | {worst[0]:.3f} | {worst[1]:.3f} |", flush=True)


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--benchmarks", type=int, default=2000)
    parser.add_argument("--part", choices=["choice", "table", "robust"], default="table")
    parser.add_argument("--models", type=int, choices=[2, 5], help="Only cells of so many.")
    parser.add_argument("--images", type=int, choices=[300, 10_000])
    given = parser.parse_args()
    grid = [
        cell
        for cell in GRID
        if given.models in (None, cell.models) and given.images in (None, cell.images)
    ]
    {"choice": choice, "table": table, "robust": robust}[given.part](given.benchmarks, grid)


if __name__ == "__main__":
    main()
