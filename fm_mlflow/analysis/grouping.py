"""Groups of runs that differ in nothing but the seed; which are ranked and looked at closely."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import Group
from fm_mlflow.analysis.costs import COSTS, OF_ONE_PROCESS
from fm_mlflow.analysis.objective import DEFAULT, Objective
from fm_mlflow.analysis.prose.words import counted, figure
from fm_mlflow.analysis.records import SkippedRun, TrainingRun
from fm_mlflow.analysis.statistics.intervals import describe_groups
from fm_mlflow.escaping import shortened
from fm_mlflow.settings.model_reference import ARGUMENT_PREFIX
from fm_mlflow.settings.selection import Bounds

_UNKNOWN = "unknown"
_SHORTEST_DIGEST = 8
_LONGEST_PART = 60
_NOT_CHOSEN = "opt_"


@dataclass(frozen=True)
class Grouping:
    """The result of `group_runs`.

    Attributes:
        groups: The best first, those that are not ranked last.
        skipped: Runs that are not independent of another one of their group.
    """

    groups: tuple[Group, ...]
    skipped: tuple[SkippedRun, ...]

    @property
    def detailed(self) -> tuple[Group, ...]:
        """The groups that the comparison looks at closely."""
        return tuple(group for group in self.groups if group.detailed)


def group_runs(
    runs: Iterable[TrainingRun],
    top: int,
    bounds: Bounds | None = None,
    objective: Objective = DEFAULT,
) -> Grouping:
    """Group runs by model, parameters other than the seed, and data.

    Models of one name and the same parameters are different ones where their numbers of weights
    are: a script's two variants, both of which Keras calls `sequential`.

    Of several runs with the same seed only one counts, because the others repeat it: the one in
    which most of what is compared was measured, the latest of these. Runs that record no seed
    count one each.

    Args:
        runs: In any order.
        top: How many of the best groups are looked at in detail; as many again where bounds
            exclude some of these.
        bounds: What the best may cost.
        objective: By what groups are ranked.
    """
    members: dict[Hashable, list[TrainingRun]] = defaultdict(list)
    for run in map(_without_memory_of_parts, runs):
        members[run.model, frozenset(run.config.items()), run.data_digest].append(run)
    repeated: list[SkippedRun] = []
    independent = [
        _independent(group, repeated, objective)
        for same_name in members.values()
        for group in _by_size(same_name)
    ]
    # By contents, so that nothing depends on the order in which the store gave the runs.
    independent.sort(
        key=lambda runs: (
            runs[0].model,
            sorted(runs[0].config.items()),
            runs[0].data_digest or "",
            _weights(runs[0]) or 0,
        )
    )
    metrics = describe_groups(independent)
    groups = [
        Group(name, runs[0].model, runs[0].config, tuple(runs), each)
        for name, runs, each in zip(_names(independent), independent, metrics, strict=True)
    ]
    return Grouping(
        _select(groups, top, bounds, objective),
        tuple(sorted(repeated, key=lambda run: (run.name, run.run_id))),
    )


def _by_size(runs: Sequence[TrainingRun]) -> Iterable[list[TrainingRun]]:
    """Split runs by their models' weights, where at least two have different numbers of them."""
    by_size: dict[float | None, list[TrainingRun]] = defaultdict(list)
    for run in runs:
        by_size[_weights(run)].append(run)
    are_known = len(by_size.keys() - {None}) > 1
    return by_size.values() if are_known else [list(runs)]


def _weights(run: TrainingRun) -> float | None:
    return run.metrics.get(keys.PARAMETERS_TRAINABLE)


def _without_memory_of_parts(run: TrainingRun) -> TrainingRun:
    """Leave out the memory of a run that was resumed: its last process loaded a checkpoint."""
    if run.parts == 1:
        return run
    metrics = {name: value for name, value in run.metrics.items() if name not in OF_ONE_PROCESS}
    return replace(run, metrics=metrics)


def _independent(
    runs: Sequence[TrainingRun], repeated: list[SkippedRun], objective: Objective
) -> list[TrainingRun]:
    """Return the runs that count, in order; the others go to `repeated`."""
    kept: dict[Hashable, TrainingRun] = {}
    compared = (objective.metric, *(cost.key for cost in COSTS))

    def completeness(run: TrainingRun) -> tuple[int, int, str]:
        return (sum(name in run.metrics for name in compared), run.start_time, run.run_id)

    for run in sorted(runs, key=completeness, reverse=True):
        # A run without a seed is a key of its own.
        twin = kept.setdefault(("run", run.run_id) if run.seed is None else run.seed, run)
        if twin is not run:
            reason = f"same seed as run {twin.run_id}; not independent evidence"
            repeated.append(SkippedRun(run.run_id, run.name, reason))
    return sorted(
        kept.values(), key=lambda run: (run.seed is None, run.seed or 0, run.start_time, run.run_id)
    )


def _names(groups: Sequence[Sequence[TrainingRun]]) -> list[str]:
    """Name each group by its model and by what distinguishes it from the others of that model."""
    firsts = [group[0] for group in groups]
    configs: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for run in firsts:
        configs[run.model].append(run.config)
    differing = {model: _differing(each) for model, each in configs.items()}
    parts = [
        [
            f"{_short(_title(name, run.config))} {_short(run.config.get(name, _UNKNOWN))}"
            for name in differing[run.model]
        ]
        for run in firsts
    ]
    digits = _digest_digits({run.data_digest for run in firsts})
    data: dict[Hashable, set[str | None]] = defaultdict(set)
    sizes: dict[Hashable, set[float | None]] = defaultdict(set)
    for run, part in zip(firsts, parts, strict=True):
        data[(run.model, *part)].add(run.data_digest)
        sizes[(run.model, run.data_digest, *part)].add(_weights(run))
    names = []
    for run, part in zip(firsts, parts, strict=True):
        size = _weights(run)
        more = []
        if len(sizes[(run.model, run.data_digest, *part)]) > 1:
            more.append(_UNKNOWN if size is None else counted(round(size), "parameter"))
        if len(data[(run.model, *part)]) > 1:
            more.append(f"data {(run.data_digest or _UNKNOWN)[:digits]}")
        names.append(_named(run.model, [*part, *more]))
    return _numbered(names)


def _title(name: str, config: Mapping[str, str]) -> str:
    """Name a parameter; a model's argument by its name alone, where that is no parameter too."""
    short = name.removeprefix(ARGUMENT_PREFIX)
    return name if short in config else short


def _differing(configs: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the parameters that tell configurations apart, alphabetically.

    Those that one alone has count only where the others do not suffice; never what a callback of
    MLflow logged of the optimizer, because nobody chose it.
    """
    having = Counter(name for config in configs for name in config)
    differing = sorted(
        name
        for name in having
        if not name.startswith(_NOT_CHOSEN) and len({config.get(name) for config in configs}) > 1
    )
    shared = [name for name in differing if having[name] > 1]
    told_apart = {tuple(config.get(name) for name in shared) for config in configs}
    return shared if len(told_apart) == len(configs) else differing


def _named(model: str, parts: Sequence[str]) -> str:
    text = f"{_short(model)} ({', '.join(parts)})" if parts else _short(model)
    return " ".join(text.split())  # a name has to fit into a sentence


def _short(text: str) -> str:
    """Shorten a name or value that a user gave: many sentences repeat it."""
    return shortened(text, _LONGEST_PART)


def _digest_digits(digests: Iterable[str | None]) -> int:
    known = {digest for digest in digests if digest is not None}
    longest = max(map(len, known), default=0)
    return next(
        (
            digits
            for digits in range(_SHORTEST_DIGEST, longest)
            if len({digest[:digits] for digest in known}) == len(known)
        ),
        max(longest, len(_UNKNOWN)),
    )


def _numbered(names: Sequence[str]) -> list[str]:
    """Make names unique, whatever models and parameters are called."""
    unique: dict[str, None] = {}
    numbers: Counter[str] = Counter()
    for name in names:
        candidate = name
        while candidate in unique:
            numbers[name] += 1
            candidate = f"{name} #{numbers[name] + 1}"
        unique[candidate] = None
    return list(unique)


def _select(
    groups: Sequence[Group], top: int, bounds: Bounds | None, objective: Objective
) -> tuple[Group, ...]:
    """Mark the groups that are ranked and, of them, the best as detailed.

    Ranked are those with the metric on the data that most runs were tested on. Returns all, the
    best first, unranked ones last.
    """

    def best_first(group: Group) -> tuple[float, str]:
        statistic = group.metrics.get(objective.metric)  # without one last; equals by name
        return (-objective.gain(statistic.mean) if statistic else float("inf"), group.name)

    main = _main_digest(groups, objective.metric)
    ranked = sorted(
        (g for g in groups if objective.metric in g.metrics and g.data_digest == main),
        key=best_first,
    )
    affordable = [g for g in ranked if bounds is None or not exceeded(g, bounds)]
    detailed = {g.name for g in (*ranked[:top], *affordable[:top])}
    names = {g.name for g in ranked}
    others = sorted((g for g in groups if g.name not in names), key=best_first)
    return (
        *(replace(g, ranked=True, detailed=g.name in detailed) for g in ranked),
        *(replace(g, ranked=False, detailed=False) for g in others),
    )


def _main_digest(groups: Sequence[Group], metric: str) -> str | None:
    """Return the digest of the data that most runs with the metric share."""
    runs: Counter[str | None] = Counter()
    for group in groups:
        if metric in group.metrics:
            runs[group.data_digest] += len(group.runs)
    # Among equals a known one, then any that does not depend on the order.
    return max(
        runs, key=lambda digest: (runs[digest], digest is not None, digest or ""), default=None
    )


def exceeded(group: Group, bounds: Bounds) -> str:
    """Say which bounds a group exceeds with the mean over its runs; empty if none."""
    reasons = []
    for cost in COSTS:
        bound = getattr(bounds, cost.option) if cost.option else None
        if bound is None:
            continue
        statistic = group.metrics.get(cost.key)
        limit = f"{cost.option} is {figure(cost.key, bound)}"
        if statistic is None:
            reasons.append(f"{cost.title} not measured, {limit}")
        elif statistic.mean > bound:
            reasons.append(f"{cost.title} {figure(cost.key, statistic.mean)}, {limit}")
    return "; ".join(reasons)
