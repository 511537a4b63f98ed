"""Pictures, images or other examples, however many, to a file of predictions."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fm_mlflow.analysis.prose.words import counted, listed
from fm_mlflow.data.example_file import Examples, open_examples
from fm_mlflow.data.image_file import check_images
from fm_mlflow.data.lazy_images import FORMATS
from fm_mlflow.data.model_io import are_probabilities, to_probabilities, two_classes
from fm_mlflow.data.prediction_file import NumberFile, output_file, prediction_file
from fm_mlflow.errors import DataError, InputError
from fm_mlflow.listeners import ProgressListener
from fm_mlflow.process.quiet import import_tensorflow
from fm_mlflow.process.signals import guard
from fm_mlflow.results.predict import FilePrediction, PredictResult
from fm_mlflow.settings.base import parse
from fm_mlflow.settings.registered import CHAMPION, PredictConfig
from fm_mlflow.settings.selection import RunsConfig

if TYPE_CHECKING:
    from fm_mlflow.tracking.load_model import LoadedModel, Predict

_BATCH = 1024
"""Images a call. Larger ones fall out of the processor's caches and are slower."""

_CHUNK = 16 * _BATCH
"""Images read, and rows written, at a time."""

_MOST_SHOWN = 20
"""Files whose predictions are in the result, too."""

_MOST_URIS = 5

_MOST_NUMBERS = 1_000
"""Columns of the output."""

_CHUNK_VALUES = 2**24
"""Fewer where they are large: two chunks are in memory, 64 MiB each as float32."""


def predict(*, progress: ProgressListener | None = None, **settings: Any) -> PredictResult:
    """Predict every example of a file: labels and probabilities, or numbers, to another file.

    The examples are read and the predictions written a piece at a time: memory does not grow with
    the file. The output appears when it is complete, or not at all.

    Args:
        progress: Hears how it goes on; by default nothing is said.
        **settings: The fields of `PredictConfig`: model, input, output.

    Returns:
        Where the predictions are, and how many images went to which class.

    Raises:
        InputError: The model, the input or the output was refused.
        DataError: The input is damaged, or its values are no grey levels.
        TrackingError: The store does not answer.

    Examples:
        >>> fm_mlflow.predict(input="t10k-images-idx3-ubyte.gz", output="predictions.csv")
        >>> fm_mlflow.predict(input="boot.png").first_files
    """
    config = parse(PredictConfig, settings)
    progress = progress or ProgressListener()
    with guard(), open_examples(Path(config.input)) as examples:
        progress.stage("loading the model")
        model = config.model or _champion(progress)
        import_tensorflow()
        from fm_mlflow.tracking.load_model import load_model

        loaded = load_model(model)
        examples = _as_wanted(examples, loaded, progress)
        shape = _checked(model, examples, loaded)
        call = loaded.predictor(_BATCH)
        first = call(np.zeros((1, *shape), loaded.input_type))  # it is traced now
        counts = np.zeros(loaded.classes, np.int64)
        shown: list[FilePrediction] = []
        started, done = time.perf_counter(), 0
        path, numbers = Path(config.output), first.size
        if not loaded.classes and numbers > _MOST_NUMBERS:
            accepted = f"a model of up to {_MOST_NUMBERS:,} numbers an example; it has {numbers:,}"
            raise InputError("model", model, accepted)
        outputs = _outputs(examples, loaded, shape, call, progress)
        if loaded.classes:
            with prediction_file(path, loaded.class_names, examples.names) as classes:
                for probabilities in _probabilities(outputs, loaded):
                    labels = classes.write(probabilities)
                    counts += np.bincount(labels, minlength=loaded.classes)
                    names = examples.names[done:_MOST_SHOWN]
                    for name, label, row in zip(names, labels, probabilities, strict=False):
                        predicted = loaded.class_names[label]
                        shown.append(FilePrediction(name, predicted, float(row[label])))
                    done += len(labels)
        else:
            make = partial(NumberFile, numbers=numbers, files=examples.names)
            with output_file(path, make) as file:
                for each in outputs:
                    file.write(each)
                    done += len(each)
        return PredictResult(
            run_id=loaded.run_id,
            model_uri=loaded.uri,
            output=config.output,
            images=done,
            seconds=time.perf_counter() - started,
            counts=dict(zip(loaded.class_names, counts.tolist(), strict=True)),
            first_files=tuple(shown),
        )


def _champion(progress: ProgressListener) -> str:
    """Return the URI of the model in use, where one registered model alone could be meant.

    Raises:
        InputError: Several could, or none: says what to give instead.
    """
    from fm_mlflow.tracking.find_runs import find_runs
    from fm_mlflow.tracking.registry import known_data_sets, registered_names

    uris = [f"models:/{name}@{CHAMPION}" for name in sorted(known_data_sets())]
    if len(uris) == 1:
        progress.notice(f"no --model was given: {uris[0]} predicts")
        return uris[0]
    if uris:
        raise InputError("model", "", f"one of {listed(uris, _MOST_URIS)}, or the id of a run")
    accepted = "a model's URI, or the id of a training run"
    if names := registered_names():
        accepted += f"; no data set is recorded of what is registered: {listed(names, _MOST_URIS)}"
        raise InputError("model", "", accepted)
    accepted += ": no model is registered yet"
    with suppress(InputError):  # nobody has trained yet, either
        found = find_runs(RunsConfig())
        trained = [run for run in (*found.runs, *found.unfinished) if run.model_uri]
        if trained:
            latest = max(trained, key=lambda run: run.start_time)
            accepted += f"; of the latest run ({latest.name}): --model {latest.run_id}"
    raise InputError("model", "", f"{accepted}; `fm-mlflow register` registers the best")


def _as_wanted(examples: Examples, loaded: LoadedModel, progress: ProgressListener) -> Examples:
    """Bring pictures to what a model takes, and say what was changed."""
    if examples.pictures is None:
        return examples
    if not loaded.takes_images:
        raise InputError("input", "pictures", f"examples of shape {loaded.input_shape}")
    if examples.pictures.left_out:
        others = counted(examples.pictures.left_out, "file")
        progress.notice(f"{others} of the folder left out: no {', '.join(FORMATS)}")
    examples, changed = examples.for_images(loaded.input_shape)
    if changed:
        progress.notice(changed)
    return examples


def _checked(model: str, examples: Examples, loaded: LoadedModel) -> tuple[int, ...]:
    """Return the shape in which a model gets an example of a file, if it takes them."""
    if len(loaded.inputs) > 1 or loaded.output_shape is None:
        accepted = "a model of one input and one output; mlflow.pyfunc.load_model predicts others"
        raise InputError("model", model, accepted)
    if loaded.input_type.kind not in "biuf":
        accepted = f"a model of numbers; it takes {loaded.input_type}: mlflow.pyfunc.load_model"
        raise InputError("model", model, accepted)
    wanted, given = loaded.input_shape, examples.shape
    if loaded.takes_images:
        check_images((examples.count, *given), examples.dtype)
        # Images may come with or without their one channel; what may be any size is as given.
        sizes = zip((*given, 1), wanted, strict=False)
        wanted = tuple(own if size < 0 else size for own, size in sizes)
        if tuple(n for n in given if n != 1) != tuple(n for n in wanted if n != 1):
            raise InputError("input", f"images of shape {given}", f"images of shape {wanted}")
        return wanted
    fits = len(given) == len(wanted) and all(
        size in (one, -1) for one, size in zip(given, wanted, strict=True)
    )
    if not fits:
        accepted = f"examples of shape {wanted}, -1 for any size"
        raise InputError("input", f"examples of shape {given}", accepted)
    return given


def _probabilities(outputs: Iterator[NDArray[Any]], loaded: LoadedModel) -> Iterator[NDArray[Any]]:
    """Yield outputs of classes as probabilities."""
    gives_logits = loaded.gives_logits
    for each in outputs:
        if gives_logits is None:
            gives_logits = not are_probabilities(each)
        yield (
            two_classes(each, gives_logits)
            if loaded.is_binary
            else to_probabilities(each, gives_logits)
        )


def _outputs(
    examples: Examples,
    loaded: LoadedModel,
    shape: tuple[int, ...],
    call: Predict,
    progress: ProgressListener,
) -> Iterator[NDArray[Any]]:
    """Yield a model's outputs, a chunk at a time, while the next chunk is being read."""
    size = min(_CHUNK, examples.count, max(1, _CHUNK_VALUES // math.prod(examples.shape)))
    chunks = examples.chunks(size)
    # Two in turns, one being read and one predicted: new memory would cost a tenth of the time.
    buffers = cycle([np.empty((size, *shape), loaded.input_type) for _ in range(2)])

    def read() -> NDArray[Any] | None:
        chunk = next(chunks, None)
        if chunk is None:
            return None
        inputs = next(buffers)[: len(chunk)]
        (_scale if loaded.takes_images else _convert)(chunk.reshape(inputs.shape), inputs)
        return inputs

    done = 0
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(read)
        while (inputs := ahead.result()) is not None:
            ahead = reader.submit(read)
            outputs = call(inputs)
            done += len(inputs)
            progress.images(done, examples.count)
            yield outputs


def _convert(chunk: NDArray[Any], inputs: NDArray[Any]) -> None:
    """Fill `inputs` with numbers as they are, in the model's type."""
    with np.errstate(all="ignore"):  # what overflows is infinite then
        np.copyto(inputs, chunk, casting="unsafe")
    if inputs.dtype.kind == "f" and not np.isfinite(inputs).all():
        raise DataError("the input holds values that are no finite numbers (NaN or infinite)")
    if inputs.dtype.kind in "iu" and not np.array_equal(inputs, chunk):
        raise DataError(
            f"the input holds values from {chunk.min():g} to {chunk.max():g}, the model takes "
            f"whole numbers ({inputs.dtype})"
        )


def _scale(chunk: NDArray[Any], inputs: NDArray[Any]) -> None:
    """Fill `inputs` as models take them (`data.model_io`).

    Grey levels 0-255 are divided by 255, floats of 0 to 1 taken as they are; where the model takes
    whole numbers, it gets the former as they are and the latter as the nearest of 256 levels.
    """
    takes_levels = inputs.dtype.kind in "iu"
    if chunk.dtype == np.uint8:
        if takes_levels:
            np.copyto(inputs, chunk)
        else:
            np.divide(chunk, np.float32(255), out=inputs, dtype=np.float32)
        return
    if not (chunk.min() >= 0 and chunk.max() <= 1):  # NaN is neither
        raise DataError(
            f"the input holds values from {chunk.min():g} to {chunk.max():g}; floating-point "
            "images are grey levels from 0 to 1, others are unsigned bytes (uint8)"
        )
    if takes_levels:
        chunk = np.rint(chunk * 255)
    np.copyto(inputs, chunk, casting="unsafe" if takes_levels else "same_kind")
