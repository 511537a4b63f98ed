"""Verdicts of benchmarks that trained as many seeds as their decision needed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from fm_mlflow.analysis.comparison import Group, Verdict, VerdictWord
from fm_mlflow.analysis.examples import TestExamples
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.prose import design_sentences
from fm_mlflow.analysis.prose.words import listed
from fm_mlflow.analysis.seed_course import Course, Evidence, Pair, PairCourse, cautious, follow
from fm_mlflow.analysis.seed_design import SeedDesign
from fm_mlflow.analysis.statistics.intervals import describe
from fm_mlflow.analysis.statistics.resampling import SeedsAndExamples


@dataclass(frozen=True)
class DesignedPair:
    """What a design says of two groups.

    Attributes:
        design: The design.
        course: How far it has come.
        pair: Of the two; None where it has not looked at them yet.
    """

    design: SeedDesign
    course: Course
    pair: PairCourse | None


def designed_pairs(
    groups: Sequence[Group], examples: TestExamples, objective: Objective
) -> dict[frozenset[str], DesignedPair]:
    """Return the pairs of groups that a design of their benchmark judges, by their names.

    A design judges where all of its models are here, each with this benchmark's runs alone.

    Args:
        groups: Those that are compared pair by pair.
        examples: How their runs did on the test examples.
        objective: The compared metric.
    """
    found = {}
    for design, by_model in _whole_benchmarks(groups, objective):
        course = course_of(by_model, examples, objective, design)
        for a, b in combinations(by_model.values(), 2):
            pair: Pair = (min(a.design_model, b.design_model), max(a.design_model, b.design_model))
            designed = DesignedPair(design, course, course.pairs.get(pair))
            found[frozenset((a.name, b.name))] = designed
    return found


def chosen_seeds(groups: Sequence[Group], objective: Objective) -> Iterator[str]:
    """Warn of groups whose seeds a design chose, and that it does not judge here."""
    judged = {
        g.name for _, members in _whole_benchmarks(groups, objective) for g in members.values()
    }
    chosen = [g.name for g in groups if g.name not in judged and any(r.design for r in g.runs)]
    if chosen:
        yield (
            f"How many seeds {listed(chosen)} got was decided by results (benchmark --seeds auto), "
            "and tests of a fixed number do not allow for that: compare all models of the "
            "benchmark, and its runs alone, for its own verdicts."
        )


def _whole_benchmarks(
    groups: Sequence[Group], objective: Objective
) -> Iterator[tuple[SeedDesign, Mapping[str, Group]]]:
    """Yield each design of which all models are here with its runs alone; and them, by model."""
    benchmarks: dict[tuple[str, SeedDesign], list[Group]] = defaultdict(list)
    for group in groups:
        origins = {(run.benchmark, run.design) for run in group.runs}
        benchmark, design = next(iter(origins))
        if len(origins) == 1 and benchmark and design:
            benchmarks[benchmark, design].append(group)
    for (_, design), members in benchmarks.items():
        by_model = {group.design_model: group for group in members}
        is_whole = len(members) == len(by_model) and by_model.keys() == set(design.models)
        if is_whole and design.is_about(objective.metric):
            yield design, by_model


def course_of(
    groups: Mapping[str, Group], examples: TestExamples, objective: Objective, design: SeedDesign
) -> Course:
    """Follow a design through the runs of its models, whichever seeds there are by now.

    Args:
        groups: By model; a model without a finished run may be missing.
        examples: How the runs did on the test examples.
        objective: The compared metric.
        design: Of the benchmark.
    """

    def look(models: Sequence[str], seeds: int) -> Mapping[Pair, Evidence] | None:
        first = [_first_seeds(groups.get(model), seeds, objective) for model in models]
        parts = {group.design_model: group for group in first if group is not None}
        if len(parts) < len(models):
            return None
        resampled = SeedsAndExamples(list(parts.values()), examples, objective)
        return {
            (a, b): _evidence(parts[a], parts[b], resampled, objective, design)
            for index, a in enumerate(models)
            for b in models[index + 1 :]
        }

    return follow(design, look, design.less_is_better(objective.smaller_is_better))


def _first_seeds(group: Group | None, seeds: int, objective: Objective) -> Group | None:
    """Return a group with its first seeds alone; None where one of them lacks."""
    if group is None:
        return None
    metric = objective.metric
    runs = [r for r in group.runs if r.seed is not None and r.seed < seeds and metric in r.metrics]
    if {run.seed for run in runs} != set(range(seeds)):
        return None
    values = [run.metrics[metric] for run in runs]
    return replace(group, runs=tuple(runs), metrics={metric: describe(values, metric)})


def _evidence(
    a: Group, b: Group, resampled: SeedsAndExamples, objective: Objective, design: SeedDesign
) -> Evidence:
    first, second = a.metrics[objective.metric], b.metrics[objective.metric]
    interval = resampled.interval(a, b)
    if interval is None:
        raise ValueError("a look needs several seeds of each model")
    margin = objective.margin(design.margin, first.mean, second.mean)
    return Evidence(cautious(interval, first.n), margin)


def filled(verdict: Verdict, a: Group, b: Group, by: DesignedPair, objective: Objective) -> Verdict:
    """Return a verdict with what the design says of its pair.

    Args:
        verdict: An open one, of `a` and `b`.
        a: A group.
        b: Another.
        by: Of the two.
        objective: The compared metric.
    """
    pair = by.pair
    if pair is None:
        return replace(verdict, words=design_sentences.not_yet(a, b, by.design, objective))
    sign = 1 if pair.models == (a.design_model, b.design_model) else -1
    ends = sorted((sign * pair.interval.low, sign * pair.interval.high))
    verdict = replace(
        verdict,
        difference=sign * pair.evidence.interval.difference,
        ci_low=ends[0],
        ci_high=ends[1],
        interval=f"{pair.evidence.interval.method}, at the last look at the pair; together those "
        f"of all looks hold with {100 * (1 - by.design.alpha):g}%",
        p_value=pair.p_value,
        p_unadjusted=pair.p_unadjusted,
        p_equivalent=pair.p_equivalent,
        margin=pair.evidence.margin,
        test="group-sequential t-test",
        verdict=_word(pair, sign, objective),
        looked_at_seeds=pair.seeds,
        outlook=design_sentences.outlook(by.course, pair, objective),
    )
    words = design_sentences.designed(verdict, by.design, pair, objective)
    return replace(verdict, words=words)


def _word(pair: PairCourse, sign: int, objective: Objective) -> VerdictWord:
    match pair.decision:
        case "open":
            return "not_distinguishable"
        case "equivalent":
            return "equivalent"
        case decision:
            a_has_more = (decision == "first_more") == (sign == 1)
            return "a_better" if a_has_more != objective.smaller_is_better else "b_better"
