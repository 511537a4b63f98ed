"""The top of a report: its title, how much was compared, and what belongs to the decision."""

from __future__ import annotations

from collections.abc import Sequence

from fm_mlflow.analysis.comparison import Comparison, Group
from fm_mlflow.analysis.costs import cost_title
from fm_mlflow.analysis.prose.words import counted, listed
from fm_mlflow.analysis.ranking import are_equivalent
from fm_mlflow.escaping import shortened
from fm_mlflow.naming import OWN_EXPERIMENT, UNNAMED, dataset_title, model_name
from fm_mlflow.report.layout import MOST_GROUPS, MOST_NAMES
from fm_mlflow.settings.dataset import BUILTIN

_NOT_CHOSEN = ("", "Default", OWN_EXPERIMENT)
"""Names of experiments that nobody chose: MLflow's own, and that of this package."""

_MOST_MODELS = 3
_LONGEST = 24


def title(comparison: Comparison) -> str:
    """Name a report by what was compared: models and data, and the experiment if it has a name."""
    ranked = [group for group in comparison.groups if group.ranked] or comparison.groups
    models = list(dict.fromkeys(shortened(model_name(g.model), _LONGEST) for g in ranked))
    what = listed(models, _MOST_MODELS) or "no model"
    data = ranked[0].runs[0].data_set if ranked else None
    name = dataset_title(str(data)) if data and data.name in BUILTIN else str(data or "")
    if data and (not data.name or data.name in UNNAMED):
        name = str(data) if data.digest else ""
    chosen = "" if comparison.experiment in (*_NOT_CHOSEN, name) else comparison.experiment
    if not chosen:
        return f"{name}: {what}" if name else f"Comparison of {what}"
    return f"{chosen}: {what} on {name}" if name else f"{chosen}: {what}"


def scope(groups: Sequence[Group]) -> str:
    """Say on what data how many models are compared, and how to compare those on others."""
    on: dict[str, list[Group]] = {}
    for group in groups:  # the ranked ones come first
        on.setdefault(str(group.runs[0].data_set), []).append(group)
    texts = {
        name: f"{counted(len(each), 'model')}, {counted(sum(len(g.runs) for g in each), 'run')}"
        for name, each in on.items()
    }
    if len(texts) < 2:
        return "".join(f"{text} on {name}" for name, text in texts.items()) or "no model"
    (main, compared), *others = texts.items()
    rest = listed([f"{name} ({text})" for name, text in others])
    return (
        f"{len(texts)} data sets; compared are {compared} on {main}; listed only, until --dataset "
        f"names it: {rest}"
    )


def facts(comparison: Comparison) -> list[tuple[str, str]]:
    """Return what belongs to the decision and its first line does not say: label and text."""
    best = comparison.best
    said: list[tuple[str, str]] = []
    if best.run_id is not None:
        said.append((f"Run of {best.model} to take", best.run_reason or best.run_id))
    objective = comparison.objective
    if not objective.is_accuracy:
        less = "less" if objective.smaller_is_better else "more"
        of_each = f"{objective.metric}, the last value that each run logged"
        said.append(("Compared by", f"{of_each}; {less} is better, {objective.known_by}"))
    said.append(("Cost that decides between equals", f"{cost_title(best.cost)} ({best.cost})"))
    if len(best.contenders) > 2:
        equal = are_equivalent(best.contenders, comparison.verdicts, objective.metric)
        how = "Equivalent" if equal else "Not distinguishable"
        said.append((f"{how} in {objective.short}", listed(best.contenders, MOST_NAMES)))
    excluded = list(best.excluded.items())
    said += [("Excluded", f"{name}: {why}") for name, why in excluded[:MOST_GROUPS]]
    if (more := len(excluded) - MOST_GROUPS) > 0:
        said.append(("Excluded too", counted(more, "more model")))
    return said
