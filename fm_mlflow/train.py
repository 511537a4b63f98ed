"""The main job: one model, one tracked run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fm_mlflow import keys
from fm_mlflow.config import TrainConfig, parse
from fm_mlflow.data import Dataset, Subset, load_dataset
from fm_mlflow.errors import ModelError, TrainingError
from fm_mlflow.lifecycle import guard
from fm_mlflow.measure import measurement
from fm_mlflow.measure.measurement import Measurement
from fm_mlflow.quiet import import_tensorflow
from fm_mlflow.report.describe import describe_training
from fm_mlflow.report.progress import ProgressListener
from fm_mlflow.results import TrainResult

if TYPE_CHECKING:
    import keras

    from fm_mlflow.fitting import Examples, FitResult
    from fm_mlflow.models import BuiltModel
    from fm_mlflow.tracking.run import TrackedRun

_EXAMPLES_LOGGED = 2
_PREDICTION_BATCH = 1000


def train(
    model: str | Callable[[], keras.Model] = "mlp",
    *,
    progress: ProgressListener | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **settings: Any,
) -> TrainResult:
    """Train one model under a tracked MLflow run and log what it is, does and costs.

    Joins the run that `mlflow run` or the caller opened, else opens one of its own; its status
    says how it truly ended. Nothing is left behind when a parameter is refused.

    Args:
        model: `mlp`, `cnn`, `package.module:function`, `path/to/file.py:function`, or a function
            without arguments that returns a Keras model, compiled or not.
        progress: Hears how the run goes on; by default nothing is said.
        callbacks: Keras callbacks of your own.
        **settings: The other fields of `TrainConfig`: epochs, batch_size, learning_rate,
            optimizer, seed, validation_split, dataset, data_dir.

    Returns:
        The run, its metrics and its learning curve.

    Raises:
        InputError: A parameter, the model or the data folder was refused; nothing was started.
        DataError: The data are damaged or cannot be had.
        TrainingError: The loss is no longer a number.
        TrackingError: The tracking store refused or did not answer.

    Example:
        >>> result = fm_mlflow.train("cnn", epochs=5, seed=1)
        >>> result.test_accuracy
        0.8912
    """
    started = time.perf_counter()
    function = model if callable(model) else None
    config = parse(TrainConfig, {"model": _reference(model), **settings})
    progress = progress or ProgressListener()
    with guard():
        progress.stage("loading the data")
        dataset = load_dataset(config.dataset, config.data_dir, progress.download)
        dataset = dataset.hold_out(config.validation_split)

        progress.stage("importing TensorFlow")
        import_tensorflow()

        progress.stage("building the model")
        from fm_mlflow.models import build_model
        from fm_mlflow.tracking.run import TrackedRun

        built = build_model(config, dataset, function)
        with TrackedRun(keys.KIND_TRAINING, run_name(config)) as run:
            _log_setting(run, config, dataset, built)
            fitted = _fit(run, config, dataset, built, progress, callbacks)
            progress.stage("evaluating and logging the model")
            return _log_outcome(run, config, dataset, built, fitted, started)


def _reference(model: object) -> object:
    """Return what names a model in the store: itself, or where its function stands."""
    if not callable(model):
        return model
    if not hasattr(model, "__qualname__"):
        accepted = "a name, or a function (def or lambda) that returns a Keras model"
        raise ModelError(type(model).__name__, accepted)
    return f"{model.__module__}:{model.__qualname__}"


def run_name(config: TrainConfig) -> str:
    """Name a run by what a reader of the runs table looks for; a path by its last part."""
    model = config.model.replace("\\", "/").rpartition("/")[2]
    epochs = "1 epoch" if config.epochs == 1 else f"{config.epochs} epochs"
    return f"{model}, {epochs}, seed {config.seed}"


def _log_setting(run: TrackedRun, config: TrainConfig, dataset: Dataset, built: BuiltModel) -> None:
    """Log all that is known before training, so that even a run that fails has it."""
    settings = config.model_dump(exclude={"data_dir", "learning_rate", "optimizer"})
    run.log_params(settings)
    run.log_params(built.params, of_compiled_model=built.was_compiled)
    run.set_tags({keys.MODEL: config.model, keys.DATASET_DIGEST: dataset.digest})
    run.describe(describe_training(config, dataset))
    contexts = {"training": dataset.train, "validation": dataset.validation, "test": dataset.test}
    for context, subset in contexts.items():
        if subset is not None:
            run.log_dataset(dataset.name, subset, context, dataset.source)
    with run.artifacts() as folder:
        lines: list[str] = []
        built.model.summary(print_fn=lambda line, **_: lines.append(line))
        (folder / keys.MODEL_SUMMARY_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _fit(
    run: TrackedRun,
    config: TrainConfig,
    dataset: Dataset,
    built: BuiltModel,
    progress: ProgressListener,
    callbacks: Sequence[keras.callbacks.Callback],
) -> FitResult:
    from fm_mlflow.fitting import fit

    epoch_now = 1

    def on_batch(done: int, total: int) -> None:
        progress.batch(epoch_now, config.epochs, done, total)

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        nonlocal epoch_now
        epoch_now = epoch + 1
        run.log_metrics(metrics, step=epoch)
        progress.epoch(epoch, config.epochs, metrics)

    return fit(
        built.model,
        _examples(built, dataset.train),
        _examples(built, dataset.validation or dataset.test),
        epochs=config.epochs,
        batch_size=config.batch_size,
        seed=config.seed,
        on_epoch=on_epoch,
        on_batch=on_batch,
        callbacks=callbacks,
    )


def _examples(built: BuiltModel, subset: Subset) -> Examples:
    from fm_mlflow.fitting import Examples

    return Examples(built.inputs(subset.images), subset.labels.astype(np.int32))


def _log_outcome(
    run: TrackedRun,
    config: TrainConfig,
    dataset: Dataset,
    built: BuiltModel,
    fitted: FitResult,
    started: float,
) -> TrainResult:
    from fm_mlflow.tracking.run import tracking_uri

    test = _examples(built, dataset.test)
    probabilities = built.probabilities(test.inputs, _PREDICTION_BATCH)
    predicted = probabilities.argmax(axis=1)
    evaluated = built.model.evaluate(
        test.inputs, test.labels, batch_size=_PREDICTION_BATCH, verbose=0, return_dict=True
    )
    outcome: dict[str, float] = {
        keys.TEST_LOSS: float(evaluated["loss"]),
        keys.TEST_ACCURACY: float(np.mean(predicted == dataset.test.labels)),
    }
    model_uri = run.log_model(
        built.model,
        input_example=test.inputs[:_EXAMPLES_LOGGED],
        output_example=np.asarray(built.model(test.inputs[:_EXAMPLES_LOGGED], training=False)),
        class_names=dataset.class_names,
        code_paths=built.code_paths,
        requirements=built.requirements,
        params={"model": config.model, "epochs": config.epochs, "seed": config.seed},
    )
    run.log_metrics(outcome, of_model=True, test_set=dataset.test, dataset_name=dataset.name)
    if not math.isfinite(outcome[keys.TEST_LOSS]):
        raise TrainingError(f"test_loss is {outcome[keys.TEST_LOSS]} after training")
    _log_plots(run, config, dataset, fitted, probabilities, predicted)

    costs = _costs(built.model, fitted, started)
    run.log_metrics(measurement.metrics(costs), of_model=True)
    with run.artifacts() as folder:
        (folder / keys.MEASUREMENTS_FILE).write_text(measurement.to_json(costs), encoding="utf-8")
    metrics = {**outcome, **measurement.metrics(costs)}
    run.describe(describe_training(config, dataset, metrics))
    return TrainResult(
        run_id=run.run_id,
        run_name=run.name,
        experiment_id=run.experiment_id,
        tracking_uri=tracking_uri(),
        artifact_uri=run.artifact_uri,
        model_uri=model_uri,
        config=config,
        dataset_digest=dataset.digest,
        test_loss=outcome[keys.TEST_LOSS],
        test_accuracy=outcome[keys.TEST_ACCURACY],
        metrics=metrics,
        history=fitted.history,
    )


def _log_plots(
    run: TrackedRun,
    config: TrainConfig,
    dataset: Dataset,
    fitted: FitResult,
    probabilities: NDArray[np.float32],
    predicted: NDArray[np.integer],
) -> None:
    from fm_mlflow.report.plots import save_confusion_matrix, save_learning_curve

    with run.artifacts() as folder:
        for file in (keys.LEARNING_CURVE_FILE, keys.PREDICTIONS_FILE):
            (folder / file).parent.mkdir()
        title = run_name(config)
        save_learning_curve(fitted.history, title, folder / keys.LEARNING_CURVE_FILE)
        save_confusion_matrix(
            dataset.test.labels,
            predicted,
            dataset.class_names,
            title,
            folder / keys.CONFUSION_MATRIX_FILE,
        )
        np.savez_compressed(
            folder / keys.PREDICTIONS_FILE, label=dataset.test.labels, probability=probabilities
        )


def _costs(model: keras.Model, fitted: FitResult, started: float) -> list[Measurement]:
    from fm_mlflow.measure.estimate import estimates
    from fm_mlflow.measure.size import file_sizes, parameter_counts

    clock = "monotonic clock around"
    return [
        *parameter_counts(model),
        *file_sizes(model),
        *estimates(model),
        Measurement.single(keys.FIT_SECONDS, fitted.seconds, f"{clock} the fit, tracing included"),
        Measurement.single(
            keys.TOTAL_SECONDS,
            time.perf_counter() - started,
            f"{clock} the whole call, up to the logging of this value",
        ),
    ]
