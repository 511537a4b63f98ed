"""What a model costs: one file a cost, each returning measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fm_mlflow.process.lazy import lazy_names

if TYPE_CHECKING:
    from fm_mlflow.measure.energy import EnergyMonitor as EnergyMonitor
    from fm_mlflow.measure.flops import (
        FlopsProfile as FlopsProfile,
        profile_flops as profile_flops,
        register_formula as register_formula,
    )
    from fm_mlflow.measure.latency import measure_latency as measure_latency
    from fm_mlflow.measure.measurement import Measurement as Measurement
    from fm_mlflow.measure.memory import MemoryMonitor as MemoryMonitor
    from fm_mlflow.measure.size import model_sizes as model_sizes

# Where each public name lives; imported on first use, because most need TensorFlow.
_HOMES = {
    "EnergyMonitor": "energy",
    "FlopsProfile": "flops",
    "Measurement": "measurement",
    "MemoryMonitor": "memory",
    "measure_latency": "latency",
    "model_sizes": "size",
    "profile_flops": "flops",
    "register_formula": "flops",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
