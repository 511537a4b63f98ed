"""Rounds of a search: the same for the same seed and results; who goes on; what is learnt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

from fm_mlflow.search.fronts import front
from fm_mlflow.search.halving import NEW_A_ROUND, Search
from fm_mlflow.search.proposals import importances
from fm_mlflow.search.trials import Piece, Trial
from fm_mlflow.settings.space import Float, Int, OneOf, Range

SPACE: dict[str, Range] = {
    "width": Int(8, 256, log=True),
    "rate": Float(3e-4, 3e-2, log=True),
    "kind": OneOf("relu", "gelu"),
}
DEFAULTS = {"width": "64", "rate": "0.001", "kind": "relu"}
SEARCH = Search(SPACE, DEFAULTS, (1, 2, 4), trials=20, seed=3, sampler="tpe")


Rounds = tuple[list[Trial], list[list[Piece]]]


def result(piece: Piece, before: Trial | None) -> Trial:
    """Return what a trial would show: wide is dear and better, one rate is best."""
    width, rate = int(piece.settings["width"]), float(piece.settings["rate"])
    trial = before or Trial(piece.number, piece.settings, is_default=piece.is_default)
    if width > 200:
        return replace(trial, cost=float(width), bounded="too wide")
    if rate > 0.025:
        return replace(trial, cost=float(width), failed="it diverged")
    value = 1 - 1 / width - 0.1 * abs(math.log10(rate) + 2.5) - 0.1 / piece.epochs
    return replace(trial, cost=float(width), values={**trial.values, piece.epochs: value})


def run(search: Search, rounds: int = 100) -> Rounds:
    known: list[Trial] = []
    done = []
    for turn in range(rounds):
        pieces = search.next_round(known, turn)
        if not pieces:
            break
        done.append(pieces)
        results = {p.number: result(p, dict(enumerate(known)).get(p.number)) for p in pieces}
        known = [results.pop(trial.number, trial) for trial in known]
        known += [results[number] for number in sorted(results)]
    return known, done


@pytest.fixture(scope="module")
def short() -> Rounds:
    """The trials and rounds of `SEARCH`."""
    return run(SEARCH)


@pytest.fixture(scope="module")
def long() -> list[Trial]:
    """The trials of a search of three times as many."""
    return run(replace(SEARCH, trials=60))[0]


def test_the_same_seed_gives_the_same_rounds_and_another_others(short: Rounds) -> None:
    known, rounds = short
    assert (known, rounds) == run(SEARCH)
    assert rounds != run(replace(SEARCH, seed=4))[1]
    assert [trial.number for trial in known] == list(range(20))
    assert len({tuple(trial.settings.items()) for trial in known}) == 20


def test_a_round_depends_on_the_results_before_it_alone(short: Rounds) -> None:
    known, _ = run(SEARCH, rounds=2)
    assert SEARCH.next_round(known, 2) == short[1][2]
    other = [replace(trial, values={1: 0.1}) if trial.number == 3 else trial for trial in known]
    assert SEARCH.next_round(other, 2) != short[1][2]


def test_the_default_comes_first_and_always_goes_on(short: Rounds) -> None:
    known, rounds = short
    assert rounds[0][0] == Piece(0, DEFAULTS, 1, is_default=True)
    assert len(rounds[0]) == NEW_A_ROUND
    assert known[0].epochs == 4


def test_about_half_goes_on_and_neither_bounded_nor_failed_trials_do(long: list[Trial]) -> None:
    trained = [trial for trial in long if trial.values]
    further = [trial for trial in trained if trial.epochs > 1]
    assert len(trained) / 3 < len(further) < len(trained) * 0.75
    # Rounds decide by what they know, so that one may go on that later ones pass.
    assert {trial.epochs for trial in long} == {0, 1, 2, 4}
    assert all(trial.epochs == 0 for trial in long if trial.bounded or trial.failed)


def test_bounds_and_results_are_learnt_from(long: list[Trial]) -> None:
    late = [trial for trial in long if trial.number >= 30]
    assert sum(bool(trial.bounded) for trial in late) <= 2
    learnt, _ = run(replace(SEARCH, trials=60, sampler="random"))

    def near(trials: list[Trial]) -> int:
        return sum(abs(math.log10(float(t.settings["rate"])) + 2.5) < 0.25 for t in trials[30:])

    assert near(long) > near(learnt)


def test_a_space_that_holds_no_more_ends_the_search() -> None:
    small: Mapping[str, Range] = {"kind": OneOf("relu", "gelu")}
    search = Search(small, {"kind": "relu"}, (1,), trials=9, seed=0, sampler="tpe")
    known: list[Trial] = []
    turn = 0
    while pieces := search.next_round(known, turn):
        known += [Trial(p.number, p.settings, 1.0, {1: 0.5}) for p in pieces]
        turn += 1
    assert [trial.settings["kind"] for trial in known] == ["relu", "gelu"]


@pytest.mark.thorough
def test_what_matters_is_found_important(long: list[Trial]) -> None:
    shares, reason = importances(SPACE, long)
    assert reason == ""
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["kind"] < min(shares["width"], shares["rate"])
    alike = [replace(trial, values={1: 0.5}) for trial in long]
    assert importances(SPACE, alike)[0] == {}


def test_fronts_improve_with_trials(long: list[Trial]) -> None:
    few, many = front(run(replace(SEARCH, trials=6))[0]), front(long)
    assert max(trial.value or 0 for trial in many) >= max(trial.value or 0 for trial in few)
