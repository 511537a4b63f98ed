"""What `registration.checks` runs in a fresh process: load a logged model, measure it again.

`python -m fm_mlflow.registration.fresh_process FOLDER` reads `model/` and `task.npz` there, and
writes `probabilities.npy` and `found.json`.
"""

from __future__ import annotations

import json
import os
import site
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fm_mlflow import keys
from fm_mlflow.errors import InputError
from fm_mlflow.measure.measurement import Measurement
from fm_mlflow.measure.memory import MemoryMonitor
from fm_mlflow.process.quiet import import_tensorflow

if TYPE_CHECKING:
    from fm_mlflow.tracking.load_model import LoadedModel

ROOT = Path(__file__).resolve().parents[2]
"""Where our package lies, for Python to import it from."""

TASK_FILE = "task.npz"
FOUND_FILE = "found.json"
PROBABILITIES_FILE = "probabilities.npy"

_LOADING = "loading"
_LATENCY_BATCH = 256
_EVALUATION_BATCH = 1000
_MEMORY_METHOD = "highest resident memory of a fresh process - just before it loads the model"


def main() -> None:
    """Measure the model of the folder that the command line names."""
    forget_where_we_came_from()
    folder = Path(sys.argv[1])
    # Whatever the model or a library prints is no result.
    os.dup2(2, 1)
    found = measure(folder)
    (folder / FOUND_FILE).write_text(json.dumps(found), encoding="utf-8")


def forget_where_we_came_from() -> None:
    """Take our own checkout off the path: a stranger who loads the model does not have it."""
    root = str(ROOT)
    if root not in map(os.path.realpath, [*site.getsitepackages(), site.getusersitepackages()]):
        sys.path[:] = [place for place in sys.path if os.path.realpath(place or ".") != root]


def measure(folder: Path) -> dict[str, Any]:
    """Load the model in `folder` and measure it; plain values, by name.

    Returns:
        `measurements` (those that a training run logs, by name), `machine` (tags), `weights` (how
        many), `weights_digest`, `class_names`, `input_shape`, `gives_logits` and `example`: how the
        model took the logged input example.

    Raises:
        InputError: There is no Keras model in it.
    """
    with np.load(folder / TASK_FILE) as task:
        images, labels, batch_size = task["images"], task["labels"], int(task["batch_size"])
    import_tensorflow()
    from scipy.special import softmax

    from fm_mlflow.data.probabilities import are_probabilities
    from fm_mlflow.measure.machine import describe_machine
    from fm_mlflow.measure.size import weights_digest
    from fm_mlflow.tracking.load_model import load_model

    with MemoryMonitor() as memory:
        memory.phase(_LOADING)
        loaded = load_model(str(folder / "model"))
        inputs = np.divide(images, 255, dtype=np.float32).reshape(-1, *loaded.input_shape)
        loaded.predict(inputs[:1])
    model = loaded.keras_model
    if model is None:
        raise InputError("model", loaded.uri, "a logged Keras model")
    (loading,) = memory.phases
    outputs = loaded.predict(inputs)
    gives_logits = not are_probabilities(outputs)
    probabilities = softmax(outputs, axis=-1) if gives_logits else outputs
    np.save(folder / PROBABILITIES_FILE, probabilities)
    accuracy = float(np.mean(probabilities.argmax(axis=1) == labels))
    measurements = [
        Measurement.exact(keys.TEST_ACCURACY, accuracy, "most probable class v label"),
        Measurement.single(
            keys.MEMORY_LOAD, loading.peak_rss_mib - loading.start_rss_mib, _MEMORY_METHOD
        ),
        *_of_keras_model(model, inputs, labels, batch_size),
    ]
    return {
        "measurements": {each.name: asdict(each) for each in measurements},
        "machine": describe_machine().tags(),
        "weights": len(model.weights),
        "weights_digest": weights_digest(model),
        "class_names": list(loaded.class_names),
        "input_shape": list(loaded.input_shape),
        "gives_logits": gives_logits,
        "example": _try_example(loaded),
    }


def _of_keras_model(model: Any, inputs: Any, labels: Any, batch_size: int) -> list[Measurement]:
    """Loss, sizes, FLOPs and latency, as a training run measures them."""
    from fm_mlflow.measure import measure_latency, model_sizes, profile_flops

    found = model_sizes(model)
    if model.compiled:
        targets = labels.astype(np.int32)
        logs = model.evaluate(inputs, targets, _EVALUATION_BATCH, verbose=0, return_dict=True)
        found.append(Measurement.exact(keys.TEST_LOSS, float(logs["loss"]), "the compiled loss"))
    # Where the FLOPs cannot be counted, the run has none either, or the check fails.
    with suppress(Exception):
        found += profile_flops(model, batch_size, inputs=inputs[:1]).measurements()
    return [*found, *measure_latency(model, inputs[:_LATENCY_BATCH], batch_size=_LATENCY_BATCH)]


def _try_example(loaded: LoadedModel) -> str:
    """Predict the input example that was logged with the model; say what came out."""
    try:
        example = loaded.input_example()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if example is None:
        return "there is none"
    outputs = loaded.predict(example)
    if outputs.shape != (len(example), loaded.classes) or not np.isfinite(outputs).all():
        return f"the outputs have the shape {outputs.shape}"
    return "predicted"


if __name__ == "__main__":
    main()
