"""The decision: which group to take, and which run of it."""

from __future__ import annotations

from collections.abc import Sequence

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Best, Group, Verdict
from fm_mlflow.analysis.costs import COSTS, Cost, incomparable
from fm_mlflow.analysis.grouping import exceeded
from fm_mlflow.analysis.prose.words import capitalised, counted, figure, listed
from fm_mlflow.analysis.records import TrainingRun
from fm_mlflow.selection import Choice


def choose_best(groups: Sequence[Group], verdicts: Sequence[Verdict], choice: Choice) -> Best:
    """Choose the most accurate group within bounds; of those as good as it, the cheapest.

    Args:
        groups: As `group_runs` gives them; with the bounds of `choice`, because only detailed
            groups are compared and can be chosen.
        verdicts: On the test accuracy of all pairs of detailed groups.
        choice: The cost that decides, and the bounds.
    """
    ranked = [group for group in groups if group.ranked]
    excluded = {group.name: reason for group in ranked if (reason := exceeded(group, choice))}
    candidates = [group for group in ranked if group.detailed and group.name not in excluded]
    if not candidates:
        reason = "No model has a test accuracy."
        if ranked:
            reason = f"Every model exceeds a bound ({counted(len(ranked), 'model')})."
        return Best(None, None, reason, choice.cost, (), excluded)
    leader = candidates[0]
    equals = {
        verdict.b if verdict.a == leader.name else verdict.a: verdict
        for verdict in verdicts
        if leader.name in (verdict.a, verdict.b) and verdict.verdict == "not_distinguishable"
    }
    contenders = [group for group in candidates if group is leader or group.name in equals]
    cost = next(cost for cost in COSTS if cost.key == choice.cost)
    chosen, why = _cheapest(contenders, cost)
    weak = any(equals[group.name].seeds_needed is not None for group in contenders[1:])
    run, which = _run_of(chosen)
    reason = f"{_rank(chosen, contenders, len(candidates), why, weak)} {which}"
    names = tuple(group.name for group in contenders)
    return Best(chosen.name, run.run_id, reason, choice.cost, names, excluded)


def _cheapest(contenders: Sequence[Group], cost: Cost) -> tuple[Group, str]:
    """Return the cheapest of groups, most accurate first, and the reason."""
    leader = contenders[0]
    priced = [group for group in contenders if cost.key in group.metrics]
    if not priced:
        return leader, f"{cost.title} is not measured in any, so the most accurate is taken"
    reason = incomparable(cost, [run for group in priced for run in group.runs])
    if reason:
        return leader, f"{cost.title} cannot decide, because {reason}; the most accurate is taken"
    # min takes the first of equals: the more accurate.
    cheapest = min(priced, key=lambda group: group.metrics[cost.key].mean)
    price = figure(cost.key, cheapest.metrics[cost.key].mean)
    words = f"it is the cheapest of them by {cost.title} ({price})"
    if len(priced) < len(contenders):
        unpriced = [group.name for group in contenders if group not in priced]
        words += f", which is not measured in {listed(unpriced)}"
    return cheapest, words


def _rank(chosen: Group, contenders: Sequence[Group], candidates: int, why: str, weak: bool) -> str:
    leader = contenders[0]
    accuracy = leader.metrics[keys.TEST_ACCURACY]
    value = figure(keys.TEST_ACCURACY, accuracy.mean)
    over = f"mean of {accuracy.n} runs" if accuracy.n > 1 else "one run"
    if candidates == 1:
        return f"The only model to choose from: test accuracy {value} ({over})."
    if len(contenders) == 1:
        return (
            f"The most accurate of {candidates} that were compared pair by pair, and "
            f"distinguishable from every other: test accuracy {value} ({over})."
        )
    others = [group.name for group in contenders[1:]]
    few = ", with too few seeds to tell" if weak else ""
    named = f"{leader.name} ({value}, {over})"
    head = f"The most accurate, {named}, is not distinguishable from {listed(others)}{few}"
    return f"{head}; {why}." if chosen is leader else f"{head}; {chosen.name}: {why}."


def _run_of(group: Group) -> tuple[TrainingRun, str]:
    """Return the run to take, and by which rule."""
    scored = [run for run in group.runs if keys.TEST_ACCURACY in run.metrics]
    if len(scored) == 1:
        return scored[0], f"Run {scored[0].run_id} is its only one."
    if _held_out(group) and all(keys.VAL_ACCURACY in run.metrics for run in scored):
        metric, what = keys.VAL_ACCURACY, "final accuracy on the held-out validation images"
        caution = ""
    else:
        metric, what = keys.TEST_ACCURACY, "test accuracy"
        mean = figure(metric, group.metrics[metric].mean)
        caution = f"; chosen by the test set, this figure flatters: expect {mean}"
    run = max(scored, key=lambda run: run.metrics[metric])
    value = figure(metric, run.metrics[metric])
    return run, capitalised(f"run {run.run_id} of it has the highest {what} ({value}){caution}.")


def _held_out(group: Group) -> bool:
    try:
        return float(group.config.get("validation_split", "0")) > 0
    except ValueError:  # a parameter of that name that other software logged
        return False
