"""The first lines of a comparison: which model to take, and the evidence for it."""

from __future__ import annotations

from collections.abc import Sequence

from fm_mlflow.analysis.comparison import Best, Group, Verdict
from fm_mlflow.analysis.costs import TITLES
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.prose.words import (
    difference,
    difference_interval,
    figure,
    is_fraction,
    listed,
    nearly_equal,
    p_text,
    significant,
)
from fm_mlflow.analysis.ranking import are_equivalent
from fm_mlflow.analysis.statistics.significance import ALPHA

_MOST_CONTENDERS = 3


def headline(
    groups: Sequence[Group], verdicts: Sequence[Verdict], best: Best, objective: Objective
) -> str:
    """Return the decision in one plain sentence: which model, and at what price.

    Args:
        groups: The best first.
        verdicts: By the compared metric and by costs.
        best: The decision.
        objective: The metric.
    """
    ranked = [group for group in groups if group.ranked]
    if best.model is None:
        return f"Take none. {best.reason}"
    if len(ranked) == 1:
        return f"Take {best.model}: there is no other model to compare it with."
    other = _other(ranked, best)
    if other is None:
        return f"Take {best.model}: no other of {len(ranked):,} models is within the bounds."
    chosen = next(group for group in ranked if group.name == best.model)
    price = _price(chosen, other, verdicts, best)
    verdict = _between(chosen, other, verdicts, objective.metric)
    if len(best.contenders) == 1:
        of_all = f", the next of {len(ranked):,} models" if len(ranked) > 2 else ""
        return f"Take {best.model}: {_gain(chosen, other, verdict, objective)}{of_all}{price}."
    equals = listed([name for name in best.contenders if name != best.model], _MOST_CONTENDERS)
    few = " by so few seeds" if verdict is not None and verdict.seeds_needed is not None else ""
    alike = f"not distinguishable from {equals} in {objective.short}{few}"
    if are_equivalent(best.contenders, verdicts, objective.metric):
        alike = f"equivalent to {equals} in {objective.short}"
    return f"Take {best.model}: {alike}{price}."


def evidence(
    groups: Sequence[Group], verdicts: Sequence[Verdict], best: Best, objective: Objective
) -> str:
    """Return what the decision rests on in one line: the values, interval, test, seeds.

    It is about the chosen model and the one that the headline names first. Arguments as those of
    `headline`.
    """
    ranked = [group for group in groups if group.ranked]
    chosen = next((group for group in ranked if group.name == best.model), None)
    if chosen is None:
        return ""
    other = _other(ranked, best)
    value = f"{objective.heading} {_value(chosen, objective)}"
    if other is None:
        return f"{value}, {_over(chosen, objective)}."
    verdict = _between(chosen, other, verdicts, objective.metric)
    head = f"{value} against {_value(other, objective)}"
    if verdict is None:
        return f"{head}, {_over(chosen, objective)}."
    return f"{head}; {'; '.join(_support(verdict, chosen, other, objective))}."


def _other(ranked: Sequence[Group], best: Best) -> Group | None:
    """Return the model that the chosen one is held against: an equal, or the next within bounds."""
    named = {group.name: group for group in ranked}
    for name in best.contenders:
        if name != best.model:
            return named[name]
    others = (g for g in ranked if g.name != best.model and g.name not in best.excluded)
    return next((group for group in others if group.detailed), None)


def _between(a: Group, b: Group, verdicts: Sequence[Verdict], metric: str) -> Verdict | None:
    pair = {a.name, b.name}
    return next((v for v in verdicts if v.metric == metric and {v.a, v.b} == pair), None)


def _gain(chosen: Group, other: Group, verdict: Verdict | None, objective: Objective) -> str:
    metric = objective.metric
    gap = abs(chosen.metrics[metric].mean - other.metrics[metric].mean)
    if verdict is not None and verdict.looked_at_seeds is not None:
        gap = abs(verdict.difference)  # the chosen may have had more seeds since
    if objective.is_accuracy:
        return f"{_short(100 * gap)} points more accurate than {other.name}"
    return (
        f"its {objective.short} is {figure(metric, gap)} {objective.direction} than {other.name}'s"
    )


def _price(chosen: Group, other: Group, verdicts: Sequence[Verdict], best: Best) -> str:
    """Say what the choice costs beside the other model, as far as that can be compared."""
    title = TITLES[best.cost]
    verdict = _between(chosen, other, verdicts, best.cost)
    unknown = [group.name for group in (chosen, other) if best.cost not in group.metrics]
    if unknown:
        return f"; {title} not measured{f' in {unknown[0]}' if len(unknown) == 1 else ''}"
    if verdict is None or not verdict.test:
        return f"; {title} cannot be compared"
    own, others = (group.metrics[best.cost].mean for group in (chosen, other))
    low, high = sorted((own, others))
    if nearly_equal(high, low):
        return f", at the same {title}"
    if verdict.verdict == "not_distinguishable":
        return f", with no clear difference in {title}"
    if low <= 0:
        return f", at {'more' if own > others else 'less'} {title}"
    return f", at {_short(own / others)} times the {title}"


def _short(value: float) -> str:
    """Return a number with two significant digits: enough for a sentence."""
    return f"{value:,.{significant(value, 2)}f}"


def _value(group: Group, objective: Objective) -> str:
    return figure(objective.metric, group.metrics[objective.metric].mean)


def _over(group: Group, objective: Objective) -> str:
    runs = group.metrics[objective.metric].n
    return f"mean of {runs} runs" if runs > 1 else "one run"


def _support(verdict: Verdict, chosen: Group, other: Group, objective: Objective) -> list[str]:
    """Return interval, test and seeds, a part each."""
    metric = objective.metric
    counts = [group.metrics[metric].n for group in (chosen, other)]
    parts = []
    if verdict.ci_low is not None and verdict.ci_high is not None:
        low, high = verdict.ci_low, verdict.ci_high
        if high < 0 or (low < 0 and verdict.a != chosen.name):  # a gap has no sign
            low, high = -high, -low
        signed = difference_interval(metric, low, high)
        points = " points" if is_fraction(metric) else ""
        interval = signed.replace("+", "") if low > 0 else signed
        which = "95% interval" if verdict.looked_at_seeds is None else "interval at all looks"
        parts.append(f"{which} of the difference {interval}{points}")
    if counts == [1, 1]:
        if verdict.p_value is not None:
            parts.append(f"{verdict.test}, {p_text(verdict.p_value)}")
        needed = f"; {verdict.seeds_needed} seeds each could" if verdict.seeds_needed else ""
        parts.append(f"one run each, which says nothing of the architectures{needed}")
        return parts
    if verdict.looked_at_seeds is not None:
        counts = [verdict.looked_at_seeds] * 2
    seeds = (
        f"{counts[0]} seeds each"
        if counts[0] == counts[1]
        else f"{counts[0]} and {counts[1]} seeds"
    )
    if verdict.seeds_needed is not None:
        result = (
            f"no result of {seeds} could reach p < {ALPHA:g}, {verdict.seeds_needed} each could"
        )
        return [*parts, result]
    if verdict.verdict == "equivalent" and verdict.p_equivalent is not None:
        margin = difference(metric, verdict.margin or 0.0).removeprefix("+")
        test = f"less than {margin} by two one-sided t-tests, {p_text(verdict.p_equivalent)}"
        return [*parts, test, seeds]
    if verdict.p_value is not None:
        holm = ", after Holm's correction" if verdict.p_value != verdict.p_unadjusted else ""
        parts.append(f"{verdict.test}, {p_text(verdict.p_value)}{holm}")
    return [*parts, seeds, *([verdict.outlook] if verdict.outlook else [])]
