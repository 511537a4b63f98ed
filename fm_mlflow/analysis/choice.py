"""The decision: which group to take, and which run of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fm_mlflow.analysis.comparison import Best, Comparison, Group, Verdict
from fm_mlflow.analysis.costs import COSTS, Cost, incomparable
from fm_mlflow.analysis.grouping import exceeded
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.prose.words import capitalised, counted, figure, listed
from fm_mlflow.analysis.ranking import leading, shown_worse
from fm_mlflow.analysis.records import TrainingRun
from fm_mlflow.settings.selection import Choice

_SAME = 1e-6
"""Relative difference of two values of a metric on the same data: what rounding leaves."""


def choose_best(
    groups: Sequence[Group], verdicts: Sequence[Verdict], choice: Choice, objective: Objective
) -> Best:
    """Choose the best group within bounds; of those as good as it, the cheapest.

    Args:
        groups: As `group_runs` gives them; with the bounds of `choice`, because only detailed
            groups are compared and can be chosen.
        verdicts: By the compared metric, on all pairs of detailed groups.
        choice: The cost that decides, and the bounds.
        objective: The metric.
    """
    ranked = [group for group in groups if group.ranked]
    excluded = {group.name: reason for group in ranked if (reason := exceeded(group, choice))}
    candidates = [group for group in ranked if group.detailed and group.name not in excluded]
    if not candidates:
        reason = f"No model has {objective.one}."
        if ranked:
            reason = f"Every model exceeds a bound ({counted(len(ranked), 'model')})."
        return Best(None, None, reason, choice.cost, (), excluded)
    leader = leading(candidates, verdicts)
    equals = {
        verdict.b if verdict.a == leader.name else verdict.a: verdict
        for verdict in verdicts
        if leader.name in (verdict.a, verdict.b) and not verdict.is_shown
    }
    # Of a pair of which one is worse than a third, nobody asked for more: it can stay open.
    worse = shown_worse(candidates, verdicts)
    others = [g for g in candidates if g is not leader and g.name in equals.keys() - worse]
    contenders = [leader, *others]
    cost = next(cost for cost in COSTS if cost.key == choice.cost)
    chosen, why = _cheapest(contenders, cost, objective)
    known = [equals[group.name] for group in others]
    run, which = _run_of(chosen, objective)
    is_open = any(group.name in equals for group in candidates)
    rank = _rank(chosen, contenders, len(candidates), why, known, objective, is_open=is_open)
    reason = f"{rank} {which}"
    names = tuple(group.name for group in contenders)
    return Best(chosen.name, run.run_id, reason, choice.cost, names, excluded, which)


def chosen_run(comparison: Comparison) -> TrainingRun | None:
    """Return the run that a comparison chose; None where no group qualifies."""
    runs = (run for group in comparison.groups for run in group.runs)
    return next((run for run in runs if run.run_id == comparison.best.run_id), None)


def _cheapest(contenders: Sequence[Group], cost: Cost, objective: Objective) -> tuple[Group, str]:
    """Return the cheapest of groups, the best first, and the reason."""
    leader = contenders[0]
    priced = [group for group in contenders if cost.key in group.metrics]
    if not priced:
        return leader, f"{cost.title} is not measured in any, so the {objective.best} is taken"
    reason = incomparable(cost, [run for group in priced for run in group.runs])
    if reason:
        taken = f"the {objective.best} is taken"
        return leader, f"{cost.title} cannot decide, because {reason}; {taken}"
    # min takes the first of equals: the better.
    cheapest = min(priced, key=lambda group: group.metrics[cost.key].mean)
    price = figure(cost.key, cheapest.metrics[cost.key].mean)
    words = f"it is the cheapest of them by {cost.title} ({price})"
    if len(priced) < len(contenders):
        unpriced = [group.name for group in contenders if group not in priced]
        words += f", which is not measured in {listed(unpriced)}"
    return cheapest, words


def _rank(
    chosen: Group,
    contenders: Sequence[Group],
    candidates: int,
    why: str,
    equals: Sequence[Verdict],
    objective: Objective,
    *,
    is_open: bool,
) -> str:
    leader = contenders[0]
    statistic = leader.metrics[objective.metric]
    value = figure(objective.metric, statistic.mean)
    over = f"mean of {statistic.n} runs" if statistic.n > 1 else "one run"
    if candidates == 1:
        return f"The only model to choose from: {objective.title} {value} ({over})."
    if len(contenders) == 1:
        known = "distinguishable from every other"
        if is_open:
            known = "every other is shown to be worse than one of them"
        return (
            f"The {objective.best} of {candidates} that were compared pair by pair, and {known}: "
            f"{objective.title} {value} ({over})."
        )
    others = [group.name for group in contenders[1:]]
    weak = any(verdict.seeds_needed is not None for verdict in equals)
    few = ", with too few seeds to tell" if weak else ""
    named = f"{leader.name} ({value}, {over})"
    equal = all(verdict.verdict == "equivalent" for verdict in equals)
    is_ = "is equivalent to" if equal else "is not distinguishable from"
    head = f"The {objective.best}, {named}, {is_} {listed(others)}{few}"
    return f"{head}; {why}." if chosen is leader else f"{head}; {chosen.name}: {why}."


def _run_of(group: Group, objective: Objective) -> tuple[TrainingRun, str]:
    """Return the run to take, and by which rule."""
    metric = objective.metric
    scored = [run for run in group.runs if metric in run.metrics]
    if len(scored) == 1:
        return scored[0], f"Run {scored[0].run_id} is its only one."
    what, caution = objective.title, ""
    if _held_out(scored, objective):
        metric = objective.validation
        what = (
            "accuracy on the held-out validation images"
            if objective.is_accuracy
            else f"{metric}, on held-out validation data"
        )
    else:
        by = "test set" if objective.is_of_test_set else "same data"
        mean = figure(metric, group.metrics[metric].mean)
        caution = f"; chosen by the {by}, this figure flatters: expect {mean}"
    run = max(scored, key=lambda run: objective.gain(run.metrics[metric]))
    value = figure(metric, run.metrics[metric])
    which = f"run {run.run_id} of it has the {objective.extreme} {what} ({value}){caution}."
    return run, capitalised(which)


def _held_out(runs: Sequence[TrainingRun], objective: Objective) -> bool:
    """Tell whether runs can be chosen among by data that they were not tested on.

    A script may call its test set held out: then the two values are the same in each run.
    """
    test, validation = objective.metric, objective.validation
    if test == validation or not all(run.held_out and validation in run.metrics for run in runs):
        return False
    pairs = [(run.metrics[test], run.metrics[validation]) for run in runs]
    return not all(math.isclose(*pair, rel_tol=_SAME) for pair in pairs)
