"""The warnings of a comparison: limits of its evidence, one sentence an issue, not a run."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Group
from fm_mlflow.analysis.costs import COSTS, LOAD, differences, machine_of, shown_costs
from fm_mlflow.analysis.examples import MOST_READ, TestExamples
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.prose.words import capitalised, counted, listed
from fm_mlflow.analysis.records import RunDetails, TrainingRun
from fm_mlflow.analysis.statistics.intervals import wilson
from fm_mlflow.escaping import shortened
from fm_mlflow.settings.selection import is_of_other_data

_COARSE = 0.01
"""A test set counts as small from this half-width of the interval of one accuracy."""

_NOT_ISOLATED = re.compile(r"; not isolated.*")
_NUMBER = re.compile(r"\d[\d.,]*")
_USABLE_CORES = re.compile(r"(\d+) usable")

_BUSY_SHARE = 0.5
"""Share of the usable cores; a load above it slows a training down."""

_LONGEST_HOST = 40

_LOAD_FADES = 180_000
"""Milliseconds after which a training has left the one-minute load average (but exp(-3))."""


def cautions(
    groups: Sequence[Group],
    details: Mapping[str, RunDetails],
    examples: TestExamples,
    objective: Objective,
) -> tuple[str, ...]:
    """Return the warnings, the most serious first.

    Args:
        groups: All that are shown, the best first.
        details: Of runs of detailed groups, by run id.
        examples: Their predictions, checked against each other.
        objective: The compared metric.
    """
    runs = [run for group in groups for run in group.runs]
    warnings = [
        *_direction(objective),
        *_unknown_data(runs, objective),
        *_data(groups, objective),
        *_protocol(groups),
        *_evidence(groups, examples, objective),
        *_read_in_part(groups),
        *_predictions(examples, objective),
        *_machine(runs),
        *_measuring(groups, details),
        *_lacking(groups, examples, objective),
        *_problems(runs, details),
    ]
    return tuple(dict.fromkeys(map(capitalised, warnings)))


def _direction(objective: Objective) -> Iterator[str]:
    if objective.contradicts:
        asked, usual = ("less", "more") if objective.smaller_is_better else ("more", "less")
        yield (
            f"{asked} of {objective.title} is taken to be better, as was asked for; of metrics "
            f"with such a name {usual} is."
        )


def _unknown_data(runs: Sequence[TrainingRun], objective: Objective) -> Iterator[str]:
    """Warn of a metric that may be of the training data: no run has it of other data, too."""
    if any(run.version for run in runs) and not is_of_other_data(objective.metric):
        yield (
            f"The name of {objective.title} does not say on what data it was measured: what Keras "
            "logs of an epoch without val_ or test_ is of the training data, which decides nothing."
        )


def _data(groups: Sequence[Group], objective: Objective) -> Iterator[str]:
    metric = objective.metric
    if unscored := [group.name for group in groups if metric not in group.metrics]:
        yield f"Not ranked, because they have no {objective.title}: {listed(unscored)}."
    other = [group.name for group in groups if not group.ranked and metric in group.metrics]
    first = next((group.runs[0] for group in groups if group.ranked), None)
    main = first.data_digest if first else None
    if first is not None and other and main is not None:
        yield (
            f"Not ranked, because their data are not, or not known to be, those of most runs "
            f"({first.data_set.exactly}): {listed(other)}."
        )
    elif other:
        yield f"Not ranked, because most runs do not say on what data they were: {listed(other)}."
    if main is None and any(group.ranked for group in groups):
        yield "The runs do not say on what data they were tested: it may not be the same."


def _protocol(groups: Sequence[Group]) -> Iterator[str]:
    for setting, what in (
        ("validation_split", "validated alike (validation_split)"),
        ("epochs", "trained for the same number of epochs"),
    ):
        names: dict[str, list[str]] = defaultdict(list)
        for group in groups:
            if group.ranked:
                names[group.config.get(setting, "not recorded")].append(group.name)
        if len(names) > 1:
            each = [f"{value} ({listed(named)})" for value, named in sorted(names.items())]
            yield f"The models were not {what}: {listed(each)}."


def _evidence(
    groups: Sequence[Group], examples: TestExamples, objective: Objective
) -> Iterator[str]:
    ranked = [group for group in groups if group.ranked]
    if single := [group.name for group in ranked if group.metrics[objective.metric].n == 1]:
        yield (
            f"One seed only: {listed(single)}; differences between single runs are those of two "
            "trained models, not of two architectures."
        )
    if ranked and examples.count and objective.is_accuracy:
        accuracy = min(1.0, max(0.0, ranked[0].metrics[objective.metric].mean))
        interval = wilson(accuracy, examples.count)
        half = (interval.high - interval.low) / 2
        if half > _COARSE:
            yield (
                f"The test set has {examples.count:,} images: they tell one model's accuracy to "
                f"within {half:.3f} only."
            )


def _read_in_part(groups: Sequence[Group]) -> Iterator[str]:
    of_more = [group for group in groups if group.detailed and len(group.runs) > MOST_READ]
    if of_more:
        named = [f"{group.name} ({len(group.runs):,} runs)" for group in of_more]
        yield (
            f"Learning curves, predictions and measurements were read of the first {MOST_READ} "
            f"seeds only of {listed(named)}; logged metrics count in all runs."
        )


def _predictions(examples: TestExamples, objective: Objective) -> Iterator[str]:
    if examples.mismatched:
        what = f"{objective.example}s"
        yield (
            f"{_runs(examples.mismatched)} predicted other test {what}, or in another order, than "
            f"most: their {what} are not compared one by one."
        )
    if examples.inconsistent:
        yield (
            f"{_runs(examples.inconsistent)} logged {objective.one} that the stored predictions do "
            "not give: these predictions are not used."
        )


def _lacking(
    groups: Sequence[Group],
    examples: TestExamples,
    objective: Objective,
) -> Iterator[str]:
    """Name once what runs of others lack, and what a metric other than accuracy cannot use."""
    compared = [group for group in groups if group.detailed]
    if not objective.is_accuracy:
        known = [group.name for group in compared if len(examples.of(group))]
        if without := [group.name for group in compared if group.name not in known]:
            whose = f" of {listed(without)}" if known else ""
            yield (
                f"No stored predictions give {objective.title}{whose}: intervals there count the "
                "choice of seeds as chance, not that of test examples."
            )
    costs = shown_costs({metric for group in compared for metric in group.metrics})
    unmeasured: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for group in compared:
        if any(run.version is None for run in group.runs) or not objective.is_accuracy:
            lacks = tuple(
                cost.title
                for cost in costs
                if cost.key not in group.metrics and cost.key not in group.missing
            )
            unmeasured[lacks].append(group.name)
    for titles, names in unmeasured.items():
        if titles:
            which = "any cost" if len(titles) == len(costs) else listed(titles, len(costs))
            yield f"No run of {listed(names)} measured {which}."


def _machine(runs: Sequence[TrainingRun]) -> Iterator[str]:
    if differing := differences(runs):
        fields = [f"{name} ({listed(values)})" for name, values in differing.items()]
        yield (
            f"The runs were made under different conditions: {listed(fields, len(fields))}; costs "
            "that depend on them are not ranked across."
        )
    if unknown := [run for run in runs if not machine_of(run)]:
        yield f"{_runs(unknown)} did not record on which machine."
    versions = sorted({run.version for run in runs if run.version is not None})
    if len(versions) > 1:
        yield f"The runs were logged by different versions of fm_mlflow: {listed(versions)}."
    if contended := [run for run in runs if run.jobs > 1]:
        most = max(run.jobs for run in contended)
        yield (
            f"Times and latencies of {_runs(contended)} were taken under contention: up "
            f"to {most} trainings at a time on one machine."
        )
    yield from _places(runs)
    yield from _busy(runs)


def _places(runs: Sequence[TrainingRun]) -> Iterator[str]:
    """Say which runs were resumed, and where all ran if not in one place."""
    if resumed := [run for run in runs if run.parts > 1]:
        yield (
            f"{_runs(resumed)} had more than one process in turn, after an interruption or to be "
            "extended: peak and baseline memory of such runs are not compared."
        )
    hosts = Counter(run.host for run in runs if run.host)
    if len(hosts) > 1:
        named = [f"{shortened(host, _LONGEST_HOST)} ({hosts[host]})" for host in sorted(hosts)]
        yield f"The runs were on {len(hosts)} machines: {listed(named)}."


def _busy(runs: Sequence[TrainingRun]) -> Iterator[str]:
    """Warn of runs whose machine was busy when they began.

    A training that follows another one finds the load that it left: up to one process a usable
    core. Another warning is about those that ran side by side.
    """
    ends: dict[frozenset[tuple[str, str]], list[int]] = defaultdict(list)
    for run in runs:
        ends[machine_of(run)].append(run.end_time)
    for each in ends.values():
        each.sort()
    busy = []
    for run in runs:
        load, cores = _load(run), _usable_cores(run)
        if load is None or cores is None or run.jobs > 1:
            continue
        before = ends[machine_of(run)]
        last = bisect_right(before, run.start_time) - 1
        follows = last >= 0 and run.start_time - before[last] < _LOAD_FADES
        if load > cores * (_BUSY_SHARE + follows):
            busy.append((load, cores, run))
    if busy:
        load, cores, _ = max(busy, key=lambda each: each[0])
        yield (
            f"{_runs([run for _, _, run in busy])} began on a machine that was busy already (load "
            f"{'' if len(busy) == 1 else 'up to '}{load:.1f} on {counted(cores, 'usable core')}): "
            "times and latencies are not clean."
        )


def _load(run: TrainingRun) -> float | None:
    try:
        load = float(run.machine.get(LOAD, ""))
    except ValueError:  # unknown, or a tag of other software
        return None
    return load if math.isfinite(load) else None


def _usable_cores(run: TrainingRun) -> int | None:
    found = _USABLE_CORES.search(run.machine.get("cores", ""))
    return int(found[1]) if found else None


def _measuring(groups: Sequence[Group], details: Mapping[str, RunDetails]) -> Iterator[str]:
    methods: dict[str, set[str]] = defaultdict(set)
    shared = []
    for run in (run for group in groups for run in group.runs if run.run_id in details):
        measurements = details[run.run_id].measurements
        for cost in COSTS:
            measured = measurements.get(cost.key, {})
            if measured.get("value") is not None or cost.key in run.metrics:
                methods[cost.title].add(_method(measured.get("method")))
        memory = measurements.get(keys.MEMORY_PEAK, {}).get("details")
        if isinstance(memory, Mapping) and memory.get("isolated") is False:
            shared.append(run)
    differing = [title for title, each in methods.items() if len(each - {""}) > 1]
    if differing:
        yield f"Not measured by the same method in all runs: {listed(differing, len(COSTS))}."
    if shared:
        yield (
            f"{_runs(shared)} trained in a process that had trained before: the memory figures "
            "hold what it kept."
        )


def _method(method: object) -> str:
    """Return how a cost was measured, without what may rightly differ: sizes, isolation."""
    return _NUMBER.sub("#", _NOT_ISOLATED.sub("", method)) if isinstance(method, str) else ""


def _problems(runs: Iterable[TrainingRun], details: Mapping[str, RunDetails]) -> Iterator[str]:
    """Yield each kind of problem once, with the cause in the first run that has it."""
    affected: dict[str, list[tuple[str, TrainingRun]]] = defaultdict(list)
    for run in runs:
        for problem in details.get(run.run_id, RunDetails()).problems:
            kind, _, cause = problem.partition(": ")
            affected[kind].append((cause.rstrip("."), run))
    for kind, having in affected.items():
        first = "the first, " if len(having) > 1 else ""
        cause = f" ({first}{having[0][0]})" if having[0][0] else ""
        yield f"{_runs([run for _, run in having])}: {kind.rstrip('.')}{cause}."


def _runs(runs: Sequence[TrainingRun]) -> str:
    """Name a single run, count several."""
    return f"run {runs[0].run_id}" if len(runs) == 1 else counted(len(runs), "run")
