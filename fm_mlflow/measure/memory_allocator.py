"""TensorFlow's own account of the memory that it hands out, where it keeps one."""

from __future__ import annotations

import sys
from typing import Any

HOST, DEVICE = "CPU:0", "GPU:0"
DEVICES = (HOST, DEVICE)
HOST_STATISTICS = (
    "in chunks, which may be larger than what they hold; oneDNN's allocator leaves out tensors "
    "under 256 KiB"
)


def reset_allocator_peaks() -> None:
    """Start the peaks anew on each device that keeps one.

    Call it only once a model is built: it initialises TensorFlow, and some of its settings can no
    longer be changed then. Does nothing where TensorFlow has not been imported.
    """
    for device in allocator_peaks():
        _memory_functions().reset_memory_stats(device)


def allocator_peaks() -> dict[str, int]:
    """Return the peak in bytes of each device whose allocator keeps statistics, by its name.

    TensorFlow's GPU allocator does; of its CPU allocators oneDNN's, and the one that
    TF_CPU_ALLOCATOR_USE_BFC chooses. Empty where TensorFlow has not been imported.
    """
    memory = _memory_functions()
    peaks: dict[str, int] = {}
    if memory is None:
        return peaks
    for device in DEVICES:
        try:
            peaks[device] = int(memory.get_memory_info(device)["peak"])
        except ValueError:  # TensorFlow: no such device, or no statistics there
            continue
    return peaks


def _memory_functions() -> Any:
    """Return tf.config.experimental, without importing what nobody has asked for."""
    tensorflow = sys.modules.get("tensorflow")
    config = getattr(getattr(tensorflow, "config", None), "experimental", None)
    complete = hasattr(config, "get_memory_info") and hasattr(config, "reset_memory_stats")
    return config if complete else None
