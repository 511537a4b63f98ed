"""What a model costs: one file a cost, each returning measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fm_mlflow.lazy import lazy_names
from fm_mlflow.measure.measurement import Measurement

if TYPE_CHECKING:
    from fm_mlflow.measure.flops import FlopsProfile, profile_flops
    from fm_mlflow.measure.latency import measure_latency
    from fm_mlflow.measure.memory import MemoryMonitor
    from fm_mlflow.measure.size import model_sizes

# Where each other public name lives; imported on first use, because most need TensorFlow.
_HOMES = {
    "FlopsProfile": "flops",
    "MemoryMonitor": "memory",
    "measure_latency": "latency",
    "model_sizes": "size",
    "profile_flops": "flops",
}

__all__ = [
    "FlopsProfile",
    "Measurement",
    "MemoryMonitor",
    "measure_latency",
    "model_sizes",
    "profile_flops",
]


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
