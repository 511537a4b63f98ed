"""FLOPs beside published figures, PyTorch's FLOP counter and XLA's cost analysis, on the same nets.

    python -m benchmarks.flops_witnesses [--python PATH] [--nets NAME ...]

Writes the two tables of docs/measurements.md. Each backend of Keras counts in a process of its own:
fm_mlflow in this Python; `torch.utils.flop_count.FlopCounterMode` and the `cost_analysis` of what
JAX lowers, before XLA optimizes, in the Python at PATH, which has keras, torch and jax (they are no
dependencies of fm_mlflow). Nothing is downloaded; weights are random.

The counters differ by convention, and only so:

- PyTorch counts products and convolutions and nothing else, as `core` does.
- XLA counts all arithmetic, integers too, but no taps of a convolution that fall on padding.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "measurements.md"
ALLOWED_PERCENT = 1.0
REFERENCES = ("mlp", "cnn")
BATCH = 8


class Published(NamedTuple):
    """Multiply-adds of a prediction, in millions, that somebody published for a net."""

    multiply_adds: float
    source: str


_NASNET = "Zoph et al. 2018, tables 1 and 2"
_RESNET = "He et al. 2016, table 1"
_TORCHVISION = "torchvision, GFLOPS of the weights"
PUBLISHED = {
    "MobileNet": Published(569, "Howard et al. 2017, table 8"),
    "MobileNetV2": Published(300, "Sandler et al. 2018, table 4"),
    "NASNetMobile": Published(564, _NASNET),
    "EfficientNetB0": Published(386, _TORCHVISION),
    "EfficientNetB1": Published(687, _TORCHVISION),
    "DenseNet121": Published(2_834, _TORCHVISION),
    "DenseNet169": Published(3_360, _TORCHVISION),
    "ResNet50": Published(3_860, "Keras' ResNet50 v1, stride in the first 1x1; He et al.: 3.8 G"),
    "ResNet101": Published(7_600, _RESNET),
    "ConvNeXtTiny": Published(4_456, _TORCHVISION),
    "InceptionV3": Published(5_713, _TORCHVISION),
    "Xception": Published(8_380, _NASNET),
    "InceptionResNetV2": Published(13_200, _NASNET),
    "VGG16": Published(15_470, _TORCHVISION),
    "VGG19": Published(19_632, _TORCHVISION),
}


def main() -> int:
    """Write the tables; the exit code says whether every net is within 1% of what is published."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", default=sys.executable, help="a Python with torch and jax")
    parser.add_argument("--nets", nargs="+", choices=PUBLISHED, default=list(PUBLISHED))
    parser.add_argument("--count", choices=list(COUNTERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.count:
        print(json.dumps(COUNTERS[options.count](options.nets)))
        return 0
    pythons = {"tensorflow": sys.executable, "torch": options.python, "jax": options.python}
    found = {backend: ask(pythons[backend], backend, options.nets) for backend in COUNTERS}
    tables, holds = report(found, options.nets)
    text = PAGE.read_text()
    start, end = "<!-- benchmarks.flops_witnesses -->\n", "<!-- end -->\n"
    pattern = re.compile(f"{start}.*?{end}", re.DOTALL)
    PAGE.write_text(pattern.sub(lambda _: f"{start}{tables}{end}", text))
    print(tables)
    return 0 if holds else 1


def ask(python: str, backend: str, nets: list[str]) -> dict[str, dict[str, float]]:
    """Let one backend count in a process of its own."""
    done = subprocess.run(
        [python, "-m", "benchmarks.flops_witnesses", "--count", backend, "--nets", *nets],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        check=True,
    )
    counted: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return counted


def report(found: dict[str, dict[str, dict[str, float]]], nets: list[str]) -> tuple[str, bool]:
    """Return both tables, and whether every net is near what is published."""
    ours, torch, xla = (found[backend] for backend in ("tensorflow", "torch", "jax"))
    lines = [
        "| net | multiply-adds, M | published, M | difference | source |",
        "|---|---|---|---|---|",
    ]
    holds = True
    for name in nets:
        published, source = PUBLISHED[name]
        counted = ours[name]["core"] / 2e6
        difference = 100 * (counted / published - 1)
        holds = holds and abs(difference) <= ALLOWED_PERCENT
        lines.append(
            f"| {name} | {counted:,.1f} | {published:,.0f} | {difference:+.2f}% | {source} |"
        )
    lines += [
        "",
        "| net | products and convolutions | PyTorch | ratio | all arithmetic | XLA | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in [*REFERENCES, *nets]:
        core, total = ours[name]["core"], ours[name]["total"]
        counts = f"{core:,.0f} | not available | "
        if name in torch:
            counts = f"{core:,.0f} | {torch[name]['core']:,.0f} | {core / torch[name]['core']:.4f}"
        every = f"{total:,.0f} | {xla[name]['total']:,.0f} | {total / xla[name]['total']:.4f}"
        what = ", training" if name in REFERENCES else ""
        lines.append(f"| {name}{what} | {counts} | {every} |")
    return "\n".join(["", *lines, "", ""]), holds


def build(name: str) -> Any:
    """Return a net with random weights: a reference model, or one of keras.applications."""
    import keras
    from keras import layers

    if name == "mlp":
        stack = [layers.Flatten(), *(layers.Dense(n, activation="relu") for n in (256, 128))]
    elif name == "cnn":
        convolution = {"kernel_size": 3, "activation": "relu"}
        stack = [layers.Reshape((28, 28, 1))]
        for filters in (16, 32):
            stack += [layers.Conv2D(filters, **convolution), layers.MaxPooling2D(2)]
        stack += [layers.Flatten(), layers.Dense(64, activation="relu")]
    else:
        size = {"EfficientNetB1": 240, "InceptionV3": 299, "InceptionResNetV2": 299}
        side = {**size, "Xception": 299}.get(name, 224)
        net = getattr(keras.applications, name)
        return net(weights=None, input_shape=(side, side, 3))
    return keras.Sequential([keras.Input((28, 28)), *stack, layers.Dense(10, activation="softmax")])


def count_ours(nets: list[str]) -> dict[str, dict[str, float]]:
    """FLOPs by fm_mlflow: a prediction; of the reference models a step without its optimizer."""
    import keras

    from fm_mlflow.measure import profile_flops

    found = {}
    for name in [*REFERENCES, *nets]:
        model = build(name)
        if name in REFERENCES:
            model.compile("sgd", "sparse_categorical_crossentropy")
            profile = profile_flops(model, BATCH)
            assert profile.training is not None
            assert profile.training_core is not None
            total = profile.training - profile.optimizer_step / BATCH
            found[name] = {"core": profile.training_core, "total": total}
        else:
            profile = profile_flops(model, 1)
            core = 2 * sum(row.macs for row in profile.layers)
            found[name] = {"core": core, "total": float(profile.inference)}
        keras.backend.clear_session()
    return found


def count_torch(nets: list[str]) -> dict[str, dict[str, float]]:
    """The same by PyTorch's counter, which sees products and convolutions."""
    import keras
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    found = {}
    for name in [*REFERENCES, *nets]:
        if name == "NASNetMobile":
            continue  # Keras has none for PyTorch
        model, is_trained = build(name), name in REFERENCES
        images = BATCH if is_trained else 1
        x = keras.ops.zeros((images, *model.input_shape[1:]))
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(is_trained):
            outputs = model(x, training=is_trained)
            if is_trained:
                labels = keras.ops.zeros((images,), "int32")
                loss = keras.losses.sparse_categorical_crossentropy(labels, outputs)
                keras.ops.mean(loss).backward()
        found[name] = {"core": counter.get_total_flops() / images}
    return found


def count_xla(nets: list[str]) -> dict[str, dict[str, float]]:
    """The same by XLA's analysis of what JAX lowers: all arithmetic."""
    import jax
    import keras

    found = {}
    for name in [*REFERENCES, *nets]:
        model, is_trained = build(name), name in REFERENCES
        images = BATCH if is_trained else 1

        def predict(trainable: Any, others: Any, x: Any, model: Any = model) -> Any:
            return model.stateless_call(trainable, others, x, training=False)[0]

        def loss(trainable: Any, others: Any, x: Any, predict: Any = predict) -> Any:
            labels = keras.ops.zeros((x.shape[0],), "int32")
            outputs = predict(trainable, others, x)
            return keras.losses.sparse_categorical_crossentropy(labels, outputs).mean()

        function = jax.value_and_grad(loss) if is_trained else predict
        weights = [
            [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        ]
        x = jax.ShapeDtypeStruct((images, *model.input_shape[1:]), "float32")
        analysis = jax.jit(function).lower(*weights, x).cost_analysis()
        found[name] = {"total": analysis["flops"] / images}
    return found


COUNTERS = {"tensorflow": count_ours, "torch": count_torch, "jax": count_xla}


if __name__ == "__main__":
    sys.exit(main())
