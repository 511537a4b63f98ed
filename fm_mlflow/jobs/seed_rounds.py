"""Rounds of seeds: trainings for the models that are still in question, until that is decided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from fm_mlflow.analysis.design_verdicts import course_of
from fm_mlflow.analysis.examples import match_examples, read_closely
from fm_mlflow.analysis.grouping import group_runs
from fm_mlflow.analysis.objective import Objective
from fm_mlflow.analysis.prose.design_sentences import after_look
from fm_mlflow.analysis.records import RunDetails
from fm_mlflow.analysis.seed_course import Course
from fm_mlflow.analysis.seed_design import LONGEST_NAME, SeedDesign
from fm_mlflow.errors import InputError
from fm_mlflow.jobs.trainings import Trainings
from fm_mlflow.listeners import BenchmarkListener
from fm_mlflow.naming import model_name
from fm_mlflow.process.redaction import redact
from fm_mlflow.settings.config import BenchmarkConfig
from fm_mlflow.settings.selection import CompareConfig
from fm_mlflow.tracking.find_runs import find_runs
from fm_mlflow.tracking.recorder import MAX_TAG_LENGTH
from fm_mlflow.tracking.run_details import load_details
from fm_mlflow.tracking.store import wait_until_reachable


def design_of(config: BenchmarkConfig) -> SeedDesign | None:
    """Return the design of a benchmark; None where the number of seeds is given.

    Raises:
        InputError: The runs' tag has no room for the models: the benchmark could not be resumed.
    """
    if config.seeds != "auto":
        return None
    asked: Literal["", "smaller", "larger"] = "larger" if config.larger_is_better else ""
    if config.smaller_is_better:
        asked = "smaller"
    accepted = (
        f"with --seeds auto, up to {LONGEST_NAME:,} characters a model with its arguments and "
        f"about {MAX_TAG_LENGTH:,} in all"
    )
    names = tuple(redact(model) for model in config.model_names)
    for name in names:
        if len(name) > LONGEST_NAME:
            raise InputError("models", name, accepted)
    design = SeedDesign(
        models=names,
        metric=config.metric,
        better=asked,
        max_seeds=config.max_seeds,
        margin=config.margin,
        alpha=config.alpha,
    )
    if len(design.model_dump_json()) > MAX_TAG_LENGTH:
        raise InputError("models", config.models, accepted)
    return design


class SeedRounds:
    """Rounds of trainings as a design asks for them.

    Each round depends on the results in the store alone, so a benchmark that was interrupted
    decides the same when it is resumed.

    Args:
        trainings: Of the benchmark.
        config: Its settings.
        design: Made of them.
        settle: Waits until the store knows the end of every training.
        progress: Hears what is decided.
    """

    def __init__(
        self,
        trainings: Trainings,
        config: BenchmarkConfig,
        design: SeedDesign,
        settle: Callable[[], None],
        progress: BenchmarkListener,
    ) -> None:
        self._trainings = trainings
        self._config = config
        self._design = design
        self._settle = settle
        self._progress = progress
        self._details: dict[str, RunDetails] = {}

    def run_all(self) -> None:
        """Train until the design is at its end, or a training failed.

        Raises:
            Interrupted: Asked to stop; the trainings have been stopped.
            TrackingError: The store does not answer.
        """
        names = {redact(model): model_name(model) for model in self._config.model_names}
        while True:
            course = self._course()
            if course.pairs:
                self._progress.stage(after_look(course, self._design, names))
            seeds = {model: course.seeds[redact(model)] for model in self._config.model_names}
            before = len(self._trainings.outcomes)
            self._trainings.run_all(self._config.trainings(seeds))
            self._settle()
            if any(outcome.error for outcome in self._trainings.outcomes):
                return
            if course.state != "training":
                return
            if len(self._trainings.outcomes) == before:  # a loss that was not finite, say
                self._progress.notice(
                    f"the rounds end undecided: a finished training has no {self._trainings.metric}"
                    ", or was not trained as the others of its model"
                )
                return

    def _course(self) -> Course:
        """Follow the design through what has finished, of earlier calls too."""
        finished = self._trainings.finished_ids
        metric, config = self._trainings.metric, self._config
        smaller, larger = config.smaller_is_better, config.larger_is_better
        choice = CompareConfig(metric=metric, smaller_is_better=smaller, larger_is_better=larger)
        objective = Objective.of(choice)
        runs = []
        if finished:
            wait_until_reachable(self._config.flush_timeout)
            runs = find_runs(CompareConfig(runs=",".join(finished), metric=metric), metric).runs
        groups = group_runs(runs, max(1, len(runs)), None, objective).groups
        read = [run for group in groups for run in read_closely(group)]  # as `compare` does
        new = [run for run in read if run.run_id not in self._details]
        self._details |= load_details(new, objective)
        examples = match_examples(groups, self._details, objective)
        by_model = {group.design_model: group for group in reversed(groups)}
        return course_of(by_model, examples, objective, self._design)
