"""What a sweep was, in words: the description of its run, and sentences of its report."""

from __future__ import annotations

from fm_mlflow import keys
from fm_mlflow.analysis.costs import cost_title
from fm_mlflow.analysis.prose.words import capitalised, counted, figure, number
from fm_mlflow.escaping import markdown
from fm_mlflow.naming import dataset_described
from fm_mlflow.results.sweep import SweepResult


def describe_sweep(result: SweepResult) -> str:
    """Describe a sweep: what was searched, what it took, what is recommended."""
    config, spent = result.config, result.spent
    lines = [
        f"**{markdown(config.model)}** on {markdown(dataset_described(config.dataset))}: "
        f"{len(result.trials)} trials of up to {config.epochs} epochs, {markdown(config.metric)} "
        f"against {markdown(cost_title(config.cost))}. Searched: {markdown(result.space)}.",
        "",
        f"Recommended: **{markdown(result.advice)}**. {markdown(capitalised(result.reason))}.",
        "",
        f"{spent.epochs} of {spent.full_epochs} epochs were trained: {spent.stopped} trials "
        f"stopped early, {spent.bounded_out} exceeded a bound and were not trained.",
    ]
    if result.finalists:
        lines += ["", "| finalist | search | proof | cost |", "|---|---|---|---|"]
    for each in result.finalists:
        searched = "" if each.searched is None else number(config.metric, each.searched)
        proven = "" if each.proven is None else number(config.metric, each.proven)
        cost = "" if each.cost is None else figure(config.cost, each.cost)
        lines.append(f"| {markdown(each.entry)} | {searched} | {proven} | {cost} |")
    return "\n".join(lines)


def spent_sentences(result: SweepResult) -> list[str]:
    """Say what the search took, and what halving and bounds saved."""
    spent = result.spent
    sentences = [
        f"The search took {spent.seconds / 60:,.1f} minutes and "
        f"{_flops(spent.flops)} of training: {spent.epochs} epochs in "
        f"{counted(len(result.trials), 'trial')}; {result.ended}.",
        f"Trained to the end, these would have taken {spent.full_epochs} epochs; "
        f"{counted(spent.stopped, 'trial')} stopped early.",
    ]
    if spent.bounded_out:
        saved = f", {_flops(spent.bounded_flops)} less" if spent.bounded_flops else ""
        sentences.append(
            f"Bounds kept {counted(spent.bounded_out, 'trial')} from being trained{saved}."
        )
    return sentences


def flattered(result: SweepResult) -> str:
    """Say by how much the search's own figures are above the proven ones; empty without proof."""
    gaps = [each.flattered for each in result.finalists if each.flattered is not None]
    if not gaps:
        return ""
    mean = sum(gaps) / len(gaps)
    name = result.config.metric
    direction = "above" if mean >= 0 else "below"
    return (
        f"The search's own figures are {number(name, abs(mean))} {direction} the proof on average "
        f"over {counted(len(gaps), 'finalist')}: they are the best of many, of one seed, on other "
        "images and with fewer to learn from, so that only the proof says what to expect."
    )


def _flops(value: float) -> str:
    text = number(keys.FLOPS_TRAINING_TOTAL, value)
    return f"{text}FLOP" if text[-1].isalpha() else f"{text} FLOP"
