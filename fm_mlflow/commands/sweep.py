"""A search over settings, accuracy against a cost; its finalists proven with fresh seeds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fm_mlflow import keys
from fm_mlflow.analysis.main_figures import main_figures
from fm_mlflow.commands.benchmark import benchmark
from fm_mlflow.commands.compare import check_output, write_files
from fm_mlflow.commands.sync import sync
from fm_mlflow.data.dataset import Dataset, load_dataset
from fm_mlflow.errors import InputError, Interrupted, TrackingError
from fm_mlflow.jobs.choose import executor_of
from fm_mlflow.jobs.executors import Executor
from fm_mlflow.listeners import SweepListener
from fm_mlflow.naming import command_line, model_name
from fm_mlflow.process.file_lock import LockedError
from fm_mlflow.process.redaction import one_line
from fm_mlflow.process.signals import guard
from fm_mlflow.report.describe_sweep import describe_sweep
from fm_mlflow.report.sweep_tables import to_csv, to_json
from fm_mlflow.results.benchmark import BenchmarkError, BenchmarkResult
from fm_mlflow.results.sweep import SweepResult
from fm_mlflow.search.halving import Search
from fm_mlflow.search.proposals import check_installed, importances
from fm_mlflow.search.trials import Trial
from fm_mlflow.settings.base import parse, resumed
from fm_mlflow.settings.config import Protocol
from fm_mlflow.settings.dataset import is_own
from fm_mlflow.settings.placement import Placement
from fm_mlflow.settings.space import space_text
from fm_mlflow.settings.sweep import OF_THE_PROOF, SweepConfig
from fm_mlflow.training.model_arguments import named_model
from fm_mlflow.training.search_space import SearchSpace, importable_reference, search_space

if TYPE_CHECKING:
    import keras

    from fm_mlflow.jobs.trial_rounds import TrialRounds
    from fm_mlflow.tracking.run import TrackedRun

_OF_THIS_CALL = {
    *("jobs", "resume", "data_dir", "flush_timeout", "output", "warm", "measure"),
    "checkpoint_seconds",
    *("budget_flops", "budget_minutes", "finalists", *OF_THE_PROOF),
    *Placement.model_fields,
}
"""Settings that do not shape the search: each call of a sweep has its own."""


def sweep(
    model: str | Callable[..., keras.Model] = "mlp",
    *,
    model_args: Mapping[str, Any] | None = None,
    progress: SweepListener | None = None,
    executor: Executor | str | None = None,
    **settings: Any,
) -> SweepResult:
    """Search over settings of a model and its training, then prove what was found.

    Trials are judged by validation data and weighed against a cost that is known before training;
    what exceeds a bound is not trained, and the weaker half stops after few epochs. The finalists,
    and the model as it stands, are trained from scratch with fresh seeds on all training data and
    compared on the test set, which selects nothing.

    One parent run holds a run for each trial, the benchmark of the finalists and the report.
    `resume` takes up a sweep that ended early, however it did: the same proposals, nothing trained
    twice.

    Args:
        model: `mlp`, `cnn`, `package.module:function`, `path/to/file.py:function`, or a function
            that other processes can import. Its annotations may say what to search:
            `width: Annotated[int, Int(8, 256, log=True)] = 64`.
        model_args: Arguments that stay as they are.
        progress: Hears how it goes on; by default nothing is said.
        executor: Where trials and finalists are trained, by name or as an object; by default in
            `jobs` processes of this machine.
        **settings: The other fields of `SweepConfig`: space, metric, cost, the bounds
            (max_flops, …), trials, min_epochs, budgets, finalists, seeds, max_seeds, alpha,
            margin, executor_config, cpus, gpus, memory_gib, ship_code, retries, and those of
            `TrainConfig` without seed.

    Returns:
        The trials, the finalists, and what is recommended.

    Raises:
        InputError: A setting, the space, the model or the data folder was refused; nothing was
            started.
        DataError: The data are damaged or cannot be had.
        FmMlflowError: No trial can be run.
        Interrupted: Asked to stop. Says how to go on.
        TrackingError: The tracking store refused or did not answer.

    Example:
        >>> result = fm_mlflow.sweep("cnn", trials=24, epochs=5, max_flops=1_500_000)
        >>> result.recommended, result.reason
    """
    named = named_model(importable_reference(model), model_args)
    if isinstance(executor, str):
        settings["executor"] = executor
    config = parse(SweepConfig, {"model": named, **settings})
    progress = progress or SweepListener()
    with guard():
        check_installed()
        if config.resume:
            config = _resumed(config)
        if is_own(config.dataset):  # it may be resumed from another working directory
            config = config.model_copy(update={"data_dir": os.path.abspath(config.data_dir)})
        check_output(config.output)
        progress.stage("reading the space")
        space = search_space(config)
        progress.stage("checking the data")
        # Once, before many processes want the data.
        dataset = load_dataset(config.dataset, config.data_dir, progress.download)
        dataset = dataset.hold_out(config.validation_split)
        if executor is None or isinstance(executor, str):
            executor = executor_of(config, config.jobs)
        return _Sweep(config, space, progress, executor, dataset).run()


class _Sweep:
    """One call of `sweep`, all its settings checked."""

    def __init__(
        self,
        config: SweepConfig,
        space: SearchSpace,
        progress: SweepListener,
        executor: Executor,
        dataset: Dataset,
    ) -> None:
        self._config = config
        self._space = space
        self._progress = progress
        self._executor = executor
        self._dataset = dataset
        self._images = len(dataset.train)

    def run(self) -> SweepResult:
        """Search, prove and report under a run of the store."""
        from fm_mlflow.tracking.child_runs import open_run
        from fm_mlflow.tracking.run import TrackedRun

        config, kind, digest = self._config, keys.KIND_SWEEP, self._dataset.digest
        if config.resume:
            _check_unchanged(config, self._space, digest)
        with (
            ExitStack() as search,
            nullcontext(search.enter_context(self._executor)) as place,  # before there is a run
            open_run(kind, config.resume) if config.resume else nullcontext(),
            TrackedRun(
                kind,
                f"sweep of {model_name(config.model)}, {config.trials} trials",
                flush_timeout=config.flush_timeout,
                notice=self._progress.notice,
            ) as run,
            _saying_how_to_go_on(config, run.run_id),
        ):
            own = config.model_dump(exclude={*_OF_THIS_CALL, "dataset"}, exclude_none=True)
            run.log_params(own)
            # `mlflow run` has logged the path that was given.
            run.log_params({"dataset": config.dataset}, unless_logged=is_own(config.dataset))
            run.set_tags({keys.DATASET_DIGEST: digest, keys.SPACE: space_text(self._space.ranges)})
            return self._search_and_prove(run, place, search)

    def _search_and_prove(self, run: TrackedRun, place: Executor, search: ExitStack) -> SweepResult:
        from fm_mlflow.jobs.sweep_outcome import outcome
        from fm_mlflow.jobs.trial_rounds import TrialRounds, trials_before

        config = self._config
        stored = trials_before(run.run_id, config.metric, _deliver) if config.resume else {}
        rounds = TrialRounds(run, config, place, self._progress, stored, _deliver)
        known, seconds, ended = self._search(run, rounds)
        search.close()  # the proof has the executor to itself
        rounds.close()
        importance, _ = importances(self._space.ranges, known)
        held_out = len(self._dataset.validation or ())
        found = outcome(
            *(config, self._space, known, rounds.stored, self._images, held_out, seconds)
        )
        proof = self._prove(run, found.entries)
        result = found.result(run, config, self._space, importance, ended, proof)
        self._progress.stage("writing the report")
        return _reported(result, run)

    def _search(self, run: TrackedRun, rounds: TrialRounds) -> tuple[list[Trial], float, str]:
        """Run rounds until the trials are over or the budget is spent; return why it ended."""
        from fm_mlflow.tracking.trial_runs import seconds_of

        config = self._config
        defaults = self._space.defaults if self._space.is_inside else None
        search = Search(
            self._space.ranges, defaults, config.rungs, config.trials, config.seed, config.sampler
        )
        started = time.monotonic()
        before = seconds_of(run.run_id) if config.resume else 0.0
        known: list[Trial] = []
        turn = 0
        while pieces := search.next_round(known, turn):
            flops = rounds.flops(known, self._images)
            seconds = before + time.monotonic() - started
            if not all(map(rounds.is_done, pieces)):
                if config.budget_flops is not None and flops >= config.budget_flops:
                    return known, seconds, "the budget of FLOPs is spent"
                if config.budget_minutes is not None and seconds >= 60 * config.budget_minutes:
                    return known, seconds, "the budget of minutes is spent"
            results = {trial.number: trial for trial in rounds.run_round(turn, pieces)}
            known = [results.pop(trial.number, trial) for trial in known]
            known += [results[number] for number in sorted(results)]
            turn += 1
            figures: dict[str, float] = {
                keys.SEARCH_SECONDS: before + time.monotonic() - started,
                keys.SEARCH_TRIALS: len(known),
                keys.SEARCH_FLOPS: rounds.flops(known, self._images),
            }
            run.log_metrics(figures, step=turn)
        exhausted = len(known) < config.trials
        ended = "the space holds no more settings" if exhausted else "all trials are done"
        return known, before + time.monotonic() - started, ended

    def _prove(self, run: TrackedRun, entries: tuple[str, ...]) -> BenchmarkResult | None:
        """Train the finalists from scratch, with fresh seeds, and compare them."""
        from fm_mlflow.tracking.child_runs import open_run, read_run
        from fm_mlflow.tracking.trial_runs import benchmark_of

        config = self._config
        if not entries:
            return None
        self._progress.stage("proving the finalists")
        before = benchmark_of(run.run_id)
        names = {*Protocol.model_fields, *Placement.model_fields} - {"executor"}
        shared = {name: getattr(config, name) for name in names}
        asked: dict[str, Any] = {
            **shared,
            "validation_split": 0.0,  # all training data
            "models": ",".join(entries),
            **config.seeds_of_the_proof(entries),
            "jobs": config.jobs,
            "cost": config.cost,
            "output": os.path.join(config.output, "proof"),
        }
        if before is not None:
            stored = read_run(before, "resume")
            if not stored.ended:
                _deliver(before)
                stored = read_run(before, "resume")
            # Other finalists or seeds than in an earlier call are another benchmark, and so is one
            # that was killed before it had its settings.
            shaping = asked.keys() & {"models", *OF_THE_PROOF}
            same = [stored.params.get(name) in (None, str(asked[name])) for name in shaping]
            if {"models", "dataset"} <= stored.params.keys() and all(same):
                asked["resume"] = before
        try:
            with nullcontext() if "resume" in asked else open_run(keys.KIND_BENCHMARK):
                return benchmark(progress=self._progress, executor=self._executor, **asked)
        except BenchmarkError as error:
            self._progress.notice(one_line(error))
            return error.result


def _reported(result: SweepResult, run: TrackedRun) -> SweepResult:
    """Write the report into the output folder and into the run."""
    from fm_mlflow.report.sweep_html import to_html

    texts = {
        str(keys.SWEEP_HTML_FILE): to_html(result),
        str(keys.SWEEP_JSON_FILE): to_json(result),
        str(keys.TRIALS_CSV_FILE): to_csv(result),
    }
    files = write_files(texts, Path(result.config.output))
    run.set_tags({keys.RECOMMENDED: result.advice})
    run.describe(describe_sweep(result))
    if result.comparison is not None:
        run.log_metrics(main_figures(result.comparison.comparison))
    with run.artifacts() as folder:
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8", newline="")
    return replace(result, files={name: str(path) for name, path in files.items()})


def _resumed(given: SweepConfig) -> SweepConfig:
    """Return the settings of the sweep to be resumed, with those of this call."""
    from fm_mlflow.tracking.child_runs import read_run

    parent = read_run(given.resume, "resume")
    if parent.tags.get(keys.KIND) == keys.KIND_SWEEP and not parent.ended:
        _deliver(given.resume)  # which closes it, if its process is gone
        parent = read_run(given.resume, "resume")
    if parent.tags.get(keys.KIND) != keys.KIND_SWEEP:
        raise InputError("resume", given.resume, "the id of a sweep's run (its parent run)")
    if not parent.ended:
        accepted = (
            f"a sweep that has ended; it is {parent.status} (where its process is gone, "
            "`fm-mlflow reconcile` closes it)"
        )
        raise InputError("resume", given.resume, accepted)
    return resumed(given, parent.params, _OF_THIS_CALL, f"sweep {given.resume}")


def _check_unchanged(config: SweepConfig, space: SearchSpace, digest: str) -> None:
    from fm_mlflow.tracking.child_runs import read_run, set_aside_handed_over_run

    parent = read_run(config.resume, "resume")
    if (there := parent.tags.get(keys.DATASET_DIGEST, digest)) != digest:
        raise InputError("dataset", digest, f"the data of sweep {config.resume}: {there}")
    text = space_text(space.ranges)
    if (there := parent.tags.get(keys.SPACE, text)) != text:
        accepted = f"the space of sweep {config.resume}, also in the model's annotations: {there}"
        raise InputError("space", text, accepted)
    set_aside_handed_over_run(f"resume of {parent.name}")


@contextmanager
def _saying_how_to_go_on(config: SweepConfig, run_id: str) -> Iterator[None]:
    again = config.model_copy(update={"resume": run_id})
    stored = SweepConfig.model_fields.keys() - _OF_THIS_CALL
    command = command_line("sweep", again, leave_out=stored)
    try:
        yield
    except Interrupted as error:
        error.advice = f"continue it with: {command}"
        raise
    except TrackingError as error:
        cause = str(error).partition("; continue it with:")[0]  # of the benchmark within
        raise TrackingError(f"{cause}; continue it with: {command}") from error


def _deliver(run_id: str) -> None:
    """Deliver the journal that a process left, if it is on this machine; close its run."""
    from fm_mlflow.tracking.running import close_if_dead

    with suppress(InputError, LockedError):
        sync([run_id])
    close_if_dead(run_id)
