"""The reference's four questions and the summary, answered from the data at hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Answer, Best, ByClass, Group, Verdict
from fm_mlflow.analysis.costs import COSTS
from fm_mlflow.analysis.machines import incomparable
from fm_mlflow.analysis.records import RunDetails
from fm_mlflow.words import capitalised, figure, listed, times

MORE_ACCURATE = "Which model is more accurate?"
FEWER_PARAMETERS = "Which model has fewer parameters?"
TRADE_OFF = "What is the trade-off between them?"
WHY_CONVOLUTION = "Why is a convolutional network generally better for images?"

_CONVOLUTION = "Conv"
_CLASSES_NAMED = 3


def summarise(groups: Sequence[Group], verdicts: Sequence[Verdict], best: Best) -> str:
    """Return the answer in two sentences: who is more accurate, and whom to take."""
    ranked = [group for group in groups if group.ranked]
    if not ranked:
        return "No run has a test accuracy that could be compared. There is nothing to decide."
    if len(ranked) == 1:
        (only,) = ranked
        first = f"There is one model, {_scored(only)}: nothing to compare it with."
    else:
        first = _accuracy_sentence(ranked, verdicts)
    return f"{capitalised(first)} {_decision(groups, best)}"


def answer_questions(
    groups: Sequence[Group],
    details: Mapping[str, RunDetails],
    verdicts: Sequence[Verdict],
    classes: Sequence[ByClass],
    class_names: Sequence[str],
) -> tuple[Answer, ...]:
    """Answer the four questions for the detailed groups.

    Args:
        groups: Most accurate first.
        details: By run id: which layers a model has.
        verdicts: On test accuracy.
        classes: Accuracy by class, where there are predictions.
        class_names: In label order.
    """
    compared = [group for group in groups if group.ranked and group.detailed]
    return (
        Answer(MORE_ACCURATE, _more_accurate(compared, verdicts)),
        Answer(FEWER_PARAMETERS, _fewer_parameters(compared)),
        Answer(TRADE_OFF, _trade_off(compared, verdicts)),
        Answer(
            WHY_CONVOLUTION, _why_convolution(compared, details, verdicts, classes, class_names)
        ),
    )


def _scored(group: Group) -> str:
    accuracy = group.metrics[keys.TEST_ACCURACY]
    over = f"mean of {accuracy.n} seeds" if accuracy.n > 1 else "one run"
    return (
        f"{group.name} with a test accuracy of {figure(keys.TEST_ACCURACY, accuracy.mean)} ({over})"
    )


def _accuracy_sentence(ranked: Sequence[Group], verdicts: Sequence[Verdict]) -> str:
    """Return what sets the most accurate apart from the others, in one sentence."""
    leader = ranked[0]
    equals = [
        v for v in verdicts if leader.name in (v.a, v.b) and v.verdict == "not_distinguishable"
    ]
    if len(ranked) == 2 and verdicts:
        return verdicts[0].words
    names = [v.b if v.a == leader.name else v.a for v in equals]
    head = f"{_scored(leader)} is the most accurate of {len(ranked)} models"
    if not names:
        return f"{head}, clearly so against each of those compared pair by pair."
    few = ", some with too few seeds to tell" if any(v.seeds_needed for v in equals) else ""
    return f"{head}, but not distinguishable from {listed(names)}{few}."


def _decision(groups: Sequence[Group], best: Best) -> str:
    if best.model is None:
        return best.reason
    if len(best.contenders) == 1:
        return (
            f"Take {best.model}: nothing within reach is as accurate."
            if len(groups) > 1
            else f"Take {best.model}."
        )
    title = next(cost.title for cost in COSTS if cost.key == best.cost)
    chosen = next(group for group in groups if group.name == best.model)
    statistic = chosen.metrics.get(best.cost)
    if statistic is None:
        return f"Take {best.model}, the most accurate: {title} does not decide."
    return (
        f"Take {best.model}: of those that cannot be told apart it costs the least by {title} "
        f"({figure(best.cost, statistic.mean)})."
    )


def _more_accurate(compared: Sequence[Group], verdicts: Sequence[Verdict]) -> str:
    if not compared:
        return "No model has a comparable test accuracy."
    if len(compared) == 1:
        return f"There is only one: {_scored(compared[0])}."
    if len(compared) == 2:
        return capitalised(verdicts[0].words)
    leading = [v for v in verdicts if compared[0].name in (v.a, v.b)]
    nearest = next(v for v in leading if compared[1].name in (v.a, v.b))
    return f"{capitalised(_accuracy_sentence(compared, verdicts))} {capitalised(nearest.words)}"


def _fewer_parameters(compared: Sequence[Group]) -> str:
    key = keys.PARAMETERS_TRAINABLE
    counted_groups = sorted(
        (group for group in compared if key in group.metrics),
        key=lambda group: group.metrics[key].mean,
    )
    without = [group.name for group in compared if key not in group.metrics]
    rest = f" Not counted: {listed(without)}." if without else ""
    if not counted_groups:
        return "No run counted its parameters."
    fewest, most = counted_groups[0], counted_groups[-1]
    low, high = fewest.metrics[key].mean, most.metrics[key].mean
    if len(counted_groups) == 1:
        return f"{capitalised(fewest.name)} has {figure(key, low)}.{rest}"
    if low == high:
        return f"All have the same number, {figure(key, low)}.{rest}"
    ratio = f", {times(high, low)} as many" if low > 0 else ""
    return (
        f"{capitalised(fewest.name)}, with {figure(key, low)} trainable parameters; {most.name} "
        f"has {figure(key, high)}{ratio}.{rest}"
    )


def _trade_off(compared: Sequence[Group], verdicts: Sequence[Verdict]) -> str:
    """Compare the most accurate with the next model, cost by cost."""
    if len(compared) < 2:
        return "It takes two models to have one."
    a = compared[0]
    b = next((group for group in compared if group.model != a.model), compared[1])
    verdict = next(v for v in verdicts if {v.a, v.b} == {a.name, b.name})
    dearer: list[str] = []
    cheaper: list[str] = []
    same: list[str] = []
    unknown: list[str] = []
    for cost in COSTS:
        first, second = a.metrics.get(cost.key), b.metrics.get(cost.key)
        if first is None or second is None or incomparable(cost, [*a.runs, *b.runs]):
            unknown.append(cost.title)
        elif first.mean == second.mean:
            same.append(cost.title)
        elif min(first.mean, second.mean) <= 0:
            (dearer if first.mean > second.mean else cheaper).append(cost.title)
        elif first.mean > second.mean:
            dearer.append(f"{times(first.mean, second.mean)} the {cost.title}")
        else:
            cheaper.append(f"{times(second.mean, first.mean)} less {cost.title}")
    gap = figure(keys.TEST_ACCURACY, abs(verdict.difference))
    lead = (
        f"{capitalised(a.name)} scores {gap} more than {b.name}, which these runs cannot tell "
        "from chance"
        if verdict.verdict == "not_distinguishable"
        else f"{capitalised(a.name)} is more accurate than {b.name} by {gap}"
    )
    every = len(COSTS)
    parts = []
    if dearer:
        parts.append(f"it costs more: {listed(dearer, every)}")
    if cheaper:
        parts.append(f"it costs less: {listed(cheaper, every)}")
    if same:
        parts.append(f"the same: {listed(same, every)}")
    sentence = "; ".join([lead, *parts]) + "."
    if dearer and cheaper:
        sentence += " Which of them is cheaper depends on the cost that one looks at."
    elif dearer:
        sentence += " Accuracy is paid for."
    elif cheaper:
        sentence += f" {capitalised(b.name)} has nothing to set against it."
    if unknown:
        sentence += f" Not compared: {listed(unknown, every)}."
    return sentence


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
    verdict = next(v for v in verdicts if {v.a, v.b} == {convolutional.name, other.name})
    winner = {"a_better": verdict.a, "b_better": verdict.b}.get(verdict.verdict)
    uses = [_weight_use(group) for group in (convolutional, other)]
    reuse = ""
    if all(uses):
        reuse = (
            f" {capitalised(convolutional.name)} makes {uses[0]:,.1f} FLOPs of each parameter in "
            f"a prediction, {other.name} {uses[1]:,.1f}: a filter is used at every position of "
            "the image."
        )
    if winner is None:
        return (
            f"In these runs it is not shown to be: {convolutional.name} and {other.name} are not "
            f"distinguishable in accuracy.{reuse}"
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
    """Return whether a group's models have convolutions; None where no table of layers is there."""
    for run in group.runs:
        layers = details[run.run_id].layers if run.run_id in details else ()
        if layers:
            return any(_CONVOLUTION in layer.get("type", "") for layer in layers)
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
    return f" So it does with {times(second.mean, first.mean)} fewer parameters."


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
    best = [f"{name} ({gain:+.3f})" for gain, name in gains[:_CLASSES_NAMED] if gain > 0]
    worse = [f"{name} ({gain:+.3f})" for gain, name in reversed(gains) if gain < 0]
    text = f" It gains most on {listed(best)}." if best else ""
    return text + (f" It loses on {listed(worse)}." if worse else "")
