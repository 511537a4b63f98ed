"""The costs of one training run, gathered from the files that measure each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from fm_mlflow import keys
from fm_mlflow.keys import Key
from fm_mlflow.measure.estimate import estimates
from fm_mlflow.measure.flops import FlopsProfile, profile_flops
from fm_mlflow.measure.latency import measure_latency, training_throughput
from fm_mlflow.measure.measurement import Measurement
from fm_mlflow.measure.memory import MemoryMonitor
from fm_mlflow.measure.size import model_sizes
from fm_mlflow.measure.utilization import measure_matmul_rate, mfu_percent

_LATENCY_BATCH = 256
_FLOPS_KEYS = (
    keys.FLOPS_INFERENCE,
    keys.FLOPS_TRAINING,
    keys.FLOPS_TRAINING_CORE,
    keys.FLOPS_TRAINING_TOTAL,
)
_LATENCY_KEYS = (
    keys.LATENCY_P50,
    keys.LATENCY_P95,
    keys.LATENCY_P99,
    keys.THROUGHPUT_INFERENCE,
    keys.MFU,
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
        images: Images of an epoch.
        epochs: Passes over them.
        batch_size: Images a step.
        training_seconds: Wall time of each epoch's training steps.
        memory: The monitor of the run, or None where memory is not measured.
    """

    model: keras.Model
    inputs: NDArray[np.float32]
    images: int
    epochs: int
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
    flops, profile = _flops(trained, parts)
    speed = training_throughput(trained.images, trained.training_seconds)
    if trained.memory is None:
        memory = _not_asked_for(_MEMORY_KEYS)
    else:
        memory = trained.memory.measurements()
    measurements = [
        *model_sizes(trained.model),
        *flops,
        *estimates(trained.model),
        *memory,
        speed,
        *_latency(trained, parts, profile, speed),
    ]
    return TrainingCosts(measurements, profile)


def _flops(
    trained: Trained, parts: frozenset[str]
) -> tuple[list[Measurement], FlopsProfile | None]:
    if "flops" not in parts:
        return _not_asked_for(_FLOPS_KEYS), None
    try:
        profile = profile_flops(trained.model, trained.batch_size, inputs=trained.inputs[:1])
    except Exception as error:  # a model may defy tracing in any way; its training is done
        method = "counted in the traced prediction and training step"
        return _failed(_FLOPS_KEYS, method, error), None
    return profile.measurements(trained.images, trained.epochs), profile


def _latency(
    trained: Trained, parts: frozenset[str], profile: FlopsProfile | None, speed: Measurement
) -> list[Measurement]:
    if "latency" not in parts:
        return _not_asked_for(_LATENCY_KEYS)
    measured = measure_latency(
        trained.model, trained.inputs[:_LATENCY_BATCH], batch_size=_LATENCY_BATCH
    )
    return [*measured, _utilization(profile, speed)]


def _utilization(profile: FlopsProfile | None, speed: Measurement) -> Measurement:
    method = f"{keys.FLOPS_TRAINING_CORE} x images/s over this machine's matrix-product rate"
    if profile is None or not profile.training_core or speed.value is None:
        reason = "it takes the FLOPs and the speed of training, and one of them is missing"
        return Measurement.missing(keys.MFU, method, reason)
    return mfu_percent(profile.training_core, speed.value, measure_matmul_rate())


def _not_asked_for(names: Sequence[Key]) -> list[Measurement]:
    return [Measurement.missing(key, "none", "left out by --measure") for key in names]


def _failed(names: Sequence[Key], method: str, error: Exception) -> list[Measurement]:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return [Measurement.missing(key, method, reason) for key in names]
