"""What `CostCallback` adds to somebody's own `model.fit`.

    python -m benchmarks.callback --rounds 5

In one process that has TensorFlow warm, each round fits the reference models on Fashion-MNIST by
plain `model.fit` twice, in turn: without a callback, and with `CostCallback`, which logs to a
SQLite store. Prints one JSON object: seconds of each fit, the median over the rounds of their
ratio, and the seconds that measuring took after the fit, which are not in the former.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--models", default="mlp,cnn")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="callback-") as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{Path(folder) / 'mlflow.db'}"
        os.environ["FM_MLFLOW_JOURNAL_DIR"] = str(Path(folder) / "journals")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        print(json.dumps(measure(given.models.split(","), given.rounds, given.epochs), indent=1))


def measure(models: list[str], rounds: int, epochs: int) -> dict[str, object]:
    """Fit in turn, with the callback and without; the first of all is not counted."""
    plain: dict[str, list[float]] = {model: [] for model in models}
    with_callback: dict[str, list[float]] = {model: [] for model in models}
    measuring: dict[str, list[float]] = {model: [] for model in models}
    fit(models[0], 1, with_callback=True)  # makes the store and warms up
    for number in range(rounds):
        for model in models:
            for has_callback in (True, False) if number % 2 else (False, True):
                seconds, after = fit(model, epochs, with_callback=has_callback)
                (with_callback if has_callback else plain)[model].append(seconds)
                if has_callback:
                    measuring[model].append(after)
    ratios = {
        model: [one / other for one, other in zip(with_callback[model], plain[model], strict=True)]
        for model in models
    }
    return {
        "with / without": {model: statistics.median(each) for model, each in ratios.items()},
        "each": ratios,
        "with, s": with_callback,
        "without, s": plain,
        "measuring, s": measuring,
    }


def fit(model: str, epochs: int, *, with_callback: bool) -> tuple[float, float]:
    """Return the seconds of the fit up to the end of its last epoch, and those after it."""
    import keras

    from fm_mlflow import CostCallback
    from fm_mlflow.data.dataset import load_dataset
    from fm_mlflow.training.models import BUILDERS

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]  # keras is untyped
        """Notes when the fit ends, before any later callback hears of it."""

        ended = 0.0

        def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002  # Keras' name
            self.ended = time.perf_counter()

    dataset = load_dataset("fashion_mnist")
    net = BUILDERS[model](dataset.example_shape, len(dataset.class_names))
    net.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    inputs = dataset.train.scaled.reshape(-1, *net.input_shape[1:])
    clock = Clock()
    callbacks = [clock, CostCallback()] if with_callback else [clock]
    began = time.perf_counter()
    net.fit(
        inputs, dataset.train.targets, batch_size=64, epochs=epochs, verbose=0, callbacks=callbacks
    )
    ended = time.perf_counter()
    keras.backend.clear_session()
    return clock.ended - began, ended - clock.ended


if __name__ == "__main__":
    main()
