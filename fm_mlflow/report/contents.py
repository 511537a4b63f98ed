"""What the report of a comparison says, as tables of text: the same in every form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import ByClass, Comparison, Group, Statistic, Verdict
from fm_mlflow.analysis.costs import COSTS
from fm_mlflow.report import figures
from fm_mlflow.report.figures import NOT_MEASURED

T = TypeVar("T")

NOTEBOOK_COLUMNS = (
    ("Test Accuracy", keys.TEST_ACCURACY),
    ("Trainable Parameters", keys.PARAMETERS_TRAINABLE),
    ("Model Size (MB)", keys.SIZE_H5),
    ("FLOPs (Training)", keys.FLOPS_TRAINING),
    ("FLOPs (Inference)", keys.FLOPS_INFERENCE),
    ("Training Memory (MB)", keys.MEMORY_TRAINING),
)
"""The notebook's table after its column Model, and where each figure comes from."""

MOST_GROUPS = 15
"""A table of more groups than this shows the detailed ones alone."""

MOST_CLASSES = 25
"""Classes that a table of them can hold."""

_MOST_NAMES = 8
_MOST_REASONS = 40
_MOST_IDS = 20
_MOST_CONFUSIONS = 5

_ORDER = {str(key): position for position, key in enumerate(keys.all_keys())}

_TITLES: dict[str, str] = {
    keys.TEST_ACCURACY: "test accuracy",
    keys.TEST_LOSS: "test loss",
    **{cost.key: cost.title for cost in COSTS},
}


@dataclass(frozen=True)
class Cell:
    """One figure or text of a table.

    Attributes:
        text: What stands there.
        more: What belongs to it and may stand below it, smaller: a spread.
        group: Position among the detailed groups of the one that it names, to mark it.
    """

    text: str
    more: str = ""
    group: int | None = None

    @property
    def is_missing(self) -> bool:
        """Whether it says that there is nothing to say."""
        return self.text == NOT_MEASURED


@dataclass(frozen=True)
class Column:
    """The head of a column; `numeric` ones are aligned right."""

    title: str
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """A table: its first column names the rows.

    Attributes:
        title: Its caption.
        columns: One head a column.
        rows: One cell a column each.
        notes: Sentences below it.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SkippedFor:
    """Runs left out for one reason: how many, and the first of them as "id (name)"."""

    reason: str
    count: int
    runs: tuple[str, ...]


def title(name: str) -> str:
    """Return what a reader calls a metric."""
    return _TITLES.get(name, name)


def counted(number: int, what: str) -> str:
    """Return "1 run", "2 runs"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def shortened(names: Sequence[str], most: int = _MOST_NAMES) -> str:
    """Join names; of very many, the first."""
    rest = len(names) - most
    return ", ".join(names) if rest <= 0 else f"{', '.join(names[:most])} and {rest:,} more"


def first(items: Iterable[T]) -> list[T]:
    """Return as many as a table shows."""
    return list(islice(items, MOST_GROUPS))


def subtitle(comparison: Comparison) -> str:
    """Say how much was compared."""
    groups = comparison.groups
    models = len({group.model for group in groups})
    runs = counted(sum(len(group.runs) for group in groups), "run")
    settings = f" in {counted(len(groups), 'setting')}" if len(groups) > models else ""
    return f"{counted(models, 'model')}{settings}, {runs}"


def shown_groups(comparison: Comparison) -> tuple[Group, ...]:
    """Return the groups that tables show: all, or of many the detailed ones."""
    if len(comparison.groups) <= MOST_GROUPS:
        return comparison.groups
    return detailed_groups(comparison)


def detailed_groups(comparison: Comparison) -> tuple[Group, ...]:
    """Return the groups that the report looks at closely, in its order."""
    return tuple(group for group in comparison.groups if group.detailed)


def results(comparison: Comparison) -> Table:
    """The notebook's table, measured."""
    groups = shown_groups(comparison)
    positions = _positions(comparison)
    rows = tuple(
        (
            Cell(group.name, counted(len(group.runs), "run"), positions.get(group.name)),
            *(_metric_cell(group, metric) for _, metric in NOTEBOOK_COLUMNS),
        )
        for group in groups
    )
    notes = [
        "Mean over the runs of a model, ± their standard deviation; without ±, the runs do not "
        "differ in the digits shown, or there is only one. FLOPs and memory are measured. "
        "MB is 1024² bytes.",
        *_why_missing(groups, {str(metric): head for head, metric in NOTEBOOK_COLUMNS}),
    ]
    if unranked := [group.name for group in groups if not group.ranked]:
        notes.append(f"Not ranked by accuracy with the others: {shortened(unranked)}.")
    if hidden := len(comparison.groups) - len(groups):
        notes.append(f"{counted(hidden, 'more model')} in comparison.csv.")
    columns = (Column("Model", False), *(Column(head) for head, _ in NOTEBOOK_COLUMNS))
    return Table("Results", columns, rows, tuple(notes))


def _positions(comparison: Comparison) -> dict[str, int]:
    return {group.name: i for i, group in enumerate(detailed_groups(comparison))}


def _metric_cell(group: Group, metric: str) -> Cell:
    statistic = group.metrics.get(metric)
    if statistic is None:
        return Cell(NOT_MEASURED)
    return _statistic_cell(metric, statistic, len(group.runs))


def _statistic_cell(metric: str, statistic: Statistic | None, runs: int) -> Cell:
    if statistic is None:
        return Cell(NOT_MEASURED)
    few = f"(n = {statistic.n})" if statistic.n != runs else ""
    more = f"{figures.spread(metric, statistic)} {few}".strip()
    return Cell(figures.figure(metric, statistic.mean), more)


def _why_missing(groups: Iterable[Group], heads: Mapping[str, str]) -> Iterable[str]:
    """Say once for each cost and reason which groups it was not measured in."""
    names: dict[tuple[str, str], list[str]] = {}
    for group in groups:
        for metric, head in heads.items():
            if metric not in group.metrics and metric in group.missing:
                names.setdefault((head, group.missing[metric]), []).append(group.name)
    for (head, reason), which in names.items():
        yield f"{head} of {shortened(which)} was not measured: {reason.rstrip('.')}."


def estimates(comparison: Comparison) -> Table:
    """The notebook's rules of thumb beside what was measured, and how far apart they are."""
    rows = []
    for position, group in enumerate(detailed_groups(comparison)):
        for cost in figures.ESTIMATED:
            measured = group.metrics.get(cost.measured)
            estimate = group.metrics.get(cost.estimate)
            if measured is None and estimate is None:
                continue
            rows.append(
                (
                    Cell(group.name, group=position),
                    Cell(f"{cost.label}{cost.unit and ' (MiB)'}"),
                    _statistic_cell(cost.estimate, estimate, len(group.runs)),
                    _statistic_cell(cost.measured, measured, len(group.runs)),
                    Cell(figures.ratio(measured.mean / estimate.mean))
                    if measured and estimate and estimate.mean
                    else Cell(""),
                )
            )
    columns = (
        Column("Model", False),
        Column("Cost", False),
        Column("Notebook's estimate"),
        Column("Measured"),
        Column("Measured / estimate"),
    )
    notes = (
        "Estimates: 2 x kernel weights to predict, 6 x to train, 12 bytes x kernel weights of "
        "memory. They take each weight once; a convolution uses its weights at every position of "
        "the image. Measured: FLOPs as profiled, memory as the rise of the process's resident "
        "memory in training.",
    )
    return Table("Estimated and measured", columns, tuple(rows), notes if rows else ())


def fronts(comparison: Comparison) -> Table:
    """Who is on the Pareto front of accuracy against each cost, and who dominates whom."""
    shown = {group.name for group in shown_groups(comparison)}
    rows = []
    for front in comparison.fronts:
        dominated = [
            f"{name} (by {shortened(by, 3)})"
            for name, by in front.dominated.items()
            if name in shown
        ]
        if hidden := len(front.dominated) - len(dominated):
            dominated.append(counted(hidden, "other model" if dominated else "model"))
        on_front = front.reason and f"not ranked: {front.reason}"
        rows.append(
            (
                Cell(title(front.metric)),
                Cell(on_front or shortened(front.on_front) or "nobody"),
                Cell("" if front.reason else "; ".join(dominated) or "nobody"),
                Cell("" if front.reason else _left_out(front.left_out)),
            )
        )
    columns = tuple(
        Column(head, False) for head in ("Cost", "On the front", "Dominated", "Not ranked")
    )
    return Table("Accuracy against cost: who is on the Pareto front", columns, tuple(rows))


def _left_out(reasons: Mapping[str, str]) -> str:
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    return "; ".join(f"{shortened(names, 3)}: {why}" for why, names in by_reason.items())


def targets(comparison: Comparison) -> Table:
    """What it took each group to first reach the target accuracy."""
    positions = _positions(comparison)
    rows = tuple(
        (
            Cell(target.model, group=positions.get(target.model)),
            Cell(f"{target.reached} of {target.runs}"),
            *(
                _statistic_cell(metric, statistic, target.reached)
                if statistic or target.reached
                else Cell("not reached")
                for metric, statistic in (
                    (keys.EPOCH_SECONDS, target.epochs),
                    (keys.FIT_SECONDS, target.seconds),
                    (keys.FLOPS_TRAINING_TOTAL, target.flops),
                )
            ),
        )
        for target in comparison.targets
    )
    heads = ("Runs that reached it", "Epochs", "Seconds", "FLOPs of training")
    columns = (Column("Model", False), *(Column(head) for head in heads))
    accuracy = comparison.target_accuracy
    caption = (
        "Cost to reach an accuracy"
        if accuracy is None
        else f"Cost to first reach {figures.figure(keys.VAL_ACCURACY, accuracy)} in validation"
    )
    notes = ("Means over the runs that reached it, ± standard deviation.",) if rows else ()
    return Table(caption, columns, rows if accuracy is not None else (), notes)


def by_class(comparison: Comparison) -> Table:
    """How often each class was classified correctly."""
    groups = comparison.by_class
    classes = range(len(comparison.class_names))
    shown = sorted(classes, key=lambda c: min((g.accuracy[c] for g in groups), default=0.0))[
        :MOST_CLASSES
    ]
    rows = tuple(
        (
            Cell(comparison.class_names[c]),
            *(Cell(figures.figure(keys.TEST_ACCURACY, group.accuracy[c])) for group in groups),
        )
        for c in sorted(shown)
    )
    notes = [
        "Share of the test images of a class that were classified correctly, mean over the runs ("
        + ", ".join(f"{group.model}: {group.runs}" for group in groups)
        + ")."
    ]
    if hidden := len(classes) - len(shown):
        notes.append(f"The {len(shown)} worst; {hidden:,} more classes in comparison.json.")
    columns = (Column("Class", False), *(Column(group.model) for group in groups))
    return Table("Accuracy by class", columns, rows if groups else (), tuple(notes))


def worst_confusions(comparison: Comparison) -> Table:
    """The most frequent mistakes of each group."""
    names = comparison.class_names
    positions = _positions(comparison)
    rows = tuple(
        (
            Cell(group.model, group=positions.get(group.model)),
            Cell(names[true]),
            Cell(names[predicted]),
            Cell(f"{count:,}"),
            Cell(percent(count / sum(group.confusion[true]))),
        )
        for group in comparison.by_class
        for count, true, predicted in _mistakes(group)[:_MOST_CONFUSIONS]
    )
    columns = (
        *(Column(head, False) for head in ("Model", "True class", "Taken for")),
        Column("Images"),
        Column("Of the class"),
    )
    notes = ("Images are counted once for each run that was wrong about them.",) if rows else ()
    return Table("Most frequent mistakes", columns, rows, notes)


def _mistakes(group: ByClass) -> list[tuple[int, int, int]]:
    mistakes = [
        (count, true, predicted)
        for true, row in enumerate(group.confusion)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    return sorted(mistakes, key=lambda mistake: (-mistake[0], *mistake[1:]))


def percent(share: float) -> str:
    """Return a share of 1 in percent with one decimal."""
    return f"{100 * share:.1f}%"


def evidence(comparison: Comparison) -> list[Table]:
    """Every verdict: those on test accuracy, then those on costs."""
    accuracy = [v for v in comparison.verdicts if v.metric == keys.TEST_ACCURACY]
    costs = [v for v in comparison.verdicts if v.metric != keys.TEST_ACCURACY]
    tables = (("Test accuracy", accuracy), ("Costs", costs))
    return [_verdicts(heading, verdicts) for heading, verdicts in tables if verdicts]


def _verdicts(heading: str, verdicts: Sequence[Verdict]) -> Table:
    # A column only where it says something; what is the same in every row stands below the table.
    tests = list(dict.fromkeys(v.test for v in verdicts))
    intervals = list(dict.fromkeys(v.interval for v in verdicts if v.interval))
    columns: list[tuple[Column, Callable[[Verdict], str]]] = [
        (Column("A", False), lambda v: v.a),
        (Column("B", False), lambda v: v.b),
        (Column("Difference A - B"), lambda v: figures.difference(v.metric, v.difference)),
        (
            Column("95% interval"),
            lambda v: figures.difference_interval(v.metric, v.ci_low, v.ci_high) or "none",
        ),
        (Column("p"), lambda v: figures.probability(v.p_value) or "none"),
        (Column("A better"), lambda v: figures.share(v.probability_of_improvement)),
        (Column("In words", False), lambda v: v.words),
    ]
    if len({v.metric for v in verdicts}) > 1:
        columns.insert(0, (Column("Cost", False), lambda v: title(v.metric)))
    if any(v.p_value != v.p_unadjusted for v in verdicts):
        unadjusted = Column("p before Holm")
        columns.insert(-2, (unadjusted, lambda v: figures.probability(v.p_unadjusted) or "none"))
    if any(v.counts for v in verdicts):
        columns.insert(-1, (Column("Only A right, only B right"), _right_counts))
    if len(tests) > 1:
        columns.insert(-1, (Column("Test", False), lambda v: v.test))
    notes = [
        '"A better" is the probability of improvement: of all pairs of a run of A and one of B, '
        "the share in which A has the better value, ties half.",
        *([f"Test: {tests[0]}."] if len(tests) == 1 and tests[0] else []),
        *(f"Interval: {words}." for words in intervals),
    ]
    rows = tuple(tuple(Cell(text(v)) for _, text in columns) for v in verdicts)
    return Table(heading, tuple(column for column, _ in columns), rows, tuple(notes))


def _right_counts(verdict: Verdict) -> str:
    return ", ".join(f"{count:,}" for count in verdict.counts or ())


def all_metrics(comparison: Comparison) -> list[tuple[Cell, Table]]:
    """Every metric of every group shown."""
    positions = _positions(comparison)
    columns = (
        Column("Metric", False),
        *(Column(head) for head in ("n", "Mean", "SD", "95% interval")),
        Column("Unit", False),
    )
    tables = []
    for group in shown_groups(comparison):
        rows = tuple(
            (
                Cell(metric),
                Cell(f"{statistic.n}"),
                Cell(figures.figure(metric, statistic.mean)),
                Cell(
                    ""
                    if statistic.sd is None
                    else figures.figure(metric, statistic.sd, like=statistic.mean)
                ),
                Cell(
                    figures.interval(metric, statistic.ci_low, statistic.ci_high)
                    if statistic.sd
                    else ""
                ),
                Cell(figures.unit(metric)),
            )
            for metric, statistic in sorted(
                group.metrics.items(), key=lambda m: _ORDER.get(m[0], len(_ORDER))
            )
        )
        table = Table(group.name, columns, rows)
        tables.append((Cell(group.name, group=positions.get(group.name)), table))
    return tables


def skipped(comparison: Comparison) -> list[SkippedFor]:
    """Runs left out, by reason, the most frequent first."""
    reasons = Counter(run.reason for run in comparison.skipped)
    most = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    shown = {reason for reason, _ in most[:_MOST_REASONS]}
    runs: dict[str, list[str]] = {reason: [] for reason, _ in most}
    for run in comparison.skipped:
        if run.reason in shown and len(runs[run.reason]) < _MOST_IDS:
            runs[run.reason].append(f"{run.run_id} ({run.name})" if run.name else run.run_id)
    entries = [SkippedFor(reason, n, tuple(runs[reason])) for reason, n in most[:_MOST_REASONS]]
    if rest := most[_MOST_REASONS:]:
        entries.append(SkippedFor(f"{len(rest):,} other reasons", sum(n for _, n in rest), ()))
    return entries


def provenance(comparison: Comparison) -> Table:
    """What the runs and this report were made with."""
    repeat = comparison.repeat
    rows = [
        *(
            ("data set (SHA-256)", f"{d}", counted(n, "run"))
            for d, n in repeat.data_digests.items()
        ),
        *(("commit", f"{commit}", counted(n, "run")) for commit, n in repeat.commits.items()),
        *((name, version, "") for name, version in repeat.versions.items()),
    ]
    columns = (Column("What", False), Column("Which", False), Column("How many"))
    return Table(
        "Data, source and versions",
        columns,
        tuple((Cell(a), Cell(b), Cell(c)) for a, b, c in rows),
    )


def last_epochs(comparison: Comparison) -> Table:
    """Where the learning curves end: the forms without pictures show this."""
    positions = _positions(comparison)
    logged = [
        metric
        for metric in (keys.VAL_ACCURACY, keys.ACCURACY, keys.VAL_LOSS, keys.LOSS)
        if any(curves.get(metric) for g in detailed_groups(comparison) for curves in g.curves)
    ]
    rows = []
    for group in detailed_groups(comparison):
        for run, curves in zip(group.runs, group.curves, strict=False):
            ends = [curves[metric][-1] if curves.get(metric) else None for metric in logged]
            if any(ends):
                rows.append(
                    (
                        Cell(group.name, group=positions.get(group.name)),
                        Cell("" if run.seed is None else f"{run.seed}"),
                        Cell(f"{max(end[0] for end in ends if end)}"),
                        *(
                            Cell(figures.figure(metric, end[1]) if end else NOT_MEASURED)
                            for metric, end in zip(logged, ends, strict=True)
                        ),
                    )
                )
    heads = [metric.replace("val_", "validation ") for metric in logged]
    columns = (
        Column("Model", False),
        *(Column(head) for head in ("Seed", "Epochs", *(head.capitalize() for head in heads))),
    )
    notes = ("At the last epoch of each run; the curves are in report.html.",) if rows else ()
    return Table("Learning curves", columns, tuple(rows), notes)
