"""Measures models on Keras' backend; a process of its own, because a process has one backend.

`python -m tests.measure.on_backend` prints what it found as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from fm_mlflow import keys
from fm_mlflow.errors import FlopsError
from fm_mlflow.measure import MemoryMonitor, profile_flops
from fm_mlflow.measure.machine import describe_machine
from fm_mlflow.measure.training import Trained, training_costs
from fm_mlflow.settings.config import MEASURED_PARTS

BATCH = 4


class Inverse(layers.Layer):  # type: ignore[misc]  # keras is untyped
    """Inverts matrices, for which no counter has a formula."""

    def call(self, matrices: Any) -> Any:
        return ops.linalg.inv(matrices + 9 * ops.eye(3))


class Halved(layers.Layer):  # type: ignore[misc]  # keras is untyped
    """Halves its input until it is small."""

    def call(self, x: Any) -> Any:
        return ops.while_loop(lambda y: ops.max(y) > 1, lambda y: (y / 2,), (x,))[0]


class Plain(keras.Model):  # type: ignore[misc]  # keras is untyped
    """Declares no inputs, and its `call` takes no `training`."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(5, use_bias=False)

    def call(self, x: Any) -> Any:
        return self.dense(x)


def stack(*shape: int, of: list[keras.layers.Layer]) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *of])


def mlp() -> keras.Model:
    hidden = [layers.Dense(n, activation="relu") for n in (256, 128)]
    return stack(28, 28, of=[layers.Flatten(), *hidden, layers.Dense(10, activation="softmax")])


def cnn() -> keras.Model:
    return stack(
        *(28, 28, 1),
        of=[
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ],
    )


def attention() -> keras.Model:
    x = keras.Input((6, 8))
    return keras.Model(x, layers.MultiHeadAttention(2, 4, use_bias=False)(x, x))


def plain() -> keras.Model:
    model = Plain()
    model(np.zeros((1, 3), np.float32))
    return model


def tokens_and_numbers() -> keras.Model:
    """Two inputs of different types, two outputs; state of every kind."""
    tokens, numbers = (
        keras.Input((5,), dtype="int32", name="tokens"),
        keras.Input((3,), name="numbers"),
    )
    x = layers.Flatten()(layers.Embedding(20, 4)(tokens))
    x = layers.Concatenate()([x, layers.BatchNormalization()(numbers)])
    x = layers.Dropout(0.5, seed=1)(x)
    outputs = [layers.Dense(3, activation="softmax")(x), layers.Dense(1)(x)]
    return keras.Model({"tokens": tokens, "numbers": numbers}, outputs)


MODELS: dict[str, Callable[[], keras.Model]] = {
    "mlp": mlp,
    "cnn": cnn,
    "attention": attention,
    "dense": lambda: stack(3, of=[layers.Dense(5, use_bias=False)]),
    "grouped": lambda: stack(8, 8, 4, of=[layers.Conv2D(8, 3, groups=2)]),
    "inverse": lambda: stack(3, 3, of=[layers.Dense(3, use_bias=False), Inverse()]),
    "loop": lambda: stack(3, of=[layers.Dense(5), Halved()]),
    "no arithmetic": lambda: stack(3, of=[layers.Flatten()]),
    "plain": plain,
    "recurrent": lambda: stack(7, 3, of=[layers.LSTM(4)]),
    "strided": lambda: stack(9, 9, 3, of=[layers.Conv2D(5, 3, strides=2, padding="same")]),
    "small map": lambda: stack(
        *(2, 2, 3), of=[layers.Conv2D(4, 3, padding="same"), layers.Conv2D(2, 5, padding="same")]
    ),
    "transposed": lambda: stack(
        *(4, 4, 2), of=[layers.Conv2DTranspose(3, 3, strides=2, padding="same")]
    ),
    "two convolutions": lambda: stack(6, 6, 1, of=[layers.Conv2D(2, 3), layers.Conv2D(3, 3)]),
    "unrolled": lambda: stack(7, 3, of=[layers.LSTM(4, unroll=True)]),
}


def zeros(_: keras.initializers.Initializer, shape: Any, dtype: Any = None, **__: Any) -> Any:
    return ops.zeros(shape, dtype)


def counted(name: str) -> dict[str, Any]:
    """FLOPs of a model that was never trained."""
    model = MODELS[name]()
    model.compile("sgd", "mse", metrics=["mae"])
    inputs = np.zeros((1, 3), np.float32) if name == "plain" else None
    try:
        profile = profile_flops(model, BATCH, inputs=inputs, keras_flops=True)
    except FlopsError as error:
        return {"error": str(error)}
    return {**asdict(profile), "metrics": [asdict(m) for m in profile.measurements(10, 2)]}


def untold() -> str | None:
    """What is said where XLA tells no costs, as where JAX has a GPU and not the host."""
    if keras.backend.backend() != "jax":
        return None
    import jax

    jax.stages.Lowered.cost_analysis = lambda _: None  # of this process, which ends soon
    return str(counted("dense")["error"])


def values_of(model: keras.Model) -> list[Any]:
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    gradients = [getattr(variable.value, "grad", None) for variable in model.trainable_variables]
    kept = [*variables, *(each for each in gradients if each is not None)]
    return [ops.convert_to_numpy(each).tolist() for each in kept]


def trained(measure: Callable[[keras.Model, float], Any]) -> tuple[Any, list[Any], list[Any]]:
    """Fit, measure, fit again; return the state before and after measuring, and at the end."""
    keras.utils.set_random_seed(7)
    model = tokens_and_numbers()
    losses = ["sparse_categorical_crossentropy", "mse"]
    model.compile("adam", losses, metrics=[["accuracy"], ["mae"]])
    rng = np.random.default_rng(1)
    x = {"tokens": rng.integers(0, 20, (40, 5)), "numbers": rng.random((40, 3), np.float32)}
    fit = {
        "x": x,
        "y": [rng.integers(0, 3, 40), rng.random((40, 1), np.float32)],
        "sample_weight": [rng.random(40, np.float32)] * 2,
    }
    began = time.perf_counter()
    model.fit(**fit, batch_size=8, shuffle=False, verbose=0)
    before = values_of(model)
    found = measure(model, time.perf_counter() - began)
    assert values_of(model) == before
    model.fit(**fit, batch_size=8, shuffle=False, verbose=0)
    return found, before, values_of(model)


def costs(model: keras.Model, seconds: float, monitor: MemoryMonitor) -> list[Any]:
    """Measure as a callback does, which knows all that a step got."""
    monitor.phase("evaluation")
    inputs = {"tokens": np.ones((3, 5), np.int64), "numbers": np.ones((3, 3), np.float32)}
    targets = [np.zeros(3, np.int64), np.zeros((3, 1), np.float32)]
    weights = [np.ones(3, np.float32)] * 2
    found, profile = training_costs(
        Trained(
            model=model,
            inputs=inputs,
            labels=targets,
            images=40,
            batch_size=8,
            training_seconds=[seconds],
            memory=monitor,
            data=(inputs, targets, weights),
        ),
        frozenset(MEASURED_PARTS),
    )
    assert profile is not None, [m for m in found if m.name == keys.FLOPS_TRAINING]
    return [asdict(measurement) for measurement in found]


def fit_with_callback() -> dict[str, Any]:
    """What a user does; return what is logged then."""
    import mlflow

    from fm_mlflow import CostCallback

    model = mlp()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(1)
    images, labels = rng.random((64, 28, 28), np.float32), rng.integers(0, 10, 64)
    costs_of_fit = CostCallback(measure="flops,memory")  # latency was measured above
    model.fit(images, labels, batch_size=BATCH, verbose=0, callbacks=[costs_of_fit])
    (run,) = mlflow.MlflowClient().search_runs(["0"])
    files = [each.path for each in mlflow.MlflowClient().list_artifacts(run.info.run_id)]
    return {"status": run.info.status, "metrics": run.data.metrics, "files": files}


def main() -> None:
    with MemoryMonitor() as monitor:
        monitor.phase("model")
        monitor.phase("training")
        found, _, end = trained(lambda model, seconds: costs(model, seconds, monitor))
    _, _, unmeasured_end = trained(lambda *_: None)
    # Values do not matter from here on, and JAX compiles for seconds to draw them.
    for each in (keras.initializers.GlorotUniform, keras.initializers.Orthogonal):
        each.__call__ = zeros
    results = {
        "costs": found,
        "same fit": end == unmeasured_end,
        "counted": {name: counted(name) for name in MODELS},
        "machine": describe_machine().facts(),
        "imported": sorted({name for name, module in sys.modules.items() if module}),
    }
    results["callback"] = fit_with_callback()
    results["untold"] = untold()
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
