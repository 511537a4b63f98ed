"""What the report of a comparison says, section by section: the same in every form."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Comparison
from fm_mlflow.analysis.costs import cost_title
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.prose.words import (
    NOT_MEASURED,
    capitalised,
    counted,
    interval,
    listed,
    number,
    ratio,
    unit,
)
from fm_mlflow.report import heading
from fm_mlflow.report.class_tables import accuracy_by_class, worst_mistakes
from fm_mlflow.report.figures import ESTIMATED
from fm_mlflow.report.layout import (
    MOST_NAMES,
    Cell,
    Groups,
    Table,
    columns,
    measured,
    why_missing,
)
from fm_mlflow.report.verdict_tables import evidence, front_table
from fm_mlflow.report.wrong_tables import wrong_tables

_COSTS_OF_NOTEBOOK: dict[str, str] = {
    "Trainable Parameters": keys.PARAMETERS_TRAINABLE,
    "Model Size (MiB)": keys.SIZE_H5,
    "FLOPs (Training)": keys.FLOPS_TRAINING,
    "FLOPs (Inference)": keys.FLOPS_INFERENCE,
    "Training Memory (MiB)": keys.MEMORY_TRAINING,
}

_MOST_REASONS = 40
_ANOTHER_RUN = re.compile(r"\brun [0-9a-f]{32}\b")
_MOST_IDS = 20
_ORDER = {str(key): position for position, key in enumerate(keys.all_keys())}


def notebook_columns(objective: Objective) -> dict[str, str]:
    """Return the notebook's table after its column Model: head and logged name of each figure.

    Where another metric than the accuracy is compared, it stands in the place of that.
    """
    first = "Test Accuracy" if objective.is_accuracy else objective.metric
    return {first: objective.metric, **_COSTS_OF_NOTEBOOK}


def curve_titles(objective: Objective) -> dict[str, str]:
    """Return logged names of learning curves by what a reader calls them, in order of interest."""
    base = objective.base
    curves: dict[str, str] = {
        f"validation {base}": objective.validation,
        f"training {base}": base,
        "validation loss": keys.VAL_LOSS,
        "training loss": keys.LOSS,
    }
    if objective.metric not in (*curves.values(), f"test_{base}"):
        return {objective.metric: objective.metric, **curves}
    return curves


@dataclass(frozen=True)
class Contents:
    """The report.

    Attributes:
        title: Models, data, and the experiment where somebody named it.
        scope: How much was compared, and on what data.
        results: The main figures of each model, those first that decide.
        decision: What belongs to the decision: label and text.
        estimates: Rules of thumb beside what was measured.
        last_epochs: Where the learning curves end.
        trade_offs: The heading of the next section.
        fronts: Who is on the Pareto front of the metric against each cost.
        targets: What it took to first reach the target.
        classes: How often each class was classified correctly.
        mistakes: The most frequent mistakes of each group.
        wrong: Test examples that models got wrong, a table of each kind.
        evidence: The figures of every verdict, and sentences on those that have none.
        metrics: Every metric, a table for each group shown.
        skipped: Runs left out: for each reason how many, and the first of them.
        provenance: What the runs and this report were made with.
        has_estimates: Whether the section of estimates is one of this metric or has a row.
        has_classes: Likewise the section of classes.
    """

    title: str
    scope: str
    results: Table
    decision: tuple[tuple[str, str], ...]
    estimates: Table
    last_epochs: Table
    trade_offs: str
    fronts: Table
    targets: Table
    classes: Table
    mistakes: Table
    wrong: tuple[Table, ...]
    evidence: list[tuple[list[str], Table]]
    metrics: tuple[Table, ...]
    skipped: list[tuple[str, int, list[str]]]
    provenance: Table
    has_estimates: bool
    has_classes: bool


def contents(comparison: Comparison) -> Contents:
    """Return everything that a report says, ready to be set."""
    groups = Groups(comparison)
    estimates = _estimates(groups, comparison.objective)
    classes = accuracy_by_class(comparison, groups)
    of_accuracy = comparison.objective.is_accuracy
    return Contents(
        title=heading.title(comparison),
        scope=heading.scope(groups.all),
        results=_results(groups, comparison),
        decision=tuple(heading.facts(comparison)),
        estimates=estimates,
        last_epochs=_last_epochs(groups, comparison.objective),
        trade_offs=_trade_offs(comparison.objective),
        fronts=front_table(comparison, groups),
        targets=_targets(comparison, groups),
        classes=classes,
        mistakes=worst_mistakes(comparison, groups),
        wrong=wrong_tables(comparison, groups),
        evidence=evidence(comparison, groups),
        metrics=_metrics(groups, comparison.objective.example),
        skipped=_skipped(comparison),
        provenance=_provenance(comparison),
        has_estimates=of_accuracy or bool(estimates.rows),
        has_classes=of_accuracy or bool(classes.rows),
    )


def _results(groups: Groups, comparison: Comparison) -> Table:
    objective, cost = comparison.objective, comparison.best.cost
    heads = notebook_columns(objective)
    (metric, *costs) = heads.items()
    title = next((head for head, key in costs if key == cost), _titled(cost))
    heads = {metric[0]: metric[1], title: cost, **dict(costs)}  # what decides comes first
    if not objective.is_accuracy:  # what the notebook asks need not be a question here
        known = {metric for group in groups.shown for metric in (*group.metrics, *group.missing)}
        heads = {head: metric for head, metric in heads.items() if metric in known}
    rows = tuple(
        (
            groups.cell(group.name, counted(len(group.runs), "run")),
            *(
                measured(metric, group.metrics.get(metric), len(group.runs))
                for metric in heads.values()
            ),
        )
        for group in groups.shown
    )
    notes = [
        "Mean over the runs of a model, ± their standard deviation; without ±, the runs do not "
        "differ in the digits shown, or there is only one. FLOPs are those of one "
        f"{objective.example}; they and memory are measured. A MiB is 1024² bytes.",
        *why_missing(groups.shown, {metric: head for head, metric in heads.items()}),
    ]
    if unranked := [group.name for group in groups.shown if not group.ranked]:
        notes.append(
            f"Not ranked by {objective.short} with the others: {listed(unranked, MOST_NAMES)}."
        )
    if hidden := len(groups.all) - len(groups.shown):
        notes.append(
            f"The {len(groups.shown)} {objective.best}; {hidden:,} more in comparison.csv."
        )
    return Table("Results", columns(1, "Model", *heads), rows, tuple(notes))


def _titled(cost: str) -> str:
    text = capitalised(cost_title(cost))
    return f"{text} ({unit(cost)})" if unit(cost) else text


def _estimates(groups: Groups, objective: Objective) -> Table:
    rows = []
    for group in groups.detailed:
        for label, (metric, rule) in ESTIMATED.items():
            actual, estimate = group.metrics.get(metric), group.metrics.get(rule)
            if estimate is None and (actual is None or not objective.is_accuracy):
                continue
            apart = (
                f"{ratio(actual.mean / estimate.mean)} x"
                if actual and estimate and estimate.mean
                else ""
            )
            rows.append(
                (
                    groups.cell(group.name),
                    Cell(", ".join(filter(None, (label, unit(metric))))),
                    measured(rule, estimate, len(group.runs)),
                    measured(metric, actual, len(group.runs)),
                    Cell(apart),
                )
            )
    heads = columns(2, "Model", "Cost", "Rule of thumb", "Measured", "Ratio")
    notes = (
        "What one reckons from the weights alone: 2 FLOPs a kernel weight to predict, 6 to train, "
        "12 bytes of memory. A convolution uses each weight many times, and a training holds more "
        "than weights: the measured figures count.",
    )
    return Table("Estimated and measured", heads, tuple(rows), notes if rows else ())


def _last_epochs(groups: Groups, objective: Objective) -> Table:
    logged = {
        what: metric
        for what, metric in curve_titles(objective).items()
        if any(curves.get(metric) for group in groups.detailed for curves in group.curves)
    }
    rows = []
    for group in groups.detailed:
        for run, curves in zip(group.runs, group.curves, strict=False):
            ends = {metric: curves[metric][-1] for metric in logged.values() if curves.get(metric)}
            if not ends:
                continue
            rows.append(
                (
                    groups.cell(group.name),
                    Cell("" if run.seed is None else f"{run.seed}"),
                    Cell(f"{max(step for step, _ in ends.values())}"),
                    *(
                        Cell(number(metric, ends[metric][1]) if metric in ends else NOT_MEASURED)
                        for metric in logged.values()
                    ),
                )
            )
    heads = columns(1, "Model", "Seed", "Epochs", *map(capitalised, logged))
    notes = ("At the last epoch of each run; report.html has the curves.",) if rows else ()
    return Table("Learning curves", heads, tuple(rows), notes)


def _trade_offs(objective: Objective) -> str:
    return "Accuracy against cost" if objective.is_accuracy else f"{objective.metric} against cost"


def _targets(comparison: Comparison, groups: Groups) -> Table:
    heads = columns(1, "Model", "Reached by", "Epochs", "Seconds", "FLOPs of training")
    objective = comparison.objective
    if comparison.target is None:
        return Table("Cost to reach an accuracy", heads, ())
    rows = []
    for target in comparison.targets:
        costs = (
            (keys.EPOCH_SECONDS, target.epochs),
            (keys.FIT_SECONDS, target.seconds),
            (keys.FLOPS_TRAINING_TOTAL, target.flops),
        )
        texts = (
            measured(metric, cost, target.reached) if target.reached else Cell("not reached")
            for metric, cost in costs
        )
        reached = Cell(f"{target.reached} of {target.runs}")
        rows.append((groups.cell(target.model), reached, *texts))
    target_text = number(objective.validation, comparison.target)
    value = target_text if objective.is_accuracy else f"{objective.base} of {target_text}"
    notes = ("Means over the runs that reached it, ± standard deviation.",)
    return Table(f"Cost to first reach {value} in validation", heads, tuple(rows), notes)


def _metrics(groups: Groups, example: str) -> tuple[Table, ...]:
    heads = columns(2, "Metric", "Unit", "n", "Mean", "SD", "95% interval")
    tables = []
    for group in groups.shown:
        rows = []
        for metric in sorted(group.metrics, key=lambda name: (_ORDER.get(name, len(_ORDER)), name)):
            statistic = group.metrics[metric]
            low, high = statistic.ci_low, statistic.ci_high
            texts = (
                metric,
                unit(metric).replace("image", example),
                f"{statistic.n}",
                number(metric, statistic.mean),
                "" if statistic.sd is None else number(metric, statistic.sd, statistic.mean),
                "" if low is None or high is None else interval(metric, low, high),
            )
            rows.append(tuple(map(Cell, texts)))
        tables.append(Table(group.name, heads, tuple(rows)))
    return tuple(tables)


def _skipped(comparison: Comparison) -> list[tuple[str, int, list[str]]]:
    by_reason: dict[str, list[str]] = {}
    for run in comparison.skipped:
        shown = f"{run.run_id} ({run.name})" if run.name else run.run_id
        by_reason.setdefault(_ANOTHER_RUN.sub("another run", run.reason), []).append(shown)
    ordered = sorted(by_reason.items(), key=lambda each: (-len(each[1]), each[0]))
    entries = [(reason, len(runs), runs[:_MOST_IDS]) for reason, runs in ordered[:_MOST_REASONS]]
    if rest := ordered[_MOST_REASONS:]:
        left = sum(len(runs) for _, runs in rest)
        entries.append((counted(len(rest), "other reason"), left, []))
    return entries


def _provenance(comparison: Comparison) -> Table:
    repeat = comparison.repeat
    rows = [
        *(("data set (SHA-256)", d, counted(n, "run")) for d, n in repeat.data_digests.items()),
        *(("commit", commit, counted(n, "run")) for commit, n in repeat.commits.items()),
        *((name, version, "") for name, version in repeat.versions.items()),
    ]
    heads = columns(2, "What", "Which", "How many")
    return Table("Data, source and versions", heads, tuple(tuple(map(Cell, row)) for row in rows))
