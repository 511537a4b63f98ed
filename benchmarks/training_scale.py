"""How the time of an epoch grows with rows, batch size and model size.

    python -m benchmarks.training_scale --output scale.json

One process; each figure is the median of the epochs after the first, which compiles. Rows beyond
60,000 are repetitions; the images are random, which costs the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fm_mlflow.measure.machine import describe_machine
from fm_mlflow.process.quiet import import_tensorflow

if TYPE_CHECKING:
    from fm_mlflow.fitting import FitResult

_ROWS = (10_000, 30_000, 60_000, 150_000, 300_000, 600_000)
_BATCHES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_WIDTHS = (64, 256, 512, 1024, 2048)
EPOCHS = 3


def build(kind: str, width: int) -> Any:
    """Return a net in the shape of a reference model, which both have with a width of 256."""
    import keras
    from keras import layers

    keras.utils.clear_session()
    if kind == "mlp":
        hidden = [
            layers.Flatten(),
            layers.Dense(width, activation="relu"),
            layers.Dense(width // 2, activation="relu"),
        ]
    else:
        hidden = [
            layers.Reshape((28, 28, 1)),
            layers.Conv2D(width // 16, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(width // 8, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
        ]
    model = keras.Sequential(
        [keras.Input((28, 28)), *hidden, layers.Dense(10, activation="softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def timed_fit(model: Any, images: Any, labels: Any, batch_size: int) -> FitResult:
    """Train by the loop for three epochs, the first of which compiles."""
    from fm_mlflow.fitting import Examples, fit

    return fit(
        model,
        Examples(images, labels, divisor=255),
        Examples(images[:256], labels[:256], divisor=255),
        epochs=EPOCHS,
        batch_size=batch_size,
        seed=0,
        on_epoch=lambda _epoch, _metrics: None,
    )


def epoch_seconds(kind: str, rows: int, batch_size: int, width: int) -> dict[str, Any]:
    """Time the training steps of an epoch."""
    model = build(kind, width)
    generator = np.random.default_rng(0)
    base = generator.integers(0, 256, (min(rows, 60_000), 28, 28), dtype=np.uint8)
    images = np.resize(base, (rows, 28, 28))
    labels = generator.integers(0, 10, rows).astype(np.int32)
    result = timed_fit(model, images, labels, batch_size)
    seconds = statistics.median(result.training_seconds[1:])
    steps = -(-rows // batch_size)
    return {
        "model": kind,
        "compiler": result.compiler,
        "rows": rows,
        "batch_size": batch_size,
        "width": width,
        "parameters": model.count_params(),
        "seconds": seconds,
        "microseconds_a_step": 1e6 * seconds / steps,
        "images_per_second": rows / seconds,
        "compile_seconds": result.training_seconds[0] - seconds,
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("benchmark-training-scale.json"))
    options = parser.parse_args()
    import_tensorflow()
    points = [
        *(("mlp", rows, 64, 256) for rows in _ROWS),
        *(("mlp", 60_000, batch_size, 256) for batch_size in _BATCHES),
        *(("mlp", 60_000, 64, width) for width in _WIDTHS),
        *(("cnn", rows, 64, 256) for rows in _ROWS[:4]),
        *(("cnn", 60_000, batch_size, 256) for batch_size in _BATCHES),
        *(("cnn", 60_000, 64, width) for width in _WIDTHS[:3]),
    ]
    readings = []
    for point in points:
        readings.append(epoch_seconds(*point))
        print(json.dumps(readings[-1]), file=sys.stderr, flush=True)
        document = {"machine": asdict(describe_machine()), "readings": readings}
        options.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
