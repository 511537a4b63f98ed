"""The costs of one training run, gathered from the files that measure each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from fm_mlflow import keys
from fm_mlflow.keys import Key
from fm_mlflow.measure.energy import EnergyMonitor
from fm_mlflow.measure.flops import FlopsProfile, profile_flops
from fm_mlflow.measure.latency import batch_call, measure_latency, training_throughput
from fm_mlflow.measure.measurement import Measurement
from fm_mlflow.measure.memory import MemoryMonitor
from fm_mlflow.measure.size import estimates, model_sizes
from fm_mlflow.measure.utilization import measure_matmul_rate, mfu_percent
from fm_mlflow.process.redaction import one_line

_SIZE_KEYS = (
    keys.PARAMETERS_TRAINABLE,
    keys.PARAMETERS_NON_TRAINABLE,
    keys.SIZE_PARAMETERS,
    keys.SIZE_WEIGHTS,
    keys.SIZE_INFERENCE,
    keys.SIZE_H5,
)
_ESTIMATE_KEYS = (
    keys.ESTIMATE_INFERENCE_FLOPS,
    keys.ESTIMATE_TRAINING_FLOPS,
    keys.ESTIMATE_TRAINING_MEMORY,
)
_FLOPS_KEYS = (
    keys.FLOPS_INFERENCE,
    keys.FLOPS_TRAINING,
    keys.FLOPS_TRAINING_CORE,
    keys.FLOPS_TRAINING_TOTAL,
    keys.FLOPS_KERAS,
)
_LATENCY_KEYS = (
    keys.LATENCY_P50,
    keys.LATENCY_P95,
    keys.LATENCY_P99,
    keys.THROUGHPUT_INFERENCE,
)
_MEMORY_KEYS = (
    keys.MEMORY_PEAK,
    keys.MEMORY_BASELINE,
    keys.MEMORY_TRAINING,
    keys.MEMORY_ALLOCATOR_PEAK,
    keys.MEMORY_DEVICE_PEAK,
)
_TRAINING_ENERGY_KEYS = (keys.ENERGY_TRAINING, keys.ENERGY_GPU_TRAINING)
_INFERENCE_ENERGY_KEYS = (keys.ENERGY_INFERENCE, keys.ENERGY_GPU_INFERENCE)
_ENERGY_BATCH = 256


@dataclass(frozen=True)
class Trained:
    """A training that is over, as its costs need it.

    Attributes:
        model: Compiled and trained.
        inputs: Some real examples of its inputs, n from 1: an array of shape (n, *input_shape) and
            any type, or a list or dictionary of such arrays, as `model.predict` takes them.
        labels: What the fit gets for them, likewise; None where `data` says it, or where it is
            class numbers for a sparse loss, else of the output's shape.
        images: Images, or other examples, of an epoch; 0 where nobody could count them.
        batch_size: Examples a step.
        training_seconds: Wall time of each epoch's training steps; as many as there were epochs.
        memory: The monitor of the run, or None where memory is not measured.
        data: All that `train_step` got, where it is known: arrays, tensors or specs of them, such
            as (inputs, targets, weights).
        energy: The monitor of its energy, likewise; it still reads the counters.
        epochs_beside: How many epochs, the first ones, ran beside other work of ours.
    """

    model: keras.Model
    inputs: Any
    labels: Any
    images: int
    batch_size: int
    training_seconds: Sequence[float]
    memory: MemoryMonitor | None
    data: Any = None
    energy: EnergyMonitor | None = None
    epochs_beside: int = 0


def training_costs(
    trained: Trained, parts: frozenset[str]
) -> tuple[list[Measurement], FlopsProfile | None]:
    """Measure a training that is over; what fails is missing and says why.

    Args:
        trained: The model and what is known of its training.
        parts: Which of `settings.config.MEASURED_PARTS` to measure; memory and energy have
            monitors, which measured meanwhile.

    Returns:
        Every cost, those that are missing included; and the profile behind the FLOPs, with its
        table by layer, where there is one.
    """
    model, memory, energy = trained.model, trained.memory, trained.energy
    images = trained.images or None  # 0 where nobody could count them
    batch_size = min(trained.batch_size, images or trained.batch_size)
    profile: FlopsProfile | None = None

    def flops() -> list[Measurement]:
        nonlocal profile
        profile = _profile(model, trained.inputs, trained.labels, trained.data, batch_size)
        counted = profile.measurements(images, len(trained.training_seconds))
        if images is None:
            reason = "nobody counted the images"
            counted.append(Measurement.missing(keys.FLOPS_TRAINING_TOTAL, "none", reason))
        return counted

    def utilization() -> list[Measurement]:
        core, rate = profile.training_core if profile else None, speed.value
        if core and rate is not None:
            product = measure_matmul_rate(dtype=model.compute_dtype)
            return [mfu_percent(core, rate, product)]
        method = f"{keys.FLOPS_TRAINING_CORE} x images/s over this machine's matrix-product rate"
        reason = "it takes the FLOPs and the speed of training, and one of them is missing"
        return [Measurement.missing(keys.MFU, method, reason)]

    def inference_energy() -> list[Measurement]:
        with batch_call(model, trained.inputs, _ENERGY_BATCH) as predict:
            return energy.inference(predict, _ENERGY_BATCH) if energy else []

    speed = training_throughput(trained.images, trained.training_seconds, trained.epochs_beside)
    measurements = [
        *_attempt(_SIZE_KEYS, lambda: model_sizes(model)),
        *_attempt(_FLOPS_KEYS, flops if "flops" in parts else None),
        *_attempt(_ESTIMATE_KEYS, lambda: estimates(model)),
        *_attempt(_MEMORY_KEYS, memory.measurements if memory else None),
        speed,
        *_latency(model, trained.inputs, parts),
        *_attempt([keys.MFU], utilization if "latency" in parts else None),
        *_attempt(_TRAINING_ENERGY_KEYS, energy.training if energy else None),
        *_attempt(_INFERENCE_ENERGY_KEYS, inference_energy if energy else None),
    ]
    return measurements, profile


def model_costs(
    model: keras.Model, inputs: Any, targets: Any, batch_size: int, parts: frozenset[str]
) -> list[Measurement]:
    """Measure a model whose training nobody watches; what fails is missing and says why.

    Args:
        model: Built; where it is compiled, its training step is profiled too.
        inputs: A few hundred, as `model.predict` takes them.
        targets: As `model.fit` takes them; None where they can be told from the outputs.
        batch_size: Examples a training step.
        parts: Which of `fm_mlflow.settings.config.MEASURED_PARTS` to measure.
    """

    def flops() -> list[Measurement]:
        return _profile(model, inputs, targets, None, batch_size).measurements()

    names = [name for name in _FLOPS_KEYS if name != keys.FLOPS_TRAINING_TOTAL]
    return [
        *_attempt(_SIZE_KEYS, lambda: model_sizes(model)),
        *_attempt(names, flops if "flops" in parts else None),
        *_attempt(_ESTIMATE_KEYS, lambda: estimates(model)),
        *_latency(model, inputs, parts),
    ]


def known_costs(
    model: keras.Model, inputs: Any, targets: Any, batch_size: int
) -> list[Measurement]:
    """Measure what is known of a compiled model before its training: sizes and FLOPs.

    Args:
        model: Built and compiled.
        inputs: A few, as `model.predict` takes them.
        targets: As `model.fit` takes them.
        batch_size: Examples a training step.
    """

    def flops() -> list[Measurement]:
        profile = profile_flops(model, batch_size, inputs=inputs, targets=targets)
        return [each for each in profile.measurements() if each.name in names]

    names = (keys.FLOPS_INFERENCE, keys.FLOPS_TRAINING, keys.FLOPS_TRAINING_CORE)
    return [*_attempt(_SIZE_KEYS, lambda: model_sizes(model)), *_attempt(names, flops)]


def _profile(
    model: keras.Model, inputs: Any, targets: Any, data: Any, batch_size: int
) -> FlopsProfile:
    return profile_flops(
        model, batch_size, inputs=inputs, targets=targets, data=data, keras_flops=True
    )


def _latency(model: keras.Model, inputs: Any, parts: frozenset[str]) -> list[Measurement]:
    measure = (lambda: measure_latency(model, inputs)) if "latency" in parts else None
    return _attempt(_LATENCY_KEYS, measure)


def _attempt(
    names: Sequence[Key], measure: Callable[[], list[Measurement]] | None
) -> list[Measurement]:
    """Measure, unless it is left out; no fault in measuring may fail a training that is done."""
    if measure is None:
        return [Measurement.missing(key, "none", "left out by --measure") for key in names]
    try:
        return measure()
    except Exception as error:
        reason = f"measuring it failed: {one_line(error)}"
        return [Measurement.missing(key, "none", reason) for key in names]
