"""What the report of a comparison says, section by section: the same in every form."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Comparison
from fm_mlflow.analysis.costs import cost_title
from fm_mlflow.analysis.prose.words import (
    NOT_MEASURED,
    counted,
    interval,
    listed,
    number,
    ratio,
    unit,
)
from fm_mlflow.report import figures
from fm_mlflow.report.class_tables import accuracy_by_class, worst_mistakes
from fm_mlflow.report.front_table import front_table
from fm_mlflow.report.layout import (
    MOST_GROUPS,
    MOST_NAMES,
    Cell,
    Groups,
    Table,
    measured,
    numeric_columns,
    text_columns,
    why_missing,
)
from fm_mlflow.report.verdict_tables import Evidence, evidence

NOTEBOOK_COLUMNS = {
    "Test Accuracy": keys.TEST_ACCURACY,
    "Trainable Parameters": keys.PARAMETERS_TRAINABLE,
    "Model Size (MB)": keys.SIZE_H5,
    "FLOPs (Training)": keys.FLOPS_TRAINING,
    "FLOPs (Inference)": keys.FLOPS_INFERENCE,
    "Training Memory (MB)": keys.MEMORY_TRAINING,
}
"""The notebook's table after its column Model, and which figure stands there."""

CURVES = {
    "validation accuracy": keys.VAL_ACCURACY,
    "training accuracy": keys.ACCURACY,
    "validation loss": keys.VAL_LOSS,
    "training loss": keys.LOSS,
}
"""Learning curves by what a reader calls them, in order of interest."""

_MOST_REASONS = 40
_MOST_IDS = 20
_ORDER = {str(key): position for position, key in enumerate(keys.all_keys())}


@dataclass(frozen=True)
class SkippedFor:
    """Runs left out for one reason: how many, and the first of them."""

    reason: str
    count: int
    runs: tuple[str, ...]

    @property
    def not_shown(self) -> int:
        """Runs beyond the first."""
        return self.count - len(self.runs)


@dataclass(frozen=True)
class Contents:
    """The report.

    Attributes:
        comparison: What it is about; the sentences of the analysis stand there.
        scope: How much was compared.
        results: The notebook's table, measured.
        decision: What belongs to the decision: label and text.
        estimates: The notebook's rules of thumb beside what was measured.
        last_epochs: Where the learning curves end.
        fronts: Who is on the Pareto front of accuracy against each cost.
        targets: What it took to first reach the target accuracy.
        classes: How often each class was classified correctly.
        mistakes: The most frequent mistakes of each group.
        evidence: Every verdict.
        metrics: Every metric, a table for each group shown.
        skipped: Runs left out, by reason.
        provenance: What the runs and this report were made with.
    """

    comparison: Comparison
    scope: str
    results: Table
    decision: tuple[tuple[str, str], ...]
    estimates: Table
    last_epochs: Table
    fronts: Table
    targets: Table
    classes: Table
    mistakes: Table
    evidence: tuple[Evidence, ...]
    metrics: tuple[Table, ...]
    skipped: tuple[SkippedFor, ...]
    provenance: Table


def contents(comparison: Comparison) -> Contents:
    """Return everything that a report says, ready to be set."""
    groups = Groups(comparison)
    return Contents(
        comparison=comparison,
        scope=_scope(groups),
        results=_results(groups),
        decision=tuple(_decision(comparison)),
        estimates=_estimates(groups),
        last_epochs=_last_epochs(groups),
        fronts=front_table(comparison, groups),
        targets=_targets(comparison, groups),
        classes=accuracy_by_class(comparison, groups),
        mistakes=worst_mistakes(comparison, groups),
        evidence=evidence(comparison, groups),
        metrics=_metrics(groups),
        skipped=tuple(_skipped(comparison)),
        provenance=_provenance(comparison),
    )


def _scope(groups: Groups) -> str:
    runs = sum(len(group.runs) for group in groups.all)
    return f"{counted(len(groups.all), 'model')}, {counted(runs, 'run')}"


def _results(groups: Groups) -> Table:
    rows = tuple(
        (
            groups.cell(group.name, counted(len(group.runs), "run")),
            *(
                measured(metric, group.metrics.get(metric), len(group.runs))
                for metric in NOTEBOOK_COLUMNS.values()
            ),
        )
        for group in groups.shown
    )
    notes = [
        "Mean over the runs of a model, ± their standard deviation; without ±, the runs do not "
        "differ in the digits shown, or there is only one. FLOPs are those of one image; they and "
        "memory are measured. MB is 1024² bytes.",
        *why_missing(groups.shown, {metric: head for head, metric in NOTEBOOK_COLUMNS.items()}),
    ]
    if unranked := [group.name for group in groups.shown if not group.ranked]:
        notes.append(f"Not ranked by accuracy with the others: {listed(unranked, MOST_NAMES)}.")
    if hidden := len(groups.all) - len(groups.shown):
        notes.append(f"The {len(groups.shown)} most accurate; {hidden:,} more in comparison.csv.")
    columns = (*text_columns("Model"), *numeric_columns(*NOTEBOOK_COLUMNS))
    return Table("Results", columns, rows, tuple(notes))


def _decision(comparison: Comparison) -> list[tuple[str, str]]:
    best = comparison.best
    facts = [("Run to take", best.run_id)] if best.run_id is not None else []
    facts.append(("Cost that decides between equals", f"{cost_title(best.cost)} ({best.cost})"))
    if len(best.contenders) > 1:
        facts.append(("Not distinguishable in accuracy", listed(best.contenders, MOST_NAMES)))
    excluded = list(best.excluded.items())
    facts += [("Excluded", f"{name}: {why}") for name, why in excluded[:MOST_GROUPS]]
    if more := len(excluded) - MOST_GROUPS:
        facts += [("Excluded too", counted(more, "more model"))] if more > 0 else []
    return facts


def _estimates(groups: Groups) -> Table:
    rows = []
    for group in groups.detailed:
        for cost in figures.ESTIMATED:
            actual = group.metrics.get(cost.measured)
            estimate = group.metrics.get(cost.estimate)
            if actual is None and estimate is None:
                continue
            apart = (
                f"{ratio(actual.mean / estimate.mean)} x"
                if actual and estimate and estimate.mean
                else ""
            )
            rows.append(
                (
                    groups.cell(group.name),
                    Cell(f"{cost.label}, {cost.unit.strip()}" if cost.unit else cost.label),
                    measured(cost.estimate, estimate, len(group.runs)),
                    measured(cost.measured, actual, len(group.runs)),
                    Cell(apart),
                )
            )
    columns = (
        *text_columns("Model", "Cost"),
        *numeric_columns("Notebook's estimate", "Measured", "Ratio"),
    )
    notes = (
        "Estimates: 2 x kernel weights to predict, 6 x to train, 12 bytes x kernel weights of "
        "memory. They take each weight once; a convolution uses its weights at every position of "
        "the image. Measured: FLOPs as profiled, memory as the rise of the process's resident "
        "memory in training.",
    )
    return Table("Estimated and measured", columns, tuple(rows), notes if rows else ())


def _last_epochs(groups: Groups) -> Table:
    logged = {
        what: metric
        for what, metric in CURVES.items()
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
    heads = [what[0].upper() + what[1:] for what in logged]
    columns = (*text_columns("Model"), *numeric_columns("Seed", "Epochs", *heads))
    notes = ("At the last epoch of each run; report.html has the curves.",) if rows else ()
    return Table("Learning curves", columns, tuple(rows), notes)


def _targets(comparison: Comparison, groups: Groups) -> Table:
    columns = (
        *text_columns("Model"),
        *numeric_columns("Reached by", "Epochs", "Seconds", "FLOPs of training"),
    )
    if comparison.target_accuracy is None or not comparison.targets:
        return Table("Cost to reach an accuracy", columns, ())
    rows = []
    for target in comparison.targets:
        costs = (
            (keys.EPOCH_SECONDS, target.epochs),
            (keys.FIT_SECONDS, target.seconds),
            (keys.FLOPS_TRAINING_TOTAL, target.flops),
        )
        rows.append(
            (
                groups.cell(target.model),
                Cell(f"{target.reached} of {target.runs}"),
                *(
                    measured(metric, statistic, target.reached)
                    if target.reached
                    else Cell("not reached")
                    for metric, statistic in costs
                ),
            )
        )
    accuracy = number(keys.VAL_ACCURACY, comparison.target_accuracy)
    return Table(
        f"Cost to first reach {accuracy} in validation",
        columns,
        tuple(rows),
        ("Means over the runs that reached it, ± standard deviation.",),
    )


def _metrics(groups: Groups) -> tuple[Table, ...]:
    columns = (
        *text_columns("Metric", "Unit"),
        *numeric_columns("n", "Mean", "SD", "95% interval"),
    )
    tables = []
    for group in groups.shown:
        rows = []
        for metric in sorted(group.metrics, key=lambda name: (_ORDER.get(name, len(_ORDER)), name)):
            statistic = group.metrics[metric]
            low, high = statistic.ci_low, statistic.ci_high
            texts = (
                metric,
                unit(metric),
                f"{statistic.n}",
                number(metric, statistic.mean),
                "" if statistic.sd is None else number(metric, statistic.sd, statistic.mean),
                "" if low is None or high is None else interval(metric, low, high),
            )
            rows.append(tuple(map(Cell, texts)))
        tables.append(Table(group.name, columns, tuple(rows)))
    return tuple(tables)


def _skipped(comparison: Comparison) -> list[SkippedFor]:
    counts = Counter(run.reason for run in comparison.skipped)
    reasons = sorted(counts, key=lambda reason: (-counts[reason], reason))
    runs: dict[str, list[str]] = {reason: [] for reason in reasons[:_MOST_REASONS]}
    for run in comparison.skipped:
        first = runs.get(run.reason)
        if first is not None and len(first) < _MOST_IDS:
            first.append(f"{run.run_id} ({run.name})" if run.name else run.run_id)
    entries = [SkippedFor(reason, counts[reason], tuple(runs[reason])) for reason in runs]
    if rest := reasons[_MOST_REASONS:]:
        left = sum(counts[reason] for reason in rest)
        entries.append(SkippedFor(counted(len(rest), "other reason"), left, ()))
    return entries


def _provenance(comparison: Comparison) -> Table:
    repeat = comparison.repeat
    rows = [
        *(("data set (SHA-256)", d, counted(n, "run")) for d, n in repeat.data_digests.items()),
        *(("commit", commit, counted(n, "run")) for commit, n in repeat.commits.items()),
        *((name, version, "") for name, version in repeat.versions.items()),
    ]
    columns = (*text_columns("What", "Which"), *numeric_columns("How many"))
    return Table("Data, source and versions", columns, tuple(tuple(map(Cell, row)) for row in rows))
