"""The training loop beside `model.fit`, for nets that a user may bring.

    python -m benchmarks.training_layers --output layers.json

One process; `model.fit` and the loop take turns, each net built anew each time. A figure is the
median of the epochs after the first, which compiles, over all rounds. The images are random, which
costs the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.training_scale import EPOCHS, timed_fit
from fm_mlflow.measure.machine import describe_machine
from fm_mlflow.process.quiet import import_tensorflow

_BATCH = 64


def nets() -> dict[str, tuple[Callable[[], list[Any]], str]]:
    """Return the hidden layers of each net, and its optimizer."""
    from keras import layers

    def dense(*between: Any) -> list[Any]:
        return [
            layers.Flatten(),
            layers.Dense(256, activation="relu"),
            *between,
            layers.Dense(128, activation="relu"),
        ]

    def convolutions(*between: Any) -> list[Any]:
        return [
            layers.Reshape((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(2),
            *between,
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
        ]

    return {
        "mlp": (dense, "adam"),
        "mlp, SGD": (dense, "sgd"),
        "mlp, dropout": (lambda: dense(layers.Dropout(0.3)), "adam"),
        "mlp, noise": (lambda: dense(layers.GaussianNoise(0.1)), "adam"),
        "mlp, batch normalization": (lambda: dense(layers.BatchNormalization()), "adam"),
        "mlp, layer normalization": (lambda: dense(layers.LayerNormalization()), "adam"),
        "12 dense layers of 64": (
            lambda: [layers.Flatten(), *(layers.Dense(64, activation="relu") for _ in range(12))],
            "adam",
        ),
        "GRU": (lambda: [layers.GRU(32)], "adam"),
        "cnn": (convolutions, "adam"),
        "cnn, dropout": (lambda: convolutions(layers.Dropout(0.3)), "adam"),
        "cnn, batch normalization": (lambda: convolutions(layers.BatchNormalization()), "adam"),
    }


def build(hidden: Callable[[], list[Any]], optimizer: str) -> Any:
    """Return a compiled net for ten classes of 28 x 28 images."""
    import keras

    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    outputs = keras.layers.Dense(10, activation="softmax")
    model = keras.Sequential([keras.Input((28, 28)), *hidden(), outputs])
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def by_keras(model: Any, images: Any, labels: Any) -> list[float]:
    """Return the seconds of each epoch of `model.fit` on arrays."""
    import keras

    times: list[float] = []

    def clock(_epoch: int, _logs: Any) -> None:
        times.append(time.perf_counter())

    watch = keras.callbacks.LambdaCallback(on_epoch_begin=clock, on_epoch_end=clock)
    scaled = images.astype(np.float32) / 255
    model.fit(scaled, labels, _BATCH, EPOCHS, verbose=0, callbacks=[watch])
    return [end - begin for begin, end in zip(times[::2], times[1::2], strict=True)]


def measure(names: list[str], rows: int, rounds: int) -> list[dict[str, Any]]:
    """Train each net both ways, in turn."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
    labels = generator.integers(0, 10, rows).astype(np.int32)
    steps = -(-rows // _BATCH)
    found = []
    for name in names:
        hidden, optimizer = nets()[name]
        keras_seconds, loop_seconds, compiler = [], [], ""
        for _ in range(rounds):
            keras_seconds += by_keras(build(hidden, optimizer), images, labels)[1:]
            result = timed_fit(build(hidden, optimizer), images, labels, _BATCH)
            loop_seconds += result.training_seconds[1:]
            compiler = result.compiler
        keras_step = statistics.median(keras_seconds) / steps * 1e6
        step = statistics.median(loop_seconds) / steps * 1e6
        figure = {
            "net": name,
            "compiler": compiler,
            "keras_us": keras_step,
            "keras_range_us": [each(keras_seconds) / steps * 1e6 for each in (min, max)],
            "us": step,
            "range_us": [each(loop_seconds) / steps * 1e6 for each in (min, max)],
            "ratio": keras_step / step,
        }
        print(json.dumps(figure), file=sys.stderr, flush=True)
        found.append(figure)
    return found


def main() -> None:
    """Measure, and write JSON and a Markdown table."""
    import_tensorflow()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--nets", nargs="+", choices=nets(), default=list(nets()))
    parser.add_argument("--rows", type=int, default=16_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    found = measure(given.nets, given.rows, given.rounds)
    document = {"machine": asdict(describe_machine()), "readings": found}
    given.output.write_text(json.dumps(document, indent=1) + "\n")
    lines = ["| net | `model.fit`, us a step | here | ratio | by |", "|---|---|---|---|---|"]
    for each in found:
        low, high = each["range_us"]
        lines.append(
            f"| {each['net']} | {each['keras_us']:,.0f} | {each['us']:,.0f} ({low:,.0f} to "
            f"{high:,.0f}) | {each['ratio']:.1f} | {each['compiler']} |"
        )
    table = "\n".join(lines) + "\n"
    given.output.with_suffix(".md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
