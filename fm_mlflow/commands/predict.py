"""A file of images, however large, to a file of predictions."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fm_mlflow.config import PredictConfig
from fm_mlflow.data.image_file import ImageFile, open_images
from fm_mlflow.data.model_io import are_probabilities, to_probabilities
from fm_mlflow.data.prediction_file import prediction_file
from fm_mlflow.errors import DataError, InputError
from fm_mlflow.listeners import ProgressListener
from fm_mlflow.process.quiet import import_tensorflow
from fm_mlflow.process.signals import guard
from fm_mlflow.results.predict import PredictResult
from fm_mlflow.settings import parse

if TYPE_CHECKING:
    from fm_mlflow.tracking.load_model import LoadedModel, Predict

_BATCH = 1024
"""Images a call. Larger ones fall out of the processor's caches and are slower."""

_CHUNK = 16 * _BATCH
"""Images read, and rows written, at a time."""

_CHUNK_VALUES = 2**24
"""Fewer where they are large: two chunks are in memory, 64 MiB each as float32."""


def predict(*, progress: ProgressListener | None = None, **settings: Any) -> PredictResult:
    """Classify every image of a file and write labels and probabilities to another one.

    The images are read and the predictions written a piece at a time: memory does not grow with
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
    """
    config = parse(PredictConfig, settings)
    progress = progress or ProgressListener()
    with guard(), open_images(Path(config.input)) as images:
        progress.stage("loading the model")
        import_tensorflow()
        from fm_mlflow.tracking.load_model import load_model

        loaded = load_model(config.model)
        if not loaded.classes:
            accepted = "a model of classes; this one predicts numbers: mlflow.pyfunc.load_model"
            raise InputError("model", config.model, accepted)
        wanted = loaded.input_shape
        # Images may come with or without their one channel.
        if tuple(n for n in images.shape if n != 1) != tuple(n for n in wanted if n != 1):
            accepted = f"images of shape {wanted}"
            raise InputError("input", f"images of shape {images.shape}", accepted)
        call = loaded.predictor(_BATCH)
        call(np.zeros((1, *loaded.input_shape), loaded.input_type))  # it is traced now
        counts = np.zeros(loaded.classes, np.int64)
        started = time.perf_counter()
        with prediction_file(Path(config.output), loaded.class_names) as output:
            for probabilities in _probabilities(images, loaded, call, progress):
                labels = output.write(probabilities)
                counts += np.bincount(labels, minlength=loaded.classes)
        return PredictResult(
            run_id=loaded.run_id,
            model_uri=loaded.uri,
            output=config.output,
            images=int(counts.sum()),
            seconds=time.perf_counter() - started,
            counts=dict(zip(loaded.class_names, counts.tolist(), strict=True)),
        )


def _probabilities(
    images: ImageFile, loaded: LoadedModel, call: Predict, progress: ProgressListener
) -> Iterator[NDArray[Any]]:
    """Yield probabilities, a chunk at a time, while the next chunk is being read."""
    gives_logits = loaded.gives_logits
    size = min(_CHUNK, images.count, max(1, _CHUNK_VALUES // math.prod(images.shape)))
    chunks = images.chunks(size)
    # Two in turns, one being read and one predicted: new memory would cost a tenth of the time.
    buffers = cycle([np.empty((size, *loaded.input_shape), loaded.input_type) for _ in range(2)])

    def read() -> NDArray[Any] | None:
        chunk = next(chunks, None)
        if chunk is None:
            return None
        inputs = next(buffers)[: len(chunk)]
        _scale(chunk.reshape(inputs.shape), inputs)
        return inputs

    done = 0
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(read)
        while (inputs := ahead.result()) is not None:
            ahead = reader.submit(read)
            outputs = call(inputs)
            if gives_logits is None:
                gives_logits = not are_probabilities(outputs)
            done += len(inputs)
            progress.images(done, images.count)
            yield to_probabilities(outputs, gives_logits)


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
