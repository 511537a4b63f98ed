"""The command line: parse, call one workflow, map errors to exit codes."""

from __future__ import annotations

import gc
import io
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any, NoReturn

import click
from pydantic import BaseModel

from fm_mlflow import __version__
from fm_mlflow.errors import FmMlflowError, Interrupted, TrackingError
from fm_mlflow.escaping import indented
from fm_mlflow.listeners import Progress
from fm_mlflow.process.absent import known_absent
from fm_mlflow.process.garbage import rare_garbage_collection
from fm_mlflow.process.lazy import SELDOM_USED, lazy_modules
from fm_mlflow.process.parent import parent
from fm_mlflow.process.redaction import one_line, redact, redact_logs
from fm_mlflow.process.signals import guard
from fm_mlflow.results.benchmark import BenchmarkError
from fm_mlflow.results.register import GateError
from fm_mlflow.settings.base import Settings, parse
from fm_mlflow.settings.config import (
    BenchmarkConfig,
    ReconcileConfig,
    ResumeConfig,
    SyncConfig,
    TrainConfig,
)
from fm_mlflow.settings.registered import PredictConfig, RegisterConfig
from fm_mlflow.settings.selection import CompareConfig
from fm_mlflow.settings.sweep import SweepConfig, TrialsConfig
from fm_mlflow.terminal.options import CommandGroup, given_settings, setting_options, usage_error
from fm_mlflow.terminal.output import progress_on_stderr, report_refusal, show_result

if TYPE_CHECKING:
    from fm_mlflow.terminal.lines import SafeConsole

# What these libraries say on stderr helps their developers; a user who wants it sets the variable.
_QUIET = {
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}

# A run's journal waits for the store much better than MLflow's own retries do (about 4 minutes).
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}


def main(args: list[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    arguments = sys.argv[1:] if args is None else args
    inherited_run = os.environ.get("MLFLOW_RUN_ID")
    code: int = 0
    parent()  # before anything else could take its pipe for its own
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what it cannot encode it spells out
            stream.reconfigure(errors="backslashreplace")
    try:
        with guard(), rare_garbage_collection(), known_absent(), lazy_modules(*SELDOM_USED):
            try:
                cli.main(arguments, prog_name="fm-mlflow", standalone_mode=False)
            except click.exceptions.Exit as done:
                code = done.exit_code
            except click.Abort as aborted:  # click's wrapping of a KeyboardInterrupt
                code = _fail(aborted.__cause__ or aborted, arguments, inherited_run)
            except (Exception, KeyboardInterrupt, SystemExit) as error:
                code = _fail(error, arguments, inherited_run)
    except KeyboardInterrupt as late:  # a signal while the first one was being dealt with
        code = _exit_code(late)
    gc.freeze()  # Python would look for cycles among TensorFlow's objects, a second or more
    sys.exit(code)


def _fail(error: BaseException, arguments: list[str], inherited_run: str | None) -> int:
    """Say in one line what went wrong, leave no inherited run open, return the exit code."""
    error = _as_ours(error, arguments)
    if "--debug" in arguments:
        trace = "".join(traceback.format_exception(error))
        click.echo(indented(redact(trace)), err=True)
    report_refusal(error, arguments)
    advice = f"; {error.advice}" if isinstance(error, Interrupted) and error.advice else ""
    click.echo(f"fm-mlflow: {one_line(error)}{advice}", err=True)
    if (listening := parent()) is not None:
        listening.tell(Progress(event="error", text=one_line(error)).line())
    if inherited_run is not None:
        # `mlflow run` created the run before it called us; nobody else will tell it the cause.
        from fm_mlflow.tracking.callers_run import close_inherited_run

        try:
            close_inherited_run(inherited_run, error)
        except TrackingError as failure:
            if not isinstance(error, TrackingError):  # else it is what we said already
                click.echo(f"fm-mlflow: {one_line(failure)}", err=True)
    return _exit_code(error)


def _as_ours(error: BaseException, arguments: list[str]) -> BaseException:
    """Give errors that are not ours the shape of ours: one line, what and what to do."""
    if isinstance(error, click.UsageError):
        return usage_error(error, arguments, cli)
    if isinstance(error, (FmMlflowError, KeyboardInterrupt)):
        return error
    unexpected = FmMlflowError(f"{one_line(error)} (--debug shows the traceback)")
    unexpected.__cause__ = error
    return unexpected


def _exit_code(error: BaseException) -> int:
    # 130: a plain KeyboardInterrupt, SIGINT before our handler was in place
    return error.exit_code if isinstance(error, (FmMlflowError, Interrupted)) else 130


def _command(
    config_class: type[Settings], *own: Callable[[Any], Any], hidden: bool = False
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a command of a function: each field of a settings class is an option.

    The function gets the settings, checked, `as_json` and what its own options and arguments say.
    Secrets are hidden and other libraries' chatter is off (unless --debug).
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        def run(debug: bool, **options: Any) -> None:
            redact_logs()
            for name, value in {**_IMPATIENT, **({} if debug else _QUIET)}.items():
                os.environ.setdefault(name, value)
            given = {name: options.pop(name) for name in config_class.model_fields}
            function(parse(config_class, given_settings(given)), **options)

        command: Any = update_wrapper(run, function)
        for option in reversed([*own, *_OUTPUT_OPTIONS]):
            command = option(command)
        made: click.Command = cli.command(hidden=hidden)(command)
        made.params[:0] = setting_options(config_class)
        return made

    return decorate


_OUTPUT_OPTIONS = (
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text."),
    click.option("--debug", is_flag=True, help="Show the traceback of an error."),
)


# Commands inherit both.
@click.group(
    cls=CommandGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        # `--batch_size` for `--batch-size`: so MLflow appends undeclared parameters.
        "token_normalize_func": lambda name: name.replace("_", "-"),
    },
)
@click.version_option(__version__, message="fm_mlflow %(version)s")
def cli() -> None:
    """Train models under MLflow with honest costs, and decide between them."""


@_command(TrainConfig)
def train(config: TrainConfig, as_json: bool) -> None:
    """Train one model under one tracked run.

    The run goes to the MLflow tracking store: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in
    this folder; its experiment is $MLFLOW_EXPERIMENT_NAME, else fm_mlflow.
    """
    from fm_mlflow.commands.train import train as train_model
    from fm_mlflow.terminal.train import print_training_result

    _run(train_model, config, print_training_result, as_json)


@_command(CompareConfig)
def compare(config: CompareConfig, as_json: bool) -> None:
    """Compare the training runs of a store and write the final report.

    Which model is best, what each costs and how sure that is: report.html, report.md,
    comparison.csv and comparison.json, in the output folder and in a run of the store.
    """
    from fm_mlflow.commands.compare import compare as compare_runs
    from fm_mlflow.terminal.compare import print_compare_result

    _run(compare_runs, config, print_compare_result, as_json)


@_command(BenchmarkConfig)
def benchmark(config: BenchmarkConfig, as_json: bool) -> None:
    """Train each model with each seed, each in a fresh process, then compare.

    One parent run holds them all. What fails does not stop the rest; --resume does what an
    interruption or a failure has left undone.
    """
    from fm_mlflow.commands.benchmark import benchmark as run_benchmark
    from fm_mlflow.terminal.benchmark import print_benchmark
    from fm_mlflow.terminal.benchmark_progress import console_benchmark

    failure = None
    with progress_on_stderr(console_benchmark) as progress:
        try:
            result = run_benchmark(progress=progress, **config.model_dump())
        except BenchmarkError as error:
            result, failure = error.result, error
    show_result(result, print_benchmark, as_json)
    if failure is not None:
        raise failure


@_command(SweepConfig)
def sweep(config: SweepConfig, as_json: bool) -> None:
    """Search over settings, accuracy against a cost; prove the finalists with fresh seeds.

    Trials are judged on held-out training images, finalists on the test set, trained from scratch.
    """
    from fm_mlflow.commands.sweep import sweep as run_sweep
    from fm_mlflow.terminal.sweep import print_sweep
    from fm_mlflow.terminal.sweep_progress import console_sweep

    _run(run_sweep, config, print_sweep, as_json, console_sweep)


@_command(TrialsConfig, hidden=True)
def trials(config: TrialsConfig, **_: bool) -> None:
    """Train trials of a sweep: `sweep` calls it, in processes of their own."""
    from fm_mlflow.commands.trials import trials as train_trials

    train_trials(config)


@_command(
    RegisterConfig,
    click.option("--list", "listed", is_flag=True, help="List the versions and do nothing else."),
    click.option("--rollback", is_flag=True, help="Make the previous champion the champion again."),
)
def register(config: RegisterConfig, as_json: bool, listed: bool, rollback: bool) -> None:
    """Put the best model into the registry: verified, gated, promoted to champion.

    The logged model is loaded in a fresh process and must hold what its run says. Exit code 3: it
    does not, a bound is not kept, or it is of another data set; the registry is as before.
    """
    from fm_mlflow.commands import register as registering
    from fm_mlflow.terminal import register as terminal

    which = {"name": config.name, "dataset": config.dataset}
    if listed:
        return show_result(registering.list_versions(**which), terminal.print_versions, as_json)
    if rollback:
        return show_result(registering.rollback(**which), terminal.print_rollback, as_json)
    try:
        _run(registering.register, config, terminal.print_registration, as_json)
    except GateError as refused:
        if refused.registration is not None:
            show_result(refused.registration, terminal.print_registration, as_json)
        raise


@_command(PredictConfig)
def predict(config: PredictConfig, as_json: bool) -> None:
    """Predict a file of images or other examples with a logged or registered model."""
    from fm_mlflow.commands.predict import predict as predict_file
    from fm_mlflow.terminal.predict import print_predictions

    _run(predict_file, config, print_predictions, as_json)


@_command(ResumeConfig, click.argument("run_id"))
def resume(config: ResumeConfig, run_id: str, as_json: bool) -> None:
    """Continue a training run that was interrupted, or extend it.

    Takes the run's id or that of its journal (j-...). Continues from the last checkpoint: on this
    machine from the run's journal, else from its artifacts. More epochs extend a finished run.
    """
    from fm_mlflow.commands.resume import resume as resume_training
    from fm_mlflow.terminal.train import print_training_result

    _run(partial(resume_training, run_id), config, print_training_result, as_json)


@_command(SyncConfig, click.argument("run_ids", nargs=-1, metavar="[RUN_ID]..."))
def sync(config: SyncConfig, run_ids: tuple[str, ...], as_json: bool) -> None:
    """Deliver what runs have logged and their stores do not have.

    Takes ids of runs or of journals (j-...); by default every journal of this user. Those of
    another store than the active one are listed, each with its command. A run whose process is
    gone is closed as KILLED or FAILED.
    """
    from fm_mlflow.commands.sync import sync as sync_runs
    from fm_mlflow.terminal.recovery import print_sync_result

    result = sync_runs(run_ids, **config.model_dump())
    show_result(result, print_sync_result, as_json)
    if not result.complete:
        raise TrackingError(next(each.pending for each in result.journals if each.pending))


@_command(
    ReconcileConfig,
    click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing."),
)
def reconcile(config: ReconcileConfig, dry_run: bool, as_json: bool) -> None:
    """Close the runs that the store calls RUNNING and whose process is gone."""
    from fm_mlflow.commands.reconcile import reconcile as reconcile_runs
    from fm_mlflow.terminal.recovery import print_reconcile_result

    result = reconcile_runs(dry_run=dry_run, **config.model_dump())
    show_result(result, print_reconcile_result, as_json)


@_command(Settings)
def doctor(config: Settings, as_json: bool) -> None:  # noqa: ARG001
    """Check Python, packages, TensorFlow, store, data and journals.

    Changes nothing. Exit code 1: something has to be put right before a training can work.
    """
    from fm_mlflow.commands.doctor import doctor as examine
    from fm_mlflow.terminal.doctor import print_doctor
    from fm_mlflow.terminal.progress import console_progress

    with progress_on_stderr(console_progress) as progress:
        result = examine(progress=progress)
    show_result(result, print_doctor, as_json)
    if wrong := [each.what for each in result.wrong]:
        raise FmMlflowError(f"to be put right first: {', '.join(wrong)}")


def _run(
    workflow: Callable[..., Any],
    config: BaseModel,
    print_result: Callable[[SafeConsole, Any], None],
    as_json: bool,
    shown: Callable[[SafeConsole], AbstractContextManager[Any]] | None = None,
) -> None:
    """Run a workflow with what was given, keep stdout for its result, say on stderr the rest."""
    from fm_mlflow.terminal.progress import console_progress

    with progress_on_stderr(shown or console_progress) as progress:
        result = workflow(progress=progress, **config.model_dump(exclude_unset=True))
    accuracy = getattr(result, "test_accuracy", None)
    if accuracy is not None and (asks := parent()) is not None:
        asks.tell(Progress(event="result", metrics={"test_accuracy": accuracy}).line())
    show_result(result, print_result, as_json)
