"""The main job: one model, one tracked run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fm_mlflow import keys
from fm_mlflow.data.dataset import Dataset
from fm_mlflow.errors import InputError, Interrupted, ModelError
from fm_mlflow.listeners import ProgressListener
from fm_mlflow.measure import measurement
from fm_mlflow.measure.energy import EnergyMonitor
from fm_mlflow.measure.machine import describe_machine, load_average
from fm_mlflow.measure.memory import (
    EVALUATION,
    FIRST_STEP,
    LOADING,
    MODEL,
    TRAINING,
    MemoryMonitor,
    note_training,
    resident_mib,
)
from fm_mlflow.naming import run_name
from fm_mlflow.process.beside import Beside
from fm_mlflow.process.garbage import rare_garbage_collection
from fm_mlflow.process.quiet import import_tensorflow
from fm_mlflow.process.signals import guard
from fm_mlflow.report import plots
from fm_mlflow.report.describe import describe_training
from fm_mlflow.results.train import TrainResult
from fm_mlflow.settings.base import parse
from fm_mlflow.settings.config import TrainConfig
from fm_mlflow.settings.dataset import FROM_PYTHON, is_own
from fm_mlflow.settings.model_reference import BUILTIN_MODELS, ModelReference
from fm_mlflow.training.checkpoint import Start
from fm_mlflow.training.loading import loading
from fm_mlflow.training.model_arguments import check_model, named_model
from fm_mlflow.training.read_back import ReadBack
from fm_mlflow.training.run_contents import (
    clocks,
    log_costs,
    log_outcome,
    log_setting,
    of_parts,
    summary_of,
)

if TYPE_CHECKING:
    import keras

    from fm_mlflow.fitting import Ahead, FitResult
    from fm_mlflow.tracking.run import TrackedRun
    from fm_mlflow.training.models import BuiltModel

_EXAMPLES_MEASURED = 256


def train(
    model: str | Callable[..., keras.Model] = "mlp",
    *,
    model_args: Mapping[str, Any] | None = None,
    progress: ProgressListener | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    data: Any = None,
    **settings: Any,
) -> TrainResult:
    """Train one model under a tracked MLflow run and log what it is, does and costs.

    Joins the run that `mlflow run` or the caller opened, else opens one of its own; its status
    says how it truly ended. Nothing is left behind when a parameter is refused.

    Args:
        model: `mlp`, `cnn`, `package.module:function`, `path/to/file.py:function`, or a function
            that returns a Keras model, compiled or not; as text with arguments, if you like:
            `cnn?filters=8,16&dense=32`.
        model_args: Arguments of the model by name: numbers, text, True, False, None and sequences
            of these.
        progress: Hears how the run goes on; by default nothing is said.
        callbacks: Keras callbacks of your own.
        data: Your own data, instead of `dataset`: `(x_train, y_train), (x_test, y_test)`; a mapping
            of these four and, if you like, `class_names`; two tf.data datasets, as a pair or by the
            names `train` and `test`; or a function that returns one of these. Whole or
            floating-point numbers, one example a row. The model's loss says whether the targets
            are classes or numbers.
        **settings: The other fields of `TrainConfig`: epochs, batch_size, learning_rate,
            optimizer, seed, validation_split, dataset, data_dir, measure, fit_loop,
            flush_timeout, checkpoint_seconds.

    Returns:
        The run, its metrics and its learning curve. Where the store did not answer to the end,
        `pending` says so, and `run_id` and `model_uri` may be those of the journal.

    Raises:
        InputError: A parameter, the model or the data folder was refused; nothing was started.
        DataError: The data are damaged or cannot be had.
        TrainingError: The loss is no longer a number.
        TrackingError: The tracking store refused. (When it does not answer, training goes on.)

    Examples:
        >>> result = fm_mlflow.train("cnn", epochs=5, seed=1)
        >>> result.test_accuracy, result.metrics["flops/training_core"]
    """
    started = time.perf_counter()
    function = model if callable(model) else None
    if data is not None:
        if "dataset" in settings:
            raise InputError("dataset", settings["dataset"], "nothing beside data: one of the two")
        settings["dataset"] = FROM_PYTHON
    config = parse(TrainConfig, {"model": named_model(model, model_args), **settings})
    if function is None:
        check_model(config.model)  # what is known without TensorFlow, before it is imported
    with guard():
        start = Start(started, load_average())  # before we are the load
        return run_training(config, function, progress, callbacks, start, data)


def run_training(
    config: TrainConfig,
    function: Callable[..., keras.Model] | None,
    progress: ProgressListener | None,
    callbacks: Sequence[keras.callbacks.Callback],
    start: Start,
    data: Any = None,
) -> TrainResult:
    """Train a model under a tracked run, from the beginning or from a checkpoint."""
    progress = progress or ProgressListener()
    if is_own(config.dataset):  # a run may be resumed from another working directory
        config = config.model_copy(update={"data_dir": os.path.abspath(config.data_dir)})
    parts = config.measured_parts
    memory_monitor = MemoryMonitor() if "memory" in parts else nullcontext()
    energy_monitor = EnergyMonitor() if "energy" in parts else nullcontext()
    is_own_model = function is not None or (
        ModelReference.parse(config.model).name not in BUILTIN_MODELS
    )
    with (
        Beside(plots.prepare) as beside,  # while this process is small and has no other thread
        ReadBack(progress.notice, is_needed=is_own_model) as reading_back,
        memory_monitor as memory,
        energy_monitor as energy,
        rare_garbage_collection(),
    ):
        current = ""

        def enter(phase: str) -> None:
            nonlocal current
            if phase != current:
                (memory.phase if memory else _unmeasured)(phase)
            current = phase
            if energy:
                energy.phase(phase)

        enter(LOADING)
        progress.stage("loading the data")
        with loading(config, progress, data) as loaded:
            progress.stage("importing TensorFlow")
            import_tensorflow()
            from fm_mlflow.tracking.run import TrackedRun
            from fm_mlflow.tracking.store import tracking_uri
            from fm_mlflow.tracking.store_import import importing_store
            from fm_mlflow.training.models import build_model

            dataset = loaded()
        reading_back.fork()
        if start.checkpoint is not None and start.checkpoint.dataset_digest != dataset.digest:
            accepted = "the data that the run began with; these have other contents"
            raise InputError("data" if data is not None else "data_dir", dataset.source, accepted)

        enter(MODEL)
        progress.stage("building the model")
        built = build_model(config, dataset, function)
        summary = summary_of(built.model)  # of a restored model it counts the optimizer's, too
        _restore(built, start)
        reading_back.give(built, dataset)
        enter(FIRST_STEP)
        with importing_store():  # while the compiler lets go of Python
            ahead = None if callbacks else _compile_ahead(config, dataset, built, start)
        if energy:
            energy.phase(MODEL)  # to open the run is no training
        # A run that is extended keeps its parameters; everything else speaks of what it comes to.
        whole = config.model_copy(update={"epochs": start.until(config)})
        with (
            closing(ahead) if ahead else nullcontext(),
            TrackedRun(
                keys.KIND_TRAINING,
                start.resumption.name if start.resumption else run_name(config),
                flush_timeout=config.flush_timeout,
                checkpoint_seconds=config.checkpoint_seconds,
                notice=progress.notice,
                settings=config.model_dump(),
                resumption=start.resumption,
            ) as run,
            _saying_how_to_resume(run),
        ):
            machine = describe_machine(start.load)
            log_setting(run, config, dataset, built, machine, summary)
            fitted = _fit(
                run, config, dataset, built, progress, callbacks, enter, start, reading_back, ahead
            )
            enter(EVALUATION)
            progress.stage("evaluating and logging the model")
            logged, outcome = log_outcome(run, whole, dataset, built, fitted, beside)
            fitted = replace(fitted, evaluate=None)  # which holds the validation set
            enter("measuring")
            progress.stage("measuring what it costs")
            from fm_mlflow.measure.training import Trained, training_costs

            measured_on = dataset.test.head(_EXAMPLES_MEASURED)
            trained = Trained(
                model=built.model,
                inputs=built.inputs(measured_on),
                labels=built.examples(measured_on).labels,
                images=len(dataset.train),
                batch_size=config.batch_size,
                training_seconds=fitted.training_seconds,
                epochs_beside=reading_back.epochs_beside,
                memory=memory,
                energy=energy,
            )
            costs, flops = training_costs(trained, parts)
            costs += clocks(fitted.seconds, logged, start.time - start.progress.seconds)
            measured = of_parts(costs, start.parts)
            log_costs(run, run_name(whole), measured, flops, memory, machine, beside)
            metrics = {**outcome, **measurement.metrics(measured)}
            run.describe(
                describe_training(whole, dataset, metrics, fitted.stopped, fitted.kept_epoch)
            )
        return TrainResult(
            run_id=run.run_id,
            run_name=run.name,
            experiment_id=run.experiment_id,
            tracking_uri=tracking_uri(),
            artifact_uri=run.artifact_uri,
            model_uri=logged.uri,
            config=whole,
            dataset_digest=dataset.digest,
            test_loss=outcome[keys.TEST_LOSS],
            test_accuracy=outcome.get(keys.TEST_ACCURACY),
            metrics=metrics,
            history=fitted.history,
            source_files=tuple(path.as_posix() for path in built.source.files),
            pending=run.pending,
        )


@contextmanager
def _saying_how_to_resume(run: TrackedRun) -> Iterator[None]:
    try:
        yield
    except Interrupted as error:
        if not run.is_lost:  # else another process has it
            error.advice = f"`fm-mlflow resume {run.run_id}` continues it"
        raise


def _restore(built: BuiltModel, start: Start) -> None:
    if start.checkpoint is not None and start.checkpoint.variables:
        try:
            start.checkpoint.restore(built.model)
        except ValueError as error:
            accepted = f"the model that the run began with; {error}"
            raise ModelError(built.model.name, accepted) from error


def _unmeasured(phase: str) -> None:
    """Stand in for `MemoryMonitor.phase` where memory is not measured."""
    if phase == FIRST_STEP:
        note_training()


def _compile_ahead(
    config: TrainConfig, dataset: Dataset, built: BuiltModel, start: Start
) -> Ahead | None:
    """Have the steps compiled before the run is opened; callbacks could change what they are."""
    from fm_mlflow.fitting import compile_ahead

    if config.fit_loop == "keras" or start.progress.epoch >= start.until(config):
        return None
    training = built.examples(dataset.train)
    return compile_ahead(built.model, training, config.batch_size, config.seed)


def _fit(
    run: TrackedRun,
    config: TrainConfig,
    dataset: Dataset,
    built: BuiltModel,
    progress: ProgressListener,
    callbacks: Sequence[keras.callbacks.Callback],
    enter: Callable[[str], None],
    start: Start,
    reading_back: ReadBack,
    ahead: Ahead | None,
) -> FitResult:
    from fm_mlflow.fitting import fit
    from fm_mlflow.training.fit_checkpoints import Checkpointing

    epochs = start.until(config)
    epoch_now = start.progress.epoch + 1
    is_first_step = True

    def on_batch(done: int, total: int) -> None:
        nonlocal is_first_step
        if is_first_step:
            is_first_step = False
            enter(TRAINING)
        progress.batch(epoch_now, epochs, done, total)
        reading_back.check()

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        nonlocal epoch_now
        epoch_now = epoch + 1
        reading_back.end_epoch()
        if "memory" in config.measured_parts:
            metrics = {**metrics, keys.MEMORY_RSS: resident_mib()}
        run.log_metrics(metrics, step=epoch)
        checkpoints.epoch(epoch, metrics)
        progress.epoch(epoch, epochs, metrics)

    training, validation = dataset.train, dataset.validation or dataset.test
    setting = run, built.model, config, dataset.digest, start, ahead.seconds if ahead else 0.0
    with closing(Checkpointing(*setting)) as checkpoints:
        enter(FIRST_STEP)
        fitted = fit(
            built.model,
            built.examples(training),
            built.examples(validation),
            epochs=epochs,
            batch_size=config.batch_size,
            seed=config.seed,
            on_epoch=on_epoch,
            on_batch=on_batch,
            # Before the epoch: a run that is resumed after its last one compiles nothing.
            on_compiled=lambda compiler: run.set_tags({keys.COMPILER: compiler}),
            callbacks=[*checkpoints.callbacks(), *callbacks],
            initial_epoch=start.progress.epoch,
            fit_loop=config.fit_loop,
            metric_names=built.metric_names,
            ahead=ahead,
        )
        reading_back.finish(progress.stage)
    return checkpoints.whole(fitted)
