"""Costs of a training on a GPU beside sources that share no code with the measuring.

    KERAS_BACKEND=jax python -m benchmarks.on_gpu --output gpu-jax.json
    KERAS_BACKEND=torch python -m benchmarks.on_gpu --precision mixed_bfloat16

A convolutional net is fitted on made-up images with `CostCallback`, then again with 500 MiB more
held on the device. Printed are the logged figures and, beside them: NVML's power, read every 20 ms
and summed up; a latency loop that waits by the framework's own means; products of matrices queued
one after the other. It takes nvidia-ml-py, and no TensorFlow. About a minute and a half.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fm_mlflow import keys

_EXTRA_MIB = 500
_IMAGES, _SIDE, _BATCH, _EPOCHS = 16_384, 64, 256, 8
_BETWEEN_READINGS = 0.02
_LATENCY_CALLS = 400
_PRODUCTS, _PRODUCT_SIDE = 20, 8192
_MILLI = 1e-3


def net(precision: str) -> Any:
    """Build and compile the net; 1.2 GFLOPs an image to predict."""
    import keras
    from keras import layers

    keras.config.set_dtype_policy(precision)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((_SIDE, _SIDE, 3))], name=f"net-{precision}")
    for filters in (64, 128, 256):
        model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        model.add(layers.MaxPooling2D(2))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(10, activation="softmax", dtype="float32"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


class Power(threading.Thread):
    """Sums up what the first GPU draws, from `begin` to `end`."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        import pynvml

        pynvml.nvmlInit()
        self._nvml, self._gpu = pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)
        self._ended = threading.Event()
        self.joules = 0.0

    def watts(self) -> float:
        """Return what it draws now."""
        field = self._nvml.nvmlDeviceGetFieldValues(
            self._gpu, [self._nvml.NVML_FI_DEV_POWER_INSTANT]
        )[0]
        return float(field.value.uiVal) * _MILLI

    def run(self) -> None:
        """Read until told to end; a trapezium between two readings."""
        before, drawn = time.perf_counter(), self.watts()
        while not self._ended.wait(_BETWEEN_READINGS):
            now, watts = time.perf_counter(), self.watts()
            self.joules += (now - before) * (drawn + watts) / 2
            before, drawn = now, watts

    def end(self) -> None:
        """Stop reading."""
        self._ended.set()
        self.join()


def fit(precision: str, extra_mib: int) -> tuple[dict[str, Any], Any, float]:
    """Fit with the callback; return what is logged, the model, and the joules by its power."""
    import keras
    import mlflow

    import fm_mlflow

    generator = np.random.default_rng(0)
    images = generator.random((_IMAGES, _SIDE, _SIDE, 3), np.float32)
    labels = generator.integers(0, 10, _IMAGES)
    held = keras.ops.ones((extra_mib, 2**18)) if extra_mib else None  # float32: 1 MiB a row
    model, power = net(precision), Power()

    class Watched(keras.callbacks.Callback):  # type: ignore[misc]  # keras is untyped
        def on_train_begin(self, logs: object = None) -> None:
            power.start()

        def on_train_end(self, logs: object = None) -> None:
            power.end()

    with mlflow.start_run() as run:
        costs = fm_mlflow.CostCallback(seed=0, dataset="made up", quiet=True)
        settings: dict[str, Any] = {"batch_size": _BATCH, "epochs": _EPOCHS, "verbose": 0}
        model.fit(images, labels, callbacks=[Watched(), costs], **settings)
    del held
    client = mlflow.MlflowClient()
    text = Path(client.download_artifacts(run.info.run_id, "measurements.json")).read_text("utf-8")
    found = {"metrics": client.get_run(run.info.run_id).data.metrics, **json.loads(text)}
    return found, model, power.joules


def latency(model: Any, image: Any) -> float:
    """Return the median of calls on one image that is on the device, in ms."""
    import keras

    call: Callable[[], object]
    if keras.backend.backend() == "jax":
        import jax

        trained, fixed = model.trainable_variables, model.non_trainable_variables
        values = [v.value for v in trained], [v.value for v in fixed]
        predict, on_device = jax.jit(model.stateless_call), jax.device_put(image)
        call = lambda: jax.block_until_ready(predict(*values, on_device))  # noqa: E731
    else:
        import torch

        on_device = torch.as_tensor(image, device="cuda")

        @torch.no_grad()
        def call() -> None:
            model(on_device, training=False)
            torch.cuda.synchronize()

    taken = []
    for _ in range(_LATENCY_CALLS):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken[_LATENCY_CALLS // 4 :])


def product_rate(dtype: str, side: int) -> dict[str, float]:
    """Return the rate of products that wait for nothing but each other, by what they may round."""
    import keras

    def of(multiply: Callable[[], Any], wait: Callable[[Any], object]) -> float:
        wait(multiply())
        began = time.perf_counter()
        for _ in range(_PRODUCTS):
            last = multiply()
        wait(last)
        return _PRODUCTS * 2 * side**3 / (time.perf_counter() - began) / 1e9

    rates = {}
    if keras.backend.backend() == "jax":
        import jax

        matrix = jax.random.normal(jax.random.key(0), (side, side), dtype)
        for precision in ("default", "tensorfloat32", "highest"):
            with jax.default_matmul_precision(precision):
                multiply = jax.jit(lambda matrix: matrix @ matrix)
                rates[precision] = of(lambda: multiply(matrix), jax.block_until_ready)  # noqa: B023
    else:
        import torch

        matrix = torch.randn(side, side, device="cuda", dtype=getattr(torch, dtype))
        may = torch.backends.cuda.matmul.allow_tf32
        for allowed in (False, True):
            torch.backends.cuda.matmul.allow_tf32 = allowed
            name = f"TF32 {'allowed' if allowed else 'not allowed'}"
            rates[name] = of(
                lambda: torch.matmul(matrix, matrix),
                lambda _: torch.cuda.synchronize(),
            )
        torch.backends.cuda.matmul.allow_tf32 = may
    return rates


def main() -> None:
    """Fit, fit again with more on the device, and print the figures beside the other sources'."""
    import mlflow

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", default="float32", help="Keras dtype policy")
    parser.add_argument("--output", type=Path, default=Path("benchmark-gpu.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        mlflow.set_tracking_uri(f"sqlite:///{Path(name) / 'mlflow.db'}")
        mlflow.create_experiment("gpu", (Path(name) / "artifacts").as_uri())
        mlflow.set_experiment("gpu")
        first, model, joules = fit(options.precision, 0)
        found: dict[str, Any] = {"first": first, "joules by power": joules}
        options.output.write_text(json.dumps(found), "utf-8")  # what a cut lease leaves
        found["latency, ms"] = latency(model, np.ones((1, _SIDE, _SIDE, 3), np.float32))
        found["products, GFLOP/s"] = {
            dtype: product_rate(dtype, _PRODUCT_SIDE) for dtype in ("float32", "bfloat16")
        }
        options.output.write_text(json.dumps(found), "utf-8")
        found["second"], _, _ = fit(options.precision, _EXTRA_MIB)
    options.output.write_text(json.dumps(found), "utf-8")
    of_first, of_second = first["metrics"], found["second"]["metrics"]
    peaks = [each.get(keys.MEMORY_DEVICE_PEAK) for each in (of_first, of_second)]
    grown = None if None in peaks else peaks[1] - peaks[0]
    print("| | measured | another source |\n|---|---|---|")
    for what, ours, theirs in (
        ("energy of the fit, J", of_first.get(keys.ENERGY_GPU_TRAINING), joules),
        ("latency of one image, ms", of_first.get(keys.LATENCY_P50), found["latency, ms"]),
        (f"device memory of {_EXTRA_MIB} MiB more, MiB", grown, _EXTRA_MIB),
        ("MFU, %; products, GFLOP/s", of_first.get(keys.MFU), found["products, GFLOP/s"]),
    ):
        print(f"| {what} | {ours} | {theirs} |")


if __name__ == "__main__":
    main()
