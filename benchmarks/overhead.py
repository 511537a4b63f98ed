"""What fm_mlflow adds to a fit, in wall time and in CPU time.

    python -m benchmarks.overhead callback --models mlp --rounds 7
    python -m benchmarks.overhead train --rounds 5
    python -m benchmarks.overhead epochs --models tiny,mlp --rounds 20

`callback`: a plain `model.fit` of somebody's own, without a callback and with `CostCallback`.
`train`: the bare loop of `fm_mlflow.fitting`, and the fit of `fm_mlflow.train` with journal,
metrics, checkpoints and the sampling of memory.
`epochs`: one `model.fit` of twice as many epochs as rounds, every other one with `CostCallback`,
whose step is exchanged for the plain one meanwhile. What the callback does at the beginning and the
end of a fit is not in it; but two epochs one after the other differ less by chance than two fits.
What it adds to a step is the same whatever the step does: `tiny`, a softmax of the pixels, has the
shortest steps, by which it is seen best.

In one process that has TensorFlow warm, each round fits the reference models on Fashion-MNIST both
ways, in turn, logging to a SQLite store. The measuring after a fit is not in it. Prints one JSON
object: wall and CPU seconds (user + system, all threads) of each fit, the ratio of each round, and
their median. On a machine with other work only the CPU time tells.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

_BATCH = 64


class Times(NamedTuple):
    """Seconds since a start of which only differences count."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Times:
        """Read the clocks."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return cls(time.perf_counter(), used.ru_utime + used.ru_stime)

    def since(self, began: Times) -> Times:
        """Return how much later this is."""
        return Times(self.wall - began.wall, self.cpu - began.cpu)


Fit = Callable[[str, int, int, bool], Times]
"""Fits a model so many epochs by a seed, with or without fm_mlflow; what the fit itself took."""


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("of", choices=sorted([*FITS, "epochs"]))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--models", default="mlp,cnn")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{Path(folder) / 'mlflow.db'}"
        os.environ["FM_MLFLOW_JOURNAL_DIR"] = str(Path(folder) / "journals")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        models = given.models.split(",")
        if given.of == "epochs":
            found = {model: epochs_of_a_fit(model, given.rounds) for model in models}
        else:
            found = measure(FITS[given.of], models, given.rounds, given.epochs)
        print(json.dumps(found, indent=1))


def measure(fit: Fit, models: list[str], rounds: int, epochs: int) -> dict[str, object]:
    """Fit in turn, with and without; the first of all, which makes the store, is not counted."""
    fit(models[0], 1, 0, True)
    taken: dict[str, dict[bool, list[Times]]] = {model: {True: [], False: []} for model in models}
    for number in range(rounds):
        for model, each in taken.items():
            for is_with in (True, False) if number % 2 else (False, True):
                each[is_with].append(fit(model, epochs, number, is_with))
    return {model: _compared(each[True], each[False]) for model, each in taken.items()}


def _compared(those_with: list[Times], without: list[Times]) -> dict[str, object]:
    found: dict[str, object] = {}
    for clock in Times._fields:
        one, other = ([getattr(each, clock) for each in times] for times in (those_with, without))
        ratios = [a / b for a, b in zip(one, other, strict=True)]
        found[f"{clock}: with / without, median"] = round(statistics.median(ratios), 4)
        found[f"{clock}: with / without, mean and standard error"] = _mean_and_error(ratios, 4)
        found[f"{clock}: of each round"] = [round(ratio, 4) for ratio in ratios]
        found[f"{clock}: s, with"] = [round(seconds, 2) for seconds in one]
        found[f"{clock}: s, without"] = [round(seconds, 2) for seconds in other]
    return found


def _mean_and_error(values: list[float], digits: int) -> tuple[float, float | None]:
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return round(statistics.mean(values), digits), error and round(error, digits)


def fit_of_a_script(model: str, epochs: int, seed: int, with_callback: bool) -> Times:
    """Fit by `model.fit`, up to the end of the last epoch."""
    import keras

    from fm_mlflow import CostCallback

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]  # keras is untyped
        """Notes when the fit ends, before any later callback hears of it."""

        def on_train_end(self, logs: Any = None) -> None:  # Keras' name
            self.ended = Times.now()

    net, inputs, targets = _script(model, seed)
    clock = Clock()
    callbacks = [clock, CostCallback()] if with_callback else [clock]
    began = Times.now()
    net.fit(inputs, targets, batch_size=_BATCH, epochs=epochs, verbose=0, callbacks=callbacks)
    keras.backend.clear_session()
    return clock.ended.since(began)


def epochs_of_a_fit(model: str, rounds: int) -> dict[str, object]:
    """Fit once, every other epoch with the callback and its step, the rest with the plain step."""
    import keras

    from fm_mlflow import CostCallback

    net, inputs, targets = _script(model, 0)
    net.fit(inputs[:64], targets[:64], verbose=0)
    plain = net.train_function
    cost = CostCallback()
    taken: dict[bool, list[Times]] = {True: [], False: []}

    class Switch(keras.callbacks.Callback):  # type: ignore[misc]  # keras is untyped
        """Exchanges the steps between epochs, and takes the callback off the list."""

        is_with = True

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.began = Times.now()

        def note(self) -> None:
            taken[self.is_with].append(Times.now().since(self.began))
            if len(taken[True]) == 1 and self.is_with:
                self.observed = net.train_function
            at = len(taken[True]) + len(taken[False])
            self.is_with = at % 4 in (0, 3)  # with, without, without, with
            net.train_function = self.observed if self.is_with else plain
            others = [each for each in callbacks.callbacks if each not in (cost, last)]
            callbacks.callbacks = [*others, *([cost] if self.is_with else []), last]

    class Last(keras.callbacks.Callback):  # type: ignore[misc]  # keras is untyped
        """Ends an epoch after all others have heard of its end."""

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            switch.note()

    switch, last, epochs = Switch(), Last(), 2 * rounds + 4
    callbacks = keras.callbacks.CallbackList([switch, cost, last], model=net, epochs=epochs)
    net.fit(inputs, targets, batch_size=_BATCH, epochs=epochs, verbose=0, callbacks=callbacks)
    keras.backend.clear_session()
    those_with, without = taken[True][2:], taken[False][2:]  # the first trace, and warm up
    found = _compared(those_with, without)
    for clock in Times._fields:
        more = [
            (getattr(a, clock) - getattr(b, clock)) * 1e6 / math.ceil(len(inputs) / _BATCH)
            for a, b in zip(those_with, without, strict=True)
        ]
        found[f"{clock}: us a step more, mean and standard error"] = _mean_and_error(more, 1)
    return found


def _script(model: str, seed: int) -> tuple[Any, Any, Any]:
    """Return a built-in model, compiled, with the training data that it takes."""
    import keras

    from fm_mlflow.data.dataset import load_dataset
    from fm_mlflow.training.builtin_models import BUILDERS

    keras.utils.set_random_seed(seed)
    dataset = load_dataset("fashion_mnist")
    if model == "tiny":
        net = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, "softmax")])
    else:
        net = BUILDERS[model](dataset.example_shape, len(dataset.class_names))
    net.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    inputs = dataset.train.scaled.reshape(-1, *net.input_shape[1:])
    return net, inputs, dataset.train.targets


def fit_of_train(model: str, epochs: int, seed: int, is_tracked: bool) -> Times:
    """Fit by the loop of `train`, under a run or bare."""
    import keras

    from fm_mlflow import fitting, train
    from fm_mlflow.data.dataset import load_dataset
    from fm_mlflow.settings.config import TrainConfig
    from fm_mlflow.training.models import build_model

    taken: list[Times] = []
    loop = fitting.fit

    def timed(*arguments: Any, **named: Any) -> fitting.FitResult:
        began = Times.now()
        result = loop(*arguments, **named)
        taken.append(Times.now().since(began))
        return result

    if is_tracked:
        fitting.fit = timed
        try:
            train(model, epochs=epochs, seed=seed, measure="memory")
        finally:
            fitting.fit = loop
    else:
        config = TrainConfig(model=model, epochs=epochs, seed=seed)
        dataset = load_dataset(config.dataset)
        built = build_model(config, dataset)
        timed(
            built.model,
            built.examples(dataset.train),
            built.examples(dataset.test),
            epochs=epochs,
            batch_size=config.batch_size,
            seed=seed,
            on_epoch=lambda _epoch, _metrics: None,
        )
    keras.backend.clear_session()
    return taken[0]


FITS: dict[str, Fit] = {"callback": fit_of_a_script, "train": fit_of_train}

if __name__ == "__main__":
    main()
