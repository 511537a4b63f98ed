"""The answer in two sentences: who is more accurate, and whom to take."""

from __future__ import annotations

from collections.abc import Sequence

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Best, Group, Verdict
from fm_mlflow.analysis.costs import COSTS
from fm_mlflow.analysis.prose.words import figure, listed


def summarise(groups: Sequence[Group], verdicts: Sequence[Verdict], best: Best) -> str:
    """Return the answer in two sentences.

    Args:
        groups: Most accurate first.
        verdicts: On test accuracy and on costs.
        best: The decision.
    """
    ranked = [group for group in groups if group.ranked]
    if not ranked:
        return "No run has a test accuracy that could be compared. There is nothing to decide."
    if len(ranked) == 1:
        end = best.reason if best.model is None else "There is nothing to compare it with."
        return f"There is one model, {scored(ranked[0])}. {end}"
    return f"{most_accurate(ranked, verdicts)} {_decision(verdicts, best)}"


def scored(group: Group) -> str:
    """Name a group with its test accuracy."""
    accuracy = group.metrics[keys.TEST_ACCURACY]
    over = f"mean of {accuracy.n} runs" if accuracy.n > 1 else "one run"
    value = figure(keys.TEST_ACCURACY, accuracy.mean)
    return f"{group.name} with a test accuracy of {value} ({over})"


def most_accurate(ranked: Sequence[Group], verdicts: Sequence[Verdict]) -> str:
    """Say in one sentence how the most accurate of several groups differs from the others."""
    leader = ranked[0].name
    against = {
        verdict.b if verdict.a == leader else verdict.a: verdict
        for verdict in verdicts
        if verdict.metric == keys.TEST_ACCURACY and leader in (verdict.a, verdict.b)
    }
    if len(ranked) == 2 and against:
        return next(iter(against.values())).words
    equals = [n for n, verdict in against.items() if verdict.verdict == "not_distinguishable"]
    head = f"{scored(ranked[0])} is the most accurate of {len(ranked):,} models"
    if not equals:
        rest = "" if len(against) == len(ranked) - 1 else f" of the {len(against)} next"
        return f"{head}, better than each{rest}."
    too_few = any(against[name].seeds_needed is not None for name in equals)
    return (
        f"{head}, but not distinguishable from {listed(equals)}"
        f"{', of some with too few seeds to tell' if too_few else ''}."
    )


def _decision(verdicts: Sequence[Verdict], best: Best) -> str:
    if best.model is None:
        return best.reason
    title = next(cost.title for cost in COSTS if cost.key == best.cost)
    if len(best.contenders) == 1:
        within = " within the bounds" if best.excluded else ""
        price = _price(verdicts, best, title)
        return f"Take {best.model}: nothing{within} comes near its accuracy{price}."
    leader = best.contenders[0]
    if best.model != leader:
        weak = any(
            {verdict.a, verdict.b} == {leader, best.model} and verdict.seeds_needed is not None
            for verdict in verdicts
            if verdict.metric == keys.TEST_ACCURACY
        )
        doubt = f"; more seeds may show that {leader} is better" if weak else ""
        return (
            f"Take {best.model}: of those that cannot be told apart it costs the least in "
            f"{title}{doubt}."
        )
    return f"Take {leader}: none of those that cannot be told apart costs less in {title}."


def _price(verdicts: Sequence[Verdict], best: Best, title: str) -> str:
    """Say what the choice costs compared with the next model, where that is known."""
    verdict = next((v for v in verdicts if v.metric == best.cost and best.model == v.a), None)
    if verdict is None or verdict.verdict == "not_distinguishable":
        return ""
    return (
        f", and {verdict.b} costs more in {title}"
        if verdict.verdict == "a_better"
        else f", though {verdict.b} costs less in {title}"
    )
