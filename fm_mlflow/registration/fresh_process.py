"""The process that loads and runs a logged model, and measures it: its code is not trusted.

`registration.checks` runs `fm_mlflow.registration.fresh_process MODEL BATCH_SIZE [IMAGES]` by
`process.confined`. It gets the model's folder, the batch size that a training step is counted with,
and the test images in a .npy file without their labels; of a model whose test data nobody has, the
logged input example takes their place. On its standard output it sends
one message (`registration.findings`), with which nothing is decided here.
"""

from __future__ import annotations

import math
import os
import site
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fm_mlflow import keys
from fm_mlflow.data.model_io import to_inputs
from fm_mlflow.errors import InputError
from fm_mlflow.measure.measurement import Measurement
from fm_mlflow.measure.memory import MemoryMonitor
from fm_mlflow.process.quiet import import_tensorflow
from fm_mlflow.process.redaction import one_line
from fm_mlflow.registration.findings import (
    ASKED,
    TEXT_CHARACTERS,
    TYPES,
    Figure,
    Findings,
    labels_in_turn,
    to_bytes,
)

if TYPE_CHECKING:
    from fm_mlflow.tracking.load_model import LoadedModel

ROOT = Path(__file__).resolve().parents[2]
"""Where our package lies, for Python to import it from."""

_LOADING = "loading"
_LATENCY_BATCH = 256
_EVALUATION_BATCH = 1000
_MEMORY_METHOD = "highest resident memory of a fresh process - just before it loads the model"


def main() -> None:
    """Measure the model that the command line names, and send what was found."""
    forget_where_we_came_from()
    model, batch_size, *images = sys.argv[1:]
    answer_with(lambda: measure(Path(model), int(batch_size), *map(Path, images)))


def answer_with(answer: Callable[[], bytes]) -> None:
    """Send what a function returns as the answer of this process, and end it.

    Where the function raises, the last line of standard error says why.
    """
    # Whatever the model or a library prints is no result.
    channel = os.dup(1)
    os.dup2(2, 1)
    try:
        message = answer()
    except Exception as error:  # of the model's own code
        traceback.print_exc()
        print(one_line(error), file=sys.stderr, flush=True)  # noqa: T201
        os._exit(1)
    with os.fdopen(channel, "wb") as file:
        file.write(message)
    # What the model's code registered for the end could only add to the message.
    os._exit(0)


def forget_where_we_came_from() -> None:
    """Take our own checkout off the path: a stranger who loads the model does not have it."""
    root = str(ROOT)
    if root not in map(os.path.realpath, [*site.getsitepackages(), site.getusersitepackages()]):
        sys.path[:] = [place for place in sys.path if os.path.realpath(place or ".") != root]


def measure(model_folder: Path, batch_size: int, images_file: Path | None = None) -> bytes:
    """Load a model and measure it, as a training run does.

    Args:
        model_folder: The downloaded MLflow model.
        batch_size: Images of a training step, for its FLOPs.
        images_file: Test images, grey levels 0-255, .npy; None where nobody has the test data.

    Returns:
        The message: findings, and the model's outputs for the images; none without images.

    Raises:
        InputError: There is no Keras model in the folder, or neither images nor an input example.
    """
    images = np.load(images_file, allow_pickle=False) if images_file is not None else None
    import_tensorflow()
    from fm_mlflow.measure.machine import describe_machine
    from fm_mlflow.measure.size import weights_digest
    from fm_mlflow.tracking.load_model import load_model

    with MemoryMonitor() as memory:
        memory.phase(_LOADING)
        loaded = load_model(str(model_folder), warn=False)
        inputs = _inputs(loaded, images)
        loaded.predict_all(_first(inputs, 1))
    model = loaded.keras_model
    if model is None:
        raise InputError("model", loaded.uri, "a logged Keras model")
    (loading,) = memory.phases
    # Of several outputs nothing is asked: nobody has the test data that they would be held against.
    outputs = np.zeros(0) if loaded.output_shape is None else loaded.predict(inputs)
    if outputs.dtype.name not in TYPES:
        outputs = outputs.astype(np.float32)
    loss = None
    if model.compiled and images is not None:
        labels = labels_in_turn(len(inputs), loaded.classes)
        logs = model.evaluate(inputs, labels, _EVALUATION_BATCH, verbose=0, return_dict=True)
        loss = float(logs["loss"])
    measured = [
        Measurement.single(
            keys.MEMORY_LOAD, loading.peak_rss_mib - loading.start_rss_mib, _MEMORY_METHOD
        ),
        *_of_keras_model(model, inputs, batch_size),
    ]
    findings = Findings(
        measurements=_figures(measured),
        threads=describe_machine().facts()["threads"],
        weights=len(model.weights),
        weights_digest=weights_digest(model),
        example=_try_example(loaded)[:TEXT_CHARACTERS],
        penalty=_penalty(model, inputs),
        loss_of_turns=_finite(loss),
        type=outputs.dtype.name,
    )
    return to_bytes(findings, outputs if images is not None else outputs[:0])


def _first(inputs: Any, count: int) -> Any:
    """Return the first examples of an array, or of each input by name."""
    if isinstance(inputs, dict):
        return {name: each[:count] for name, each in inputs.items()}
    return inputs[:count]


def _inputs(loaded: LoadedModel, images: NDArray[np.uint8] | None) -> Any:
    if images is not None:
        return to_inputs(images, loaded.input_shape, loaded.input_type)
    example = loaded.input_example()
    if (
        example is None
        or not len(example)
        or (isinstance(example, dict) and not all(map(len, example.values())))
    ):
        raise InputError("model", loaded.uri, "a model with an input example: its data are unknown")
    return example


def _figures(measured: Iterable[Measurement]) -> dict[str, Figure]:
    return {
        each.name: Figure(
            value=_finite(each.value),
            method=each.method[:TEXT_CHARACTERS],
            reason=each.reason and each.reason[:TEXT_CHARACTERS],
            interval=each.interval and (float(each.interval[0]), float(each.interval[1])),
        )
        for each in measured
        if each.name in ASKED
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _of_keras_model(model: Any, inputs: Any, batch_size: int) -> list[Measurement]:
    """Sizes, FLOPs and latency, as a training run measures them."""
    from fm_mlflow.measure import measure_latency, model_sizes, profile_flops

    found = model_sizes(model)
    # Where the FLOPs cannot be counted, the run has none either, or the check fails.
    with suppress(Exception):
        profile = profile_flops(model, batch_size, inputs=_first(inputs, 1), keras_flops=True)
        found += profile.measurements()
    few = _first(inputs, _LATENCY_BATCH)
    # What `model.predict` takes are details, which no figure of a registration has.
    return [*found, *measure_latency(model, few, batch_size=_LATENCY_BATCH, model_predict=False)]


def _penalty(model: Any, inputs: Any) -> float:
    """Return what regularizers add to the loss, on average over the batches of an evaluation."""
    if isinstance(inputs, dict):
        model(inputs, training=False)
        return float(sum(float(each) for each in model.losses))
    total = 0.0
    for start in range(0, len(inputs), _EVALUATION_BATCH):
        batch = inputs[start : start + _EVALUATION_BATCH]
        model(batch, training=False)
        if not model.losses:
            return 0.0
        total += len(batch) * sum(float(each) for each in model.losses)
    return total / len(inputs)


def _try_example(loaded: LoadedModel) -> str:
    """Predict the input example that was logged with the model; say what came out."""
    try:
        example = loaded.input_example()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if example is None:
        return "there is none"
    if loaded.output_shape is None or isinstance(example, dict):
        found = loaded.predict_all(example)
        ends_well = all(np.isfinite(each).all() for each in found if each.dtype.kind == "f")
        return "predicted" if ends_well else "the outputs are not all finite"
    outputs = loaded.predict(example)
    shape = (len(example), *outputs.shape[1:])
    if loaded.classes:
        shape = (len(example), 1 if loaded.is_binary else loaded.classes)
    if outputs.shape != shape or not np.isfinite(outputs).all():
        return f"the outputs have the shape {outputs.shape}"
    return "predicted"


if __name__ == "__main__":
    main()
