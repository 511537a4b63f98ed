"""Verdicts of a design in one sentence each, and what it decides before it has all its seeds."""

from __future__ import annotations

from fm_mlflow.analysis.comparison import Group, Verdict
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.prose.sentences import topic, within
from fm_mlflow.analysis.prose.words import (
    capitalised,
    counted,
    difference,
    difference_interval,
    p_text,
)
from fm_mlflow.analysis.seed_course import Course, PairCourse
from fm_mlflow.analysis.seed_design import SeedDesign


def not_yet(a: Group, b: Group, design: SeedDesign, objective: Objective) -> str:
    """Say that a design has not looked at two groups yet."""
    return capitalised(
        f"{topic(objective.metric, objective)}{a.name} and {b.name} are not compared yet: the "
        f"benchmark looks at {design.looks[0]} seeds of each first."
    )


def designed(verdict: Verdict, design: SeedDesign, pair: PairCourse, objective: Objective) -> str:
    """Say what a design shows of two groups.

    Args:
        verdict: Complete except for the words.
        design: The design.
        pair: What it says of the two.
        objective: The compared metric.
    """
    a, b, metric = verdict.a, verdict.b, verdict.metric
    size, low, high = verdict.difference, verdict.ci_low or 0.0, verdict.ci_high or 0.0
    if verdict.verdict == "b_better":
        a, b, size, low, high = b, a, -size, -high, -low
    lead = topic(metric, objective)
    seeds = f"{pair.seeds} seeds of each"
    family = f" after Holm's correction for {design.pairs} pairs" if design.pairs > 1 else ""
    spread = f"{difference(metric, size)}, interval {difference_interval(metric, low, high)}"
    looked = "group-sequential test, which allows for every look"
    match verdict.verdict:
        case "equivalent":
            text = (
                f"{a} and {b} are equivalent{within(objective, design.margin)}: difference "
                f"{spread} ({looked}, {p_text(pair.p_equivalent)}{family}, {seeds})."
            )
        case "not_distinguishable":
            text = (
                f"{a} and {b} are not distinguishable: difference {spread} ({looked}, "
                f"{p_text(pair.p_value)}{family}, {seeds}); {verdict.outlook}."
            )
        case _:
            text = (
                f"{a} is better than {b}: difference {spread} ({looked}, "
                f"{p_text(pair.p_value)}{family}, {seeds})."
            )
    return capitalised(lead + text)


def outlook(course: Course, pair: PairCourse, objective: Objective) -> str:
    """Say why a pair stays open and what would settle it; empty of one that is decided."""
    if pair.decision != "open":
        return ""
    if course.state == "training":
        return "the benchmark is not complete"
    if course.state == "decided":
        return "no more seeds were trained, because one of the two is worse than another model"
    if pair.would_take is None:
        return f"more seeds would probably not settle it, more test {objective.example}s could"
    return f"about {pair.would_take} seeds of each would probably settle it"


def after_look(course: Course, design: SeedDesign, names: dict[str, str]) -> str:
    """Say what a design knows so far and whom it trains next, in one line.

    Args:
        course: How far it has come.
        design: The design.
        names: What a person calls each model.
    """
    decided = []
    for (first, second), pair in course.pairs.items():
        a, b = names[first], names[second]
        if pair.decision == "equivalent":
            decided.append(f"{a} and {b} equivalent")
        elif pair.decision != "open":
            decided.append(f"{a} and {b} different")
    known = ", ".join(decided) or "nothing decided yet"
    if course.state == "training":
        most = max(course.seeds.values())
        active = [names[model] for model, seeds in course.seeds.items() if seeds == most]
        return f"{known}; next: {counted(most, 'seed')} of {', '.join(active)}"
    if course.state == "decided":
        return f"{known}; no more seeds are needed"
    return f"{known}; the limit of {design.max_seeds} seeds is reached"
