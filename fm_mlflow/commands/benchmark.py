"""Models x seeds: each training in a fresh process, all under one parent run, then compared."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from fm_mlflow import keys
from fm_mlflow.analysis.main_figures import main_figures
from fm_mlflow.analysis.prose.words import counted
from fm_mlflow.commands.compare import check_output, compare
from fm_mlflow.commands.sync import sync
from fm_mlflow.data.dataset import load_dataset
from fm_mlflow.errors import ComparisonError, InputError, Interrupted, TrackingError
from fm_mlflow.jobs.choose import executor_of
from fm_mlflow.jobs.executors import Executor
from fm_mlflow.listeners import BenchmarkListener
from fm_mlflow.naming import benchmark_name, command_line
from fm_mlflow.process.file_lock import LockedError
from fm_mlflow.process.signals import guard
from fm_mlflow.report.describe import describe_benchmark
from fm_mlflow.results.benchmark import BenchmarkError, BenchmarkResult
from fm_mlflow.results.compare import CompareResult
from fm_mlflow.settings.base import parse, resumed
from fm_mlflow.settings.config import BenchmarkConfig
from fm_mlflow.settings.dataset import is_own
from fm_mlflow.settings.model_reference import split_settings
from fm_mlflow.settings.placement import Placement
from fm_mlflow.settings.selection import CompareConfig, RunsConfig
from fm_mlflow.training.model_arguments import check_model

if TYPE_CHECKING:
    from fm_mlflow.analysis.records import TrainingRun
    from fm_mlflow.jobs.trainings import Trainings
    from fm_mlflow.tracking.child_runs import StoredRun

_MOST_FAILURES_NAMED = 3

_DIRECTIONS = ("smaller_is_better", "larger_is_better")
_OF_THE_COMPARISON = ("cost", "margin", "price_per_core_hour", "output", *_DIRECTIONS)

_OF_THIS_CALL = {
    *("jobs", "resume", "data_dir", "flush_timeout", "cost", "price_per_core_hour", "metric"),
    *("output", *_DIRECTIONS),
    "checkpoint_seconds",
    *Placement.model_fields,
}
"""Settings that do not shape the trainings: each call of a benchmark has its own."""


def benchmark(
    *,
    progress: BenchmarkListener | None = None,
    executor: Executor | str | None = None,
    **settings: Any,
) -> BenchmarkResult:
    """Train each model with each seed, each in a fresh process, then compare them.

    One parent run holds a run for each training and, at the end, the comparison. The order is
    random, so that no model has the cool machine to itself. A training that fails does not stop
    the others. With `seeds="auto"` trainings come in rounds, for the models that are still in
    question, until the best is known, the rest are equivalent, or `max_seeds` is reached; a failure
    ends the rounds. `resume` takes up a benchmark that was interrupted or had failures: what is
    finished stays, the rest is trained in runs of their own.

    Args:
        progress: Hears how it goes on; by default nothing is said.
        executor: Where the trainings run, by name or as an object; by default in `jobs` processes
            of this machine.
        **settings: The fields of `BenchmarkConfig`: models, seeds, max_seeds, alpha, jobs,
            order_seed, resume, those of `TrainConfig` without model and seed, executor_config,
            cpus, gpus, memory_gib, ship_code, retries, cost, margin, price_per_core_hour, output,
            metric, smaller_is_better, larger_is_better.

    Returns:
        The trainings and the comparison.

    Raises:
        InputError: A setting, a model or the data folder was refused; nothing was started.
        DataError: The data are damaged or cannot be had.
        Interrupted: Asked to stop; so were the trainings. Its `advice` says how to continue.
        BenchmarkError: Trainings failed; its `result` holds what came of the others.
        TrackingError: The tracking store refused or did not answer.

    Examples:
        >>> result = fm_mlflow.benchmark(models="mlp,cnn", seeds=5)
        >>> result.comparison.comparison.summary
    """
    if isinstance(executor, str):
        settings["executor"] = executor
    config = parse(BenchmarkConfig, settings)
    progress = progress or BenchmarkListener()
    with guard():
        if config.resume:
            config = _resumed(config)
        if is_own(config.dataset):  # it may be resumed from another working directory
            config = config.model_copy(update={"data_dir": os.path.abspath(config.data_dir)})
        for model in config.model_names:
            check_model(split_settings(model)[0])
        check_output(config.output)
        progress.stage("checking the data")
        # Once, before many processes want the data.
        dataset = load_dataset(config.dataset, config.data_dir, progress.download)
        digest = dataset.hold_out(config.validation_split).digest
        before = _trainings_before(config, digest)

        from fm_mlflow.jobs.outcomes import reruns
        from fm_mlflow.jobs.seed_rounds import SeedRounds, design_of
        from fm_mlflow.jobs.trainings import Trainings
        from fm_mlflow.tracking.child_runs import open_run
        from fm_mlflow.tracking.run import TrackedRun
        from fm_mlflow.tracking.store import tracking_uri

        for sentence in reruns(before):
            progress.notice(sentence)
        design = design_of(config)
        kind = keys.KIND_BENCHMARK
        if executor is None or isinstance(executor, str):
            executor = executor_of(config, config.jobs)
        with (
            executor as place,
            open_run(kind, config.resume) if config.resume else nullcontext(),
            TrackedRun(
                kind,
                benchmark_name(config),
                flush_timeout=config.flush_timeout,
                notice=progress.notice,
            ) as run,
        ):
            with _saying_how_to_continue(config, run.run_id):
                run.log_params(config.model_dump(exclude={*_OF_THIS_CALL, "dataset"}))
                # `mlflow run` has logged the path that was given.
                run.log_params({"dataset": config.dataset}, unless_logged=is_own(config.dataset))
                run.set_tags({keys.DATASET_DIGEST: digest})
                if design is not None:
                    run.set_tags({keys.DESIGN: design.model_dump_json()})
                images = len(dataset.test) if dataset.numbered_classes() else 0
                sentences = _forecast(config, digest, images)
                progress.forecast(sentences)
                trainings = Trainings(run, config, place, progress, before, design)
                settle = partial(_settle, trainings, config.flush_timeout)
                if design is None:
                    trainings.run_all(config.trainings())
                else:
                    SeedRounds(trainings, config, design, settle, progress).run_all()
                settle()
                try:
                    comparison = _compare(config, trainings, progress)
                except InputError as error:  # only the trainings tell which metrics there are
                    again = _again(config.model_copy(update={"metric": ""}), run.run_id)
                    if design is not None:  # it decides by its metric, when it is resumed, too
                        again = f"fm-mlflow compare --runs {','.join(trainings.finished_ids)}"
                    raise ComparisonError(
                        f"{error}; compare them with: {again} --metric NAME"
                    ) from error
                run.describe(describe_benchmark(config, trainings.outcomes, comparison))
                if comparison is not None:
                    run.log_metrics(main_figures(comparison.comparison))
                    with run.artifacts() as folder:
                        name = str(keys.REPORT_HTML_FILE)
                        shutil.copyfile(comparison.files[name], folder / name)
            result = BenchmarkResult(
                run_id=run.run_id,
                run_name=run.name,
                experiment_id=run.experiment_id,
                tracking_uri=tracking_uri(),
                config=config,
                trainings=tuple(trainings.outcomes),
                comparison=comparison,
                forecast=sentences,
            )
            if result.failed:
                raise BenchmarkError(_failures(result), result)
            return result


def _resumed(given: BenchmarkConfig) -> BenchmarkConfig:
    """Return the settings of the benchmark to be resumed, with those of this call.

    A setting may be repeated, but not changed; `mlflow run` always gives the defaults.
    """
    from fm_mlflow.tracking.child_runs import read_run

    parent = read_run(given.resume, "resume")
    if parent.tags.get(keys.KIND) != keys.KIND_BENCHMARK:
        raise InputError("resume", given.resume, "the id of a benchmark's run (its parent run)")
    if not parent.ended:
        accepted = (
            f"a benchmark that has ended; it is {parent.status} (where its process is gone, "
            "`fm-mlflow reconcile` closes it)"
        )
        raise InputError("resume", given.resume, accepted)
    return resumed(given, parent.params, _OF_THIS_CALL, f"benchmark {given.resume}")


def _trainings_before(config: BenchmarkConfig, digest: str) -> Sequence[StoredRun]:
    """Return the trainings that the benchmark to be resumed has already."""
    if not config.resume:
        return []
    from fm_mlflow.analysis.seed_design import SeedDesign
    from fm_mlflow.jobs.seed_rounds import design_of
    from fm_mlflow.tracking.child_runs import children_of, read_run, set_aside_handed_over_run

    parent = read_run(config.resume, "resume")
    if (there := parent.tags.get(keys.DATASET_DIGEST, digest)) != digest:
        raise InputError("dataset", digest, f"the data of benchmark {config.resume}: {there}")
    design, tag = design_of(config), parent.tags.get(keys.DESIGN)
    # One that ended before it had said its design has trained nothing by it.
    if design is not None and tag is not None and design != SeedDesign.read(tag):
        accepted = f"that of benchmark {config.resume}, and its direction: it decides by them"
        raise InputError("metric", config.metric, accepted)
    set_aside_handed_over_run(f"resume of {parent.name}")
    before = children_of(config.resume)
    if not_ended := [each.run_id for each in before if not each.ended]:
        for run_id in not_ended:
            _deliver(run_id)
        before = children_of(config.resume)
    return before


@contextmanager
def _saying_how_to_continue(config: BenchmarkConfig, run_id: str) -> Iterator[None]:
    try:
        yield
    except Interrupted as error:
        error.advice = f"continue it with: {_again(config, run_id)}"
        raise
    except TrackingError as error:
        raise TrackingError(f"{error}; continue it with: {_again(config, run_id)}") from error


def _again(config: BenchmarkConfig, run_id: str) -> str:
    """Return the command that resumes a benchmark."""
    again = config.model_copy(update={"resume": run_id})
    stored = BenchmarkConfig.model_fields.keys() - _OF_THIS_CALL
    return command_line("benchmark", again, leave_out=stored)


def _deliver(run_id: str) -> None:
    """Deliver the journal that a training left, if it is on this machine."""
    with suppress(InputError, LockedError):
        sync([run_id])


def _settle(trainings: Trainings, seconds: float) -> None:
    """Wait until the store knows the end of every training."""
    if left := trainings.settle(_deliver, seconds):
        raise TrackingError(
            f"the tracking store does not answer; {counted(left, 'training')} ended "
            "meanwhile, and `fm-mlflow sync` delivers what is pending"
        )


def _forecast(config: BenchmarkConfig, digest: str, images: int) -> tuple[str, ...]:
    """Say what the trainings can decide and cost, by earlier runs of the experiment."""
    from fm_mlflow.analysis.forecast import earlier, forecast
    from fm_mlflow.tracking.find_runs import find_runs

    runs: list[TrainingRun] = []
    # What a store that does not answer cannot say is missing in the forecast, no more.
    with suppress(TrackingError):
        runs = find_runs(RunsConfig(filter=f"tags.`{keys.DATASET_DIGEST}` = '{digest}'")).runs
    return forecast(config, images, earlier(runs, config, digest))


def _compare(
    config: BenchmarkConfig, trainings: Trainings, progress: BenchmarkListener
) -> CompareResult | None:
    """Compare what finished; the other runs are listed in the report as skipped."""
    if all(outcome.error is not None for outcome in trainings.outcomes):
        return None
    from fm_mlflow.tracking.child_runs import open_run
    from fm_mlflow.tracking.store import wait_until_reachable

    wait_until_reachable(config.flush_timeout)
    runs = ",".join(trainings.run_ids)
    with open_run(keys.KIND_COMPARISON):
        return compare(
            progress=progress,
            runs=runs,
            metric=trainings.metric,
            # A design judges all of its models.
            top=max(CompareConfig.model_fields["top"].default, len(config.model_names)),
            **{name: getattr(config, name) for name in _OF_THE_COMPARISON},
        )


def _failures(result: BenchmarkResult) -> str:
    causes = result.causes
    named = [f"{names} ({cause})" for cause, names in causes[:_MOST_FAILURES_NAMED]]
    if more := len(causes) - len(named):
        named.append(counted(more, "more cause"))
    of = f"{len(result.failed)} of {len(result.trainings)} trainings failed"
    compared = "" if result.comparison else ", so there is nothing to compare"
    again = _again(result.config, result.run_id)
    return f"{of}{compared}: {'; '.join(named)}; repeat them with: {again}"
