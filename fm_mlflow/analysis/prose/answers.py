"""The reference's four questions, answered from the data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Answer, ByClass, Group, Verdict
from fm_mlflow.analysis.costs import COSTS, Cost, shown_costs
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.prose.words import figure, listed, nearly_equal, times
from fm_mlflow.analysis.ranking import leading, shown_worse
from fm_mlflow.analysis.records import RunDetails

_CONVOLUTION = "Why is a convolutional network generally better for images?"

_CLASSES_NAMED = 3
_LEAST_GAIN = 0.0005
"""Smallest difference in accuracy on a class that is named: less would read as 0.000."""


def _scored(group: Group, objective: Objective) -> str:
    """Name a group with its value of the metric."""
    statistic = group.metrics[objective.metric]
    over = f"mean of {statistic.n} runs" if statistic.n > 1 else "one run"
    value = figure(objective.metric, statistic.mean)
    return f"{group.name} with {objective.one} of {value} ({over})"


def _leads(ranked: Sequence[Group], verdicts: Sequence[Verdict], objective: Objective) -> str:
    """Say in one sentence how the best of several groups differs from the others."""
    by_metric = [verdict for verdict in verdicts if verdict.metric == objective.metric]
    first = leading(ranked, by_metric)
    leader = first.name
    against = {
        verdict.b if verdict.a == leader else verdict.a: verdict
        for verdict in by_metric
        if leader in (verdict.a, verdict.b)
    }
    still = [n for n, verdict in against.items() if not verdict.is_shown]
    worse = shown_worse(ranked, by_metric)
    equals = [name for name in still if name not in worse] or still
    head = f"{_scored(first, objective)} is the {objective.best} of {len(ranked):,} models"
    if not equals:
        rest = "" if len(against) == len(ranked) - 1 else f" of the {len(against)} next"
        each = ranked[1].name if len(ranked) == 2 else f"each{rest}"
        return f"{head}, better than {each}."
    if all(against[name].verdict == "equivalent" for name in equals):
        return f"{head}, but equivalent to {listed(equals)}."
    too_few = any(against[name].seeds_needed is not None for name in equals)
    return (
        f"{head}, but not distinguishable from {listed(equals)}"
        f"{', with too few seeds to tell' if too_few else ''}."
    )


def answer_questions(
    groups: Sequence[Group],
    details: Mapping[str, RunDetails],
    verdicts: Sequence[Verdict],
    classes: Sequence[ByClass],
    class_names: Sequence[str],
    objective: Objective,
) -> tuple[Answer, ...]:
    """Answer the four questions for the detailed groups, by a metric as far as they are of it.

    Args:
        groups: The best first.
        details: By run id: which layers a model has.
        verdicts: By the compared metric and by costs.
        classes: Accuracy by class, where there are predictions.
        class_names: In label order.
        objective: The metric.
    """
    compared = [group for group in groups if group.detailed]
    by = "more accurate" if objective.is_accuracy else f"better by {objective.title}"
    answers = (
        Answer(f"Which model is {by}?", _better(compared, verdicts, objective)),
        Answer("Which model has fewer parameters?", _fewer_parameters(compared)),
        Answer("What is the trade-off between them?", _trade_off(compared, verdicts, objective)),
    )
    if not objective.is_accuracy:
        return answers
    why_convolution = _why_convolution(compared, details, verdicts, classes, class_names)
    return (*answers, Answer(_CONVOLUTION, why_convolution))


def _better(compared: Sequence[Group], verdicts: Sequence[Verdict], objective: Objective) -> str:
    if not compared:
        of_it = "test accuracy" if objective.is_accuracy else f"value of {objective.title}"
        return f"No model has a comparable {of_it}."
    if len(compared) == 1:
        return f"There is only one: {_scored(compared[0], objective)}."
    return _leads(compared, verdicts, objective)


def _between(a: Group, b: Group, verdicts: Sequence[Verdict]) -> Mapping[str, Verdict]:
    """Return the verdicts on a pair, by metric; the better is their first."""
    return {
        verdict.metric: verdict
        for verdict in verdicts
        if (verdict.a, verdict.b) == (a.name, b.name)
    }


def _fewer_parameters(compared: Sequence[Group]) -> str:
    key = keys.PARAMETERS_TRAINABLE
    having = sorted(
        (group for group in compared if key in group.metrics),
        key=lambda group: group.metrics[key].mean,
    )
    without = [group.name for group in compared if key not in group.metrics]
    rest = f" Not counted: {listed(without)}." if without else ""
    if not having:
        return "No run counted its parameters."
    fewest, most = having[0], having[-1]
    low, high = fewest.metrics[key].mean, most.metrics[key].mean
    if len(having) == 1:
        return f"{fewest.name} has {figure(key, low)} trainable parameters.{rest}"
    if low == high:
        return f"All have the same number, {figure(key, low)}.{rest}"
    ratio = f", {times(high, low)} as many" if low > 0 and not nearly_equal(high, low) else ""
    return (
        f"{fewest.name}, with {figure(key, low)} trainable parameters; {most.name} has "
        f"{figure(key, high)}{ratio}.{rest}"
    )


def _trade_off(compared: Sequence[Group], verdicts: Sequence[Verdict], objective: Objective) -> str:
    """Compare the best with the next model, cost by cost."""
    if len(compared) < 2:
        return "It takes two models to have one."
    a = compared[0]
    b = next((group for group in compared if group.model != a.model), compared[1])
    judged = _between(a, b, verdicts)
    of_a: list[str] = []
    of_b: list[str] = []
    same: list[str] = []
    open_: list[str] = []
    for cost in shown_costs(a.metrics.keys() | b.metrics.keys()):
        verdict = judged.get(cost.key)
        if verdict is None or not verdict.test:
            open_.append(cost.title)
            continue
        low, high = sorted(group.metrics[cost.key].mean for group in (a, b))
        if not verdict.is_shown or nearly_equal(high, low):
            same.append(cost.title)
        elif verdict.verdict == "b_better":
            of_a.append(_more(a, b, cost))
        else:
            of_b.append(_more(b, a, cost))
    every = len(COSTS)
    parts = [f"{g.name} has {listed(costs, every)}" for g, costs in ((a, of_a), (b, of_b)) if costs]
    by_metric = judged[objective.metric]
    sentences = [_gap(by_metric, objective), *(["; ".join(parts) + "."] if parts else [])]
    if of_a and of_b:
        sentences.append("Which of them is cheaper depends on the cost that one looks at.")
    elif by_metric.verdict == "a_better" and (of_a or of_b):
        paid = "Accuracy" if objective.is_accuracy else f"A better {objective.title}"
        sentences.append(
            f"{paid} is paid for." if of_a else f"{b.name} has nothing to set against that."
        )
    if same:
        sentences.append(f"The same, nearly so, or not told apart: {listed(same, every)}.")
    if open_:
        sentences.append(f"Not compared: {listed(open_, every)}.")
    return " ".join(sentences)


def _gap(verdict: Verdict, objective: Objective) -> str:
    gap = figure(objective.metric, abs(verdict.difference))
    if gap == figure(objective.metric, 0):
        return f"{verdict.a} and {verdict.b} score the same."
    more = "less" if objective.smaller_is_better else "more"
    if verdict.verdict == "equivalent":
        return f"{verdict.a} scores {gap} {more} than {verdict.b}, and the two are equivalent."
    if not verdict.is_shown:
        return (
            f"{verdict.a} scores {gap} {more} than {verdict.b}, which is not shown to be more than "
            "chance."
        )
    return f"{verdict.a} is {objective.better} than {verdict.b} by {gap}."


def _more(more: Group, less: Group, cost: Cost) -> str:
    high, low = more.metrics[cost.key].mean, less.metrics[cost.key].mean
    return f"{times(high, low)} the {cost.title}" if low > 0 else f"more {cost.title}"


def _why_convolution(
    compared: Sequence[Group],
    details: Mapping[str, RunDetails],
    verdicts: Sequence[Verdict],
    classes: Sequence[ByClass],
    class_names: Sequence[str],
) -> str:
    kinds = {group.name: _is_convolutional(group, details) for group in compared}
    convolutional = next((group for group in compared if kinds[group.name]), None)
    other = next((group for group in compared if kinds[group.name] is False), None)
    if convolutional is None:
        return "No model in this comparison is known to be convolutional: these runs cannot say."
    if other is None:
        return "No model without convolutions is here to compare with: these runs cannot say."
    verdict = next(
        v
        for v in verdicts
        if v.metric == keys.TEST_ACCURACY and {v.a, v.b} == {convolutional.name, other.name}
    )
    winner = {"a_better": verdict.a, "b_better": verdict.b}.get(verdict.verdict)
    uses = [_weight_use(group) for group in (convolutional, other)]
    reuse = ""
    if all(uses):
        reuse = (
            f" A prediction of {convolutional.name} takes {uses[0]:,.1f} FLOPs a parameter, one of "
            f"{other.name} {uses[1]:,.1f}: a filter is used at every position of the image."
        )
    if winner is None:
        shown, word = ("", "") if verdict.verdict == "equivalent" else (" shown to be", "not ")
        word += "distinguishable" if word else "equivalent"
        return (
            f"In these runs it is not{shown}: {convolutional.name} and {other.name} are {word} in "
            f"accuracy.{reuse}"
        )
    gains = _class_gains(convolutional, other, classes, class_names)
    if winner == other.name:
        return (
            f"In these runs it is not: {other.name} is more accurate than {convolutional.name}."
            f"{gains}"
        )
    gap = figure(keys.TEST_ACCURACY, abs(verdict.difference))
    return (
        f"In these runs {convolutional.name} is more accurate than {other.name} by {gap}."
        f"{reuse}{_thrift(convolutional, other)}{gains}"
    )


def _is_convolutional(group: Group, details: Mapping[str, RunDetails]) -> bool | None:
    """Return whether a group's models have convolutions; None without a table of layers."""
    for run in group.runs:
        types = details[run.run_id].layer_types if run.run_id in details else ()
        if types:
            return any("Conv" in each for each in types)
    return None


def _weight_use(group: Group) -> float | None:
    flops = group.metrics.get(keys.FLOPS_INFERENCE)
    parameters = group.metrics.get(keys.PARAMETERS_TRAINABLE)
    return flops.mean / parameters.mean if flops and parameters and parameters.mean > 0 else None


def _thrift(convolutional: Group, other: Group) -> str:
    first = convolutional.metrics.get(keys.PARAMETERS_TRAINABLE)
    second = other.metrics.get(keys.PARAMETERS_TRAINABLE)
    if not first or not second or not 0 < first.mean < second.mean:
        return ""
    if nearly_equal(second.mean, first.mean):
        return ""
    return f" It does so with {times(second.mean, first.mean)} fewer parameters."


def _class_gains(
    convolutional: Group, other: Group, classes: Sequence[ByClass], class_names: Sequence[str]
) -> str:
    """Name the classes in which the convolutional model gains most, and those in which it loses."""
    found = {each.model: each.accuracy for each in classes}
    if convolutional.name not in found or other.name not in found:
        return ""
    gains = [
        (first - second, name)
        for first, second, name in zip(
            found[convolutional.name], found[other.name], class_names, strict=True
        )
        if not math.isnan(first - second)
    ]
    gains.sort(key=lambda gain: (-gain[0], gain[1]))
    gains = [gain for gain in gains if abs(gain[0]) >= _LEAST_GAIN]
    best = [f"{name} ({gain:+.3f})" for gain, name in gains[:_CLASSES_NAMED] if gain > 0]
    worse = [f"{name} ({gain:+.3f})" for gain, name in reversed(gains) if gain < 0]
    text = f" It gains most on {listed(best)}." if best else ""
    return text + (f" It loses on {listed(worse)}." if worse else "")
