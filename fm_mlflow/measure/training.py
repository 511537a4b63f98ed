"""The costs of one training run, gathered from the files that measure each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from fm_mlflow import keys
from fm_mlflow.keys import Key
from fm_mlflow.measure.estimate import estimates
from fm_mlflow.measure.flops import FlopsProfile, profile_flops
from fm_mlflow.measure.latency import measure_latency, training_throughput
from fm_mlflow.measure.measurement import Measurement, describe_error
from fm_mlflow.measure.memory import MemoryMonitor
from fm_mlflow.measure.size import model_sizes
from fm_mlflow.measure.utilization import measure_matmul_rate, mfu_percent

_LATENCY_BATCH = 256
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


@dataclass(frozen=True)
class Trained:
    """A training that is over, as its costs need it.

    Attributes:
        model: Compiled and trained.
        inputs: A few hundred real inputs, shape (n, *input_shape), float32.
        labels: Their class numbers as the fit gets them, shape (n,), int32.
        images: Images of an epoch.
        batch_size: Images a step.
        training_seconds: Wall time of each epoch's training steps; as many as there were epochs.
        memory: The monitor of the run, or None where memory is not measured.
    """

    model: keras.Model
    inputs: NDArray[np.float32]
    labels: NDArray[np.int32]
    images: int
    batch_size: int
    training_seconds: Sequence[float]
    memory: MemoryMonitor | None


@dataclass(frozen=True)
class TrainingCosts:
    """What a training run cost.

    Attributes:
        measurements: Every cost, those that are missing included.
        flops: The profile behind the FLOPs, with its table by layer, where there is one.
    """

    measurements: list[Measurement]
    flops: FlopsProfile | None


def training_costs(trained: Trained, parts: frozenset[str]) -> TrainingCosts:
    """Measure a training that is over; what fails is missing and says why.

    Args:
        trained: The model and what is known of its training.
        parts: Which of `fm_mlflow.config.MEASURED_PARTS` to measure; memory was measured meanwhile.
    """
    model, memory = trained.model, trained.memory
    flops, profile = _flops(trained, parts)
    speed = training_throughput(trained.images, trained.training_seconds)
    measurements = [
        *_attempt(_SIZE_KEYS, lambda: model_sizes(model)),
        *flops,
        *_attempt(_ESTIMATE_KEYS, lambda: estimates(model)),
        *(_attempt(_MEMORY_KEYS, memory.measurements) if memory else _not_asked_for(_MEMORY_KEYS)),
        speed,
        *_latency(trained, parts),
        _utilization(parts, profile, speed),
    ]
    return TrainingCosts(measurements, profile)


def _flops(
    trained: Trained, parts: frozenset[str]
) -> tuple[list[Measurement], FlopsProfile | None]:
    if "flops" not in parts:
        return _not_asked_for(_FLOPS_KEYS), None
    try:
        profile = profile_flops(
            trained.model,
            min(trained.batch_size, trained.images),
            inputs=trained.inputs[:1],
            targets=trained.labels[:1],
        )
        return profile.measurements(trained.images, len(trained.training_seconds)), profile
    except Exception as error:
        return _failed(_FLOPS_KEYS, error), None


def _latency(trained: Trained, parts: frozenset[str]) -> list[Measurement]:
    if "latency" not in parts:
        return _not_asked_for(_LATENCY_KEYS)
    example = trained.inputs[:_LATENCY_BATCH]
    return _attempt(
        _LATENCY_KEYS, lambda: measure_latency(trained.model, example, batch_size=_LATENCY_BATCH)
    )


def _utilization(
    parts: frozenset[str], profile: FlopsProfile | None, speed: Measurement
) -> Measurement:
    if "latency" not in parts:
        return _not_asked_for([keys.MFU])[0]
    if profile is None or not profile.training_core or speed.value is None:
        method = f"{keys.FLOPS_TRAINING_CORE} x images/s over this machine's matrix-product rate"
        reason = "it takes the FLOPs and the speed of training, and one of them is missing"
        return Measurement.missing(keys.MFU, method, reason)
    core, rate = profile.training_core, speed.value
    (found,) = _attempt([keys.MFU], lambda: [mfu_percent(core, rate, measure_matmul_rate())])
    return found


def _attempt(names: Sequence[Key], measure: Callable[[], list[Measurement]]) -> list[Measurement]:
    """Measure; the training is done, and no fault in measuring it may fail its run."""
    try:
        return measure()
    except Exception as error:
        return _failed(names, error)


def _not_asked_for(names: Sequence[Key]) -> list[Measurement]:
    return [Measurement.missing(key, "none", "left out by --measure") for key in names]


def _failed(names: Sequence[Key], error: Exception) -> list[Measurement]:
    reason = f"measuring it failed: {describe_error(error)}"
    return [Measurement.missing(key, "none", reason) for key in names]
