"""Rate and memory of `fm_mlflow.predict` on a file of a million images, beside one pass in memory.

    python -m benchmarks.predict [--images N] [--model mlp|cnn] [--rounds N]

Trains a small model, writes the images (their number x 784 bytes) and lets fresh processes score
them in turns: `fm_mlflow.predict`, and what one would write with everything in memory. Reported
are medians of images a second, and the highest resident memory of each process above what it held
with libraries and model loaded and one image predicted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MIB = 1024**2
ALLOWED_MIB = 300
ALLOWED_SHARE = 0.8
_WRITTEN_AT_A_TIME = 50_000
_BATCH = 1024


def main() -> int:
    """Run the benchmark; the exit code says whether both bounds hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--model", choices=("mlp", "cnn"), default="mlp")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--score", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.score:
        print(json.dumps(_score(*options.score)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        return _compare(Path(name), options.images, options.model, options.rounds)


def _compare(folder: Path, images: int, model: str, rounds: int) -> int:
    store = f"sqlite:///{folder / 'mlflow.db'}"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store, "TF_CPP_MIN_LOG_LEVEL": "3"}
    train = ["train", "--model", model, "--dataset", "digits", "--measure", "none", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "fm_mlflow", *train],
        cwd=folder,
        env={**environment, "PYTHONPATH": _python_path()},
        stdout=subprocess.PIPE,
        check=True,
    )
    uri = json.loads(done.stdout)["model_uri"]
    file = folder / "images.npy"
    _write_images(file, images)
    found: dict[str, list[dict[str, float]]] = {"in memory": [], "predict": []}
    for _ in range(rounds):
        for how, results in found.items():
            command = [sys.executable, "-m", "benchmarks.predict", "--score", how, uri, str(file)]
            done = subprocess.run(
                [*command, str(folder / "predictions.parquet")],
                env={**environment, "PYTHONPATH": _python_path()},
                stdout=subprocess.PIPE,
                check=True,
            )
            results.append(json.loads(done.stdout.splitlines()[-1]))
    rates, memory = {}, {}
    print(f"{images:,} images, {model}, {rounds} rounds, medians")
    for how, results in found.items():
        rates[how] = statistics.median(images / each["seconds"] for each in results)
        memory[how] = statistics.median(each["above_mib"] for each in results)
        print(f"{how:>10}: {rates[how]:>9,.0f} images/s, {memory[how]:>7,.0f} MiB above the model")
    share = rates["predict"] / rates["in memory"]
    holds = share >= ALLOWED_SHARE and memory["predict"] <= ALLOWED_MIB
    print(
        f"predict has {100 * share:.0f}% of the rate (required: {100 * ALLOWED_SHARE:.0f}%) in "
        f"{memory['predict']:.0f} MiB (required: {ALLOWED_MIB}): {'holds' if holds else 'FAILS'}"
    )
    return 0 if holds else 1


def _python_path() -> str:
    root = str(Path(__file__).parents[1])
    return os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))


def _write_images(path: Path, count: int) -> None:
    random = np.random.default_rng(0)
    file = np.lib.format.open_memmap(path, "w+", np.uint8, (count, 28, 28))
    for start in range(0, count, _WRITTEN_AT_A_TIME):
        part = file[start : start + _WRITTEN_AT_A_TIME]
        part[:] = random.integers(0, 256, part.shape, dtype=np.uint8)
    file.flush()


def _score(how: str, uri: str, file: str, output: str) -> dict[str, float]:
    """Score the file in this process; seconds, and MiB above the loaded model."""
    from fm_mlflow.commands.predict import predict
    from fm_mlflow.measure import MemoryMonitor
    from fm_mlflow.measure.memory import resident_mib
    from fm_mlflow.process.quiet import import_tensorflow

    import_tensorflow()
    import mlflow

    keras_model = mlflow.pyfunc.load_model(uri).get_raw_model()
    shape = keras_model.input_shape[1:]
    keras_model.predict(np.zeros((1, *shape), np.float32), verbose=0)
    baseline = resident_mib()
    with MemoryMonitor() as monitor:
        monitor.phase("scoring")
        if how == "predict":
            seconds = predict(model=uri, input=file, output=output).seconds
        else:
            seconds = _in_memory(keras_model, file, shape)
    (phase,) = monitor.phases
    return {"seconds": seconds, "above_mib": phase.peak_rss_mib - baseline}


def _in_memory(model: object, file: str, shape: tuple[int, ...]) -> float:
    """One traced pass over everything at once; scaled images and results stay in memory.

    The time is that of the pass alone: reading, scaling and writing are not in it.
    """
    import tensorflow as tf

    images = np.divide(np.load(file), np.float32(255), dtype=np.float32).reshape(-1, *shape)
    traced = tf.function(lambda batch: model(batch, training=False), reduce_retracing=True)  # type: ignore[operator]
    for warm_up in (1, 2, _BATCH):
        traced(tf.constant(images[:warm_up]))
    started = time.perf_counter()
    outputs = [
        traced(tf.constant(images[start : start + _BATCH])).numpy()
        for start in range(0, len(images), _BATCH)
    ]
    np.concatenate(outputs).argmax(axis=1)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
