"""Why the run of a script lacks a figure of memory, and what helps."""

from __future__ import annotations

from dataclasses import replace

from fm_mlflow import keys
from fm_mlflow.measure.measurement import Measurement
from fm_mlflow.measure.memory import MemoryMonitor


def sound(cost: Measurement, memory: MemoryMonitor | None) -> Measurement:
    """Leave out a memory of training that would say nothing, and say what helps."""
    reason = ""
    if cost.name == keys.MEMORY_TRAINING and memory and not memory.isolated:
        reason = "this process had trained before; a process for each training measures it"
    elif cost.name == keys.MEMORY_TRAINING and cost.value is not None and cost.value < 0:
        reason = "the process freed more than the training took; start one for each training"
    elif cost.name in (keys.MEMORY_BASELINE, keys.MEMORY_TRAINING) and cost.value is None:
        reason = "the model was built before; a script inside `fm_mlflow.track` measures it"
    return replace(cost, value=None, reason=reason) if reason else cost
