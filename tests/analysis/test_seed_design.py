"""A benchmark with as many seeds as needed: error rates, and what it says of each pair."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from benchmarks.seed_designs import CHOSEN, Cell, draw, rates, sequentially
from fm_mlflow.analysis.comparison import Comparison, Verdict
from fm_mlflow.analysis.design_verdicts import course_of
from fm_mlflow.analysis.earlier_looks import compared_groups, looked_before, read_groups
from fm_mlflow.analysis.examples import TestExamples, match_examples
from fm_mlflow.analysis.objective import DEFAULT
from fm_mlflow.analysis.seed_course import Course
from fm_mlflow.analysis.seed_design import SeedDesign, looks
from tests.analysis.simulated import (
    by_model,
    compared,
    correctness,
    hardness,
    runs,
    with_predictions,
)

NO_EXAMPLES = TestExamples(0, {})
DESIGN = SeedDesign(models=("a", "b"), max_seeds=20, margin=0.005, alpha=0.05)


def course(accuracies: Mapping[str, list[float]], design: SeedDesign = DESIGN) -> Course:
    groups = by_model([runs(model, values) for model, values in accuracies.items()])
    return course_of(groups, NO_EXAMPLES, DEFAULT, design)


@pytest.mark.thorough
@pytest.mark.parametrize("models", [2, 5])
def test_error_rates_and_seeds_by_simulation(models: int) -> None:
    numbers = looks(20)
    found = {}
    for difference in (0.0, 0.005, 0.02):
        cell = Cell(models, difference, 0.003, 10_000)
        scores = draw(cell, 1000, np.random.default_rng(1))
        found[difference] = rates(cell, sequentially(scores, cell, CHOSEN, numbers))
    assert max(rate.wrong_better for rate in found.values()) <= 0.05
    assert max(rate.wrong_equal for rate in found.values()) <= 0.05
    assert found[0.02].found > 0.99
    assert found[0.02].seeds <= 5


@pytest.mark.thorough
def test_the_product_decides_as_the_simulation_does() -> None:
    cell = Cell(3, 0.008, 0.003, 10**12)  # so many images that their choice is no chance
    scores = draw(cell, 25, np.random.default_rng(2))
    outcome = sequentially(scores, cell, CHOSEN, looks(20))
    design = SeedDesign(models=("m0", "m1", "m2"), max_seeds=20, margin=0.005, alpha=0.05)
    words = {"first_more": 1, "second_more": -1, "equivalent": 2, "open": 0}
    for table, word, seeds in zip(scores, outcome.word, outcome.seeds, strict=True):
        found = course({f"m{at}": row.tolist() for at, row in enumerate(table)}, design)
        assert list(found.seeds.values()) == seeds.tolist()
        pairs = combinations(design.models, 2)
        assert [words[found.pairs[pair].decision] for pair in pairs] == word.tolist()


@pytest.mark.thorough
def test_single_images_count_as_chance() -> None:
    # 300 images that happen to suit one of two equally good models: seeds alone would prove it.
    design = DESIGN.model_copy(update={"max_seeds": 8})
    wrong = 0
    for benchmark in range(12):
        random = np.random.default_rng(benchmark)
        hard = hardness(random, 300)
        tables = {model: correctness(random, 3 + hard, 8, 300) for model in ("a", "b")}
        everything, details = with_predictions(tables)
        groups = by_model([everything])
        examples = match_examples(list(groups.values()), details, DEFAULT)
        found = course_of(groups, examples, DEFAULT, design)
        wrong += found.pairs["a", "b"].decision != "open"
    assert wrong <= 1


def test_what_lacks_is_asked_for_and_nothing_more() -> None:
    assert course({}).seeds == {"a": 3, "b": 3}
    assert course({"a": [0.9, 0.91, 0.9], "b": [0.8]}).seeds == {"a": 3, "b": 3}
    clear = course({"a": [0.9, 0.901, 0.899], "b": [0.8, 0.801, 0.799]})
    assert (clear.state, clear.seeds) == ("decided", {"a": 3, "b": 3})
    assert clear.pairs["a", "b"].decision == "first_more"
    near = course({"a": [0.9, 0.91, 0.89], "b": [0.9, 0.909, 0.892]})
    assert (near.state, near.seeds) == ("training", {"a": 4, "b": 4})


def test_a_model_that_is_worse_gets_no_more_seeds() -> None:
    design = SeedDesign(models=("a", "b", "c"), max_seeds=6, margin=0.0001, alpha=0.05)
    random = np.random.default_rng(4)
    noise = random.normal(0, 0.001, (2, 6))
    found = course(
        {
            "a": (0.9 + noise[0]).tolist(),
            "b": (0.9 + noise[1]).tolist(),
            "c": [0.5, 0.5001, 0.5002],
        },
        design,
    )
    assert found.seeds == {"a": 6, "b": 6, "c": 3}
    assert found.state == "limit"
    assert found.pairs["a", "b"].seeds == 6
    assert found.pairs["a", "c"].seeds == 3


def test_the_direction_that_was_asked_for_is_part_of_the_design() -> None:
    values = {"a": [0.9, 0.901, 0.899], "b": [0.5, 0.501, 0.499], "c": [0.5, 0.501, 0.499]}
    shared: dict[str, Any] = {
        "models": ("a", "b", "c"),
        "max_seeds": 20,
        "margin": 0.005,
        "alpha": 0.05,
    }
    more, less = SeedDesign(**shared), SeedDesign(**shared, better="smaller")
    assert more != less
    assert SeedDesign.read(less.model_dump_json()) == less
    assert course(values, more).seeds == {"a": 3, "b": 3, "c": 3}
    assert course(values, less).seeds == {"a": 3, "b": 4, "c": 4}


def test_identical_results_are_equivalent_once_there_are_enough() -> None:
    # Three of a few rounded values are the same by chance; eight mean that seeds change nothing.
    few = course({"a": [0.9] * 3, "b": [0.9] * 3})
    assert (few.state, few.pairs["a", "b"].decision) == ("training", "open")
    assert course({"a": [0.9] * 8, "b": [0.9] * 8}).pairs["a", "b"].decision == "equivalent"


@pytest.mark.thorough
def test_results_without_spread_are_no_proof_of_a_difference() -> None:
    assert course({"a": [0.9] * 3, "b": [0.91] * 3}).pairs["a", "b"].decision == "open"
    assert course({"a": [0.9] * 8, "b": [0.91] * 8}).pairs["a", "b"].decision == "second_more"
    random = np.random.default_rng(3)
    wrong = 0
    for _ in range(40):  # of two equal models, logged with two decimals
        values = {model: random.normal(0.895, 0.003, 20).round(2).tolist() for model in "ab"}
        wrong += course(values).pairs["a", "b"].decision.endswith("_more")
    assert wrong <= 2


def test_few_images_that_tell_no_models_apart_are_no_proof_of_equivalence() -> None:
    for count, decision in ((10, "open"), (10_000, "equivalent")):
        right = np.ones((20, count), dtype=bool)
        everything, details = with_predictions({"a": right, "b": right})
        groups = by_model([everything])
        examples = match_examples(list(groups.values()), details, DEFAULT)
        found = course_of(groups, examples, DEFAULT, DESIGN)
        assert found.pairs["a", "b"].decision == decision


def test_the_same_seeds_give_the_same_course_whatever_came_later() -> None:
    random = np.random.default_rng(5)
    values = {model: random.normal(0.9, 0.003, 20).tolist() for model in "ab"}
    whole = course(values)
    for seeds in (3, 5, 9):
        part = course({model: each[:seeds] for model, each in values.items()})
        number = max(n for n in DESIGN.looks if n <= seeds)
        assert part.pairs["a", "b"].seeds == min(number, whole.pairs["a", "b"].seeds)


def test_a_tag_that_is_no_design_is_none() -> None:
    assert SeedDesign.read(DESIGN.model_dump_json()) == DESIGN
    good = json.loads(DESIGN.model_dump_json())
    damaged: list[dict[str, object]] = [
        {"max_seeds": 10**9},
        {"margin": 0},
        {"alpha": 2},
        {"models": []},
        {"more": 1},
    ]
    for bad in damaged:
        assert SeedDesign.read(json.dumps({**good, **bad})) is None
    assert SeedDesign.read("[" * 100_000) is None
    assert SeedDesign.read("") is None


def verdict(a: list[float], b: list[float], design: SeedDesign | None = DESIGN) -> Verdict:
    made = [
        *runs("a", a, benchmark="x", design=design),
        *runs("b", b, benchmark="x", design=design),
    ]
    return compared(made).verdicts[0]


def test_compare_gives_the_verdict_of_the_design() -> None:
    few = verdict([0.9, 0.901, 0.899], [0.8, 0.801, 0.799])
    assert (few.a, few.verdict, few.looked_at_seeds) == ("a", "a_better", 3)
    assert few.test == "group-sequential t-test"
    assert "group-sequential test, which allows for every look" in few.words
    fixed = verdict([0.9, 0.901, 0.899], [0.8, 0.801, 0.799], None)
    assert (fixed.verdict, fixed.seeds_needed) == ("not_distinguishable", 4)
    # A run of another origin: the design did not choose its seeds.
    mixed = [
        *runs("a", [0.9, 0.901, 0.899], benchmark="x", design=DESIGN),
        *runs("b", [0.8, 0.801, 0.799], benchmark="y", design=DESIGN),
    ]
    comparison = compared(mixed)
    assert comparison.verdicts[0].looked_at_seeds is None
    assert "How many seeds a and b got was decided by results" in comparison.warnings[0]


def test_the_headline_is_of_the_seeds_that_decided() -> None:
    design = SeedDesign(models=("a", "b", "c"), max_seeds=4, margin=0.001, alpha=0.05)
    made = [
        *runs("a", [0.9, 0.901, 0.899, 0.1], benchmark="x", design=design),
        *runs("b", [0.8, 0.801, 0.799], benchmark="x", design=design),
        *runs("c", [0.7, 0.701, 0.699], benchmark="x", design=design),
    ]
    found = compared(made)
    assert found.best.model == "a"
    assert "10 points more accurate than b" in found.headline


def test_of_a_fixed_number_of_seeds_too_the_difference_can_be_within_the_margin() -> None:
    random = np.random.default_rng(6)
    a, b = (random.normal(0.9, 0.001, 8).tolist() for _ in range(2))
    found = verdict(a, b, None)
    assert found.verdict == "equivalent"
    assert found.p_equivalent is not None
    assert found.p_equivalent < 0.05
    assert "equivalent within 0.5 points" in found.words
    assert "90% interval" in found.words


def test_looking_again_with_more_seeds_is_told() -> None:
    def comparison(seeds: int, design: SeedDesign | None = None) -> Comparison:
        values = [0.9, 0.91, 0.89, 0.9, 0.905][:seeds]
        made = [*runs("a", values), *runs("b", values[::-1])]
        return compared([replace(each, benchmark="x", design=design) for each in made])

    three, five = comparison(3), comparison(5)
    tag = compared_groups(three.groups)
    assert looked_before(three, [read_groups(tag)]) is None  # the same again is no other look
    warning = looked_before(five, [read_groups(tag), read_groups(tag)])
    assert warning is not None
    assert "in 1 way" in warning
    assert looked_before(comparison(5, DESIGN), [read_groups(tag)]) is None
    assert read_groups("x" * 9000 + " abc:1 0123456789ab:99999999999") == {}
