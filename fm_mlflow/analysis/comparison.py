"""The result of the analysis: everything that a report says, as plain values.

Terminal, Markdown, CSV, HTML and JSON are five renderings of one `Comparison`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fm_mlflow.analysis.core_hours import Expense
from fm_mlflow.analysis.objective import DEFAULT, Objective
from fm_mlflow.analysis.records import SkippedRun, TrainingRun

VerdictWord = Literal["a_better", "b_better", "equivalent", "not_distinguishable"]


@dataclass(frozen=True, slots=True)  # a large store has hundreds of thousands
class Statistic:
    """One metric over the runs of a group.

    Attributes:
        n: Runs that have it.
        sd: Sample standard deviation; None for one run.
        ci_low: Lower end of the 95% t-interval of the mean; None for one run. That of a measured
            positive cost is taken on the logarithm, so it is never below zero.
        ci_high: Upper end, likewise.
        values: One value a run, by seed.
    """

    n: int
    mean: float
    sd: float | None
    ci_low: float | None
    ci_high: float | None
    values: tuple[float, ...]

    @property
    def is_constant(self) -> bool:
        """Whether all runs have the same value."""
        return min(self.values) == max(self.values)


@dataclass(frozen=True)
class Group:
    """Runs of one model that differ in nothing but the seed.

    Attributes:
        name: Unique in the comparison: the model, and what sets the group apart from the other
            groups of that model.
        model: What was trained.
        config: Every parameter that shapes the result, without model and seed.
        runs: By seed, then start.
        metrics: By logged name. A metric that no run has is absent: "not measured".
        ranked: Whether it can be compared with the other ranked groups: same test data, and a
            value of the compared metric there.
        detailed: Whether it is among the best, which are compared pairwise.
        curves: For each run, per-epoch metrics by name, (step, value); detailed groups only.
        missing: By logged name, why a cost has no value, where a run says.
    """

    name: str
    model: str
    config: Mapping[str, str]
    runs: tuple[TrainingRun, ...]
    metrics: Mapping[str, Statistic]
    ranked: bool = True
    detailed: bool = True
    curves: tuple[Mapping[str, Sequence[tuple[int, float]]], ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def data_digest(self) -> str | None:
        """Digest of the data that its runs share; None where they do not say."""
        return self.runs[0].data_digest

    @property
    def design_model(self) -> str:
        """What the design of its benchmark calls its model."""
        return self.runs[0].design_model or self.model


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on two groups in one metric, and the evidence for it.

    Attributes:
        a: Name of a group; `b` of another.
        metric: Logged name.
        difference: Mean of a - mean of b, in the metric's unit.
        ci_low: Lower end of its 95% interval; None where the runs give none. With a `ratio`, what
            that of the ratio makes of the mean of b.
        ci_high: Upper end, likewise.
        ratio: Of a measured positive cost: geometric mean of a / that of b; else None.
        ratio_low: Lower end of its 95% interval; None where the runs give none.
        ratio_high: Upper end, likewise.
        interval: How the interval was computed, in words; empty without one.
        p_value: Of the test, adjusted by Holm for all pairs of this metric; None where no test is
            needed (exact counts) or possible.
        p_unadjusted: Before that adjustment.
        p_equivalent: Of two one-sided tests, adjusted likewise: that the difference is not within
            ± `margin`. None where that is not asked: for costs, and for single runs.
        margin: In the metric's unit; None likewise.
        test: Name of the test, in words.
        verdict: Who is better (for a cost: lower), at p < 0.05; else whether they are equivalent,
            at the same level.
        probability_of_improvement: Share of pairs of runs in which a is better, ties half.
        words: The verdict in one sentence that claims no more than the evidence shows.
        seeds_needed: Where no result of so few seeds could have been significant: how many of
            each could; else None.
        counts: McNemar: images that only a has right, that only b has right.
        looked_at_seeds: Of a benchmark with as many seeds as needed: how many of each group the
            difference is of; else None.
        outlook: Of such a benchmark, of an open pair: why it is open and what would settle it.
    """

    a: str
    b: str
    metric: str
    difference: float
    ci_low: float | None = None
    ci_high: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    interval: str = ""
    p_value: float | None = None
    p_unadjusted: float | None = None
    p_equivalent: float | None = None
    margin: float | None = None
    test: str = ""
    verdict: VerdictWord
    probability_of_improvement: float | None
    words: str
    seeds_needed: int | None = None
    counts: tuple[int, int] | None = None
    looked_at_seeds: int | None = None
    outlook: str = ""

    @property
    def is_shown(self) -> bool:
        """Whether one of the two is better."""
        return self.verdict in ("a_better", "b_better")


@dataclass(frozen=True)
class Front:
    """The Pareto front of the compared metric against one cost.

    Attributes:
        metric: Logged name of the cost.
        on_front: Names of the groups that no other dominates, the best first.
        dominated: For each other group, which groups dominate it: no worse and no more expensive,
            one of the two clearly (intervals apart). Of a group without detail, the first few.
        left_out: For each group that cannot be ranked by this cost, why.
        reason: Why no group is ranked by it (it depends on the machine, say); empty otherwise.
    """

    metric: str
    on_front: tuple[str, ...]
    dominated: Mapping[str, tuple[str, ...]]
    left_out: Mapping[str, str]
    reason: str = ""


@dataclass(frozen=True)
class Best:
    """The decision.

    Attributes:
        model: Name of the group; None where no group qualifies.
        run_id: The run of it to take; None likewise.
        reason: Why this group, in one or two sentences that start with a capital letter.
        run_reason: The last of them: why this run of the group.
        cost: Logged name of the cost that decides between indistinguishable groups.
        contenders: Groups not distinguishable from the best by the metric, itself included.
        excluded: For each group that a bound excludes, which bound and its value.
    """

    model: str | None
    run_id: str | None
    reason: str
    cost: str
    contenders: tuple[str, ...]
    excluded: Mapping[str, str]
    run_reason: str = ""


@dataclass(frozen=True)
class TargetCost:
    """The cost of a group to first reach a value of the metric in validation.

    Attributes:
        reached: Runs that reached it.
        runs: Runs that have a learning curve.
        epochs: Epochs until then, over the runs that reached it; None where none did.
        seconds: Seconds of these epochs; None likewise or where not measured.
        flops: FLOPs of training until then; None likewise.
    """

    model: str
    reached: int
    runs: int
    epochs: Statistic | None
    seconds: Statistic | None
    flops: Statistic | None


@dataclass(frozen=True)
class ByClass:
    """Accuracy and confusion of a group's runs on each class of the test set.

    Attributes:
        runs: Runs whose predictions could be read.
        accuracy: Per class, in label order: share of its images classified correctly, over runs;
            NaN for a class without test images.
        confusion: Test images by true (row) and predicted (column) class, summed over the runs.
    """

    model: str
    runs: int
    accuracy: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class WrongExample:
    """A test example that a model got wrong.

    Attributes:
        position: In the test set, from 0.
        label: Its true class.
        said: For each model looked at: the true class if more than half of its runs gave it, else
            the most frequent of the others; and how many runs gave that.
    """

    position: int
    label: int
    said: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class WrongKind:
    """Test examples that the models got wrong in the same way.

    Attributes:
        title: In which way.
        count: How many there are.
        examples: Those in which most runs agree, and the surest; the first first.
    """

    title: str
    count: int
    examples: tuple[WrongExample, ...]


@dataclass(frozen=True)
class WrongExamples:
    """A choice of the test examples that models got wrong.

    Attributes:
        models: Names of the groups looked at, and how many runs of each.
        test_set: Size of it; 0 where no predictions could be used.
        run_id: A run that was tested on it.
        kinds: Those that have examples.
    """

    models: tuple[tuple[str, int], ...]
    test_set: int
    run_id: str
    kinds: tuple[WrongKind, ...]


NONE_WRONG = WrongExamples((), 0, "", ())


@dataclass(frozen=True)
class Answer:
    """A question of the report and its answer from the data."""

    question: str
    answer: str


@dataclass(frozen=True)
class Repeat:
    """How to repeat this report, and what it is about.

    Attributes:
        commands: Shell commands: the trainings, then this comparison.
        versions: Of fm_mlflow and the libraries that logged and compared, by name.
        data_digests: Of the data sets compared, each with the number of runs.
        commits: Of the source that the runs were made with, each with the number of runs.
    """

    commands: tuple[str, ...]
    versions: Mapping[str, str]
    data_digests: Mapping[str, int]
    commits: Mapping[str, int]


@dataclass(frozen=True)
class Comparison:
    """The whole comparison.

    Attributes:
        experiment: Name of the experiment, or of what else was compared.
        headline: The decision in one sentence.
        evidence: What it rests on, in one line; empty where nothing was decided.
        groups: The best first; those that are not ranked last.
        verdicts: Pairs of detailed, ranked groups; the compared metric first, then costs.
        fronts: One for each cost.
        target: The value in validation that `targets` is about; None without learning curves.
        targets: One for each detailed group.
        class_names: In label order; numbers as text where unknown.
        by_class: One for each detailed group that has predictions.
        answers: The reference's four questions, as far as they are of this metric, and what the
            models cost to use and to train.
        expenses: One for each detailed group whose machine is known.
        warnings: Limits of the evidence, one sentence each.
        skipped: Runs left out, and why.
        objective: The metric that models are compared by.
        wrong: Test examples that models got wrong, a choice of them.
    """

    experiment: str
    headline: str
    evidence: str
    groups: tuple[Group, ...]
    verdicts: tuple[Verdict, ...]
    fronts: tuple[Front, ...]
    best: Best
    target: float | None
    targets: tuple[TargetCost, ...]
    class_names: tuple[str, ...]
    by_class: tuple[ByClass, ...]
    answers: tuple[Answer, ...]
    warnings: tuple[str, ...]
    skipped: tuple[SkippedRun, ...]
    repeat: Repeat
    objective: Objective = DEFAULT
    wrong: WrongExamples = NONE_WRONG
    expenses: tuple[Expense, ...] = ()

    @property
    def summary(self) -> str:
        """The answer in two sentences."""
        return f"{self.headline} {self.evidence}".rstrip()
