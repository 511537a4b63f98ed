"""What the proof of a sweep recommends: other settings than the default, or no change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fm_mlflow.analysis.comparison import Comparison, Verdict
from fm_mlflow.analysis.costs import cost_title
from fm_mlflow.results.sweep import Finalist
from fm_mlflow.settings.sweep import BOUNDS, SweepConfig
from fm_mlflow.training.trial import over_bounds

_WORTH_WHILE = 0.95
"""At what share of the default's cost settings that are as good are worth a change."""


def compared_with_default(
    finalists: Sequence[Finalist], comparison: Comparison
) -> tuple[Finalist, ...]:
    """Return the finalists, each with the comparison's verdict on it and the default."""
    default = next((each for each in finalists if each.is_default), None)
    if default is None:
        return tuple(finalists)
    return tuple(
        each
        if each is default
        else replace(each, against_default=_words(each, default, comparison))
        for each in finalists
    )


def recommend(
    finalists: Sequence[Finalist], comparison: Comparison, config: SweepConfig
) -> tuple[str, str]:
    """Return the settings to change to, empty for none, and why."""
    groups = {group.name: group for group in comparison.groups}
    proven = [each for each in finalists if each.group in groups]
    default = next((each for each in proven if each.is_default), None)
    others = [each for each in proven if not each.is_default]
    title = cost_title(config.cost)
    if default is None:
        best = next((each for each in others if each.group == comparison.best.model), None)
        return (best.entry, comparison.best.reason) if best else ("", "no finalist was proven")
    costs: dict[str, float] = {
        key: groups[default.group].metrics[key].mean
        for key in BOUNDS.values()
        if key in groups[default.group].metrics
    }
    if exceeded := over_bounds(costs, config.bounds):
        best = max(
            others,
            key=lambda each: comparison.objective.gain(each.proven or 0.0),
            default=None,
        )
        if best is None:
            return "", f"the default exceeds a bound ({exceeded}), and nothing else was proven"
        return best.entry, (
            f"the default exceeds a bound ({exceeded}); of the finalists within the bounds, "
            f"{best.group} has the best mean"
        )
    better = [each for each in others if _against(each, default, comparison) == "better"]
    if better:
        best = max(better, key=lambda each: comparison.objective.gain(each.proven or 0.0))
        return best.entry, f"better than the default: {_words(best, default, comparison)}"
    cheaper = [
        each
        for each in others
        if _against(each, default, comparison) == "as good"
        and each.cost is not None
        and default.cost is not None
        and each.cost <= _WORTH_WHILE * default.cost
    ]
    if cheaper:
        best = min(cheaper, key=lambda each: each.cost or 0.0)
        share = (best.cost or 0.0) / (default.cost or 1.0)
        return best.entry, (
            f"at {share:.0%} of the {title} of the default, {best.group} is not shown to be worse: "
            f"{_words(best, default, comparison)}"
        )
    return "", (
        f"no finalist is better than the default, {default.group}, and none is as good at 5% less "
        f"{title}: the proof gives no reason to change it"
    )


def _against(each: Finalist, default: Finalist, comparison: Comparison) -> str:
    """Return what the comparison says of a finalist against the default, seen from the former."""
    verdict = _verdict(each, default, comparison)
    if verdict is None:
        return "unknown"
    if verdict.verdict == "equivalent":
        return "as good"
    if verdict.verdict == "not_distinguishable":
        # A design shows that two are as good, or leaves it open. Of a fixed number, so few seeds
        # that nothing could be told apart are no reason for a change.
        is_open = verdict.looked_at_seeds is not None or verdict.seeds_needed is not None
        return "unknown" if is_open else "as good"
    winner = verdict.a if verdict.verdict == "a_better" else verdict.b
    return "better" if winner == each.group else "worse"


def _verdict(each: Finalist, default: Finalist, comparison: Comparison) -> Verdict | None:
    pair, metric = {each.group, default.group}, comparison.objective.metric
    return next((v for v in comparison.verdicts if {v.a, v.b} == pair and v.metric == metric), None)


def _words(each: Finalist, default: Finalist, comparison: Comparison) -> str:
    verdict = _verdict(each, default, comparison)
    return verdict.words if verdict else ""
