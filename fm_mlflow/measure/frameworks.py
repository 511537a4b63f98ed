"""What TensorFlow, JAX or PyTorch say of this machine and of the memory that they hold.

None of them is imported here: they are asked only where something else has loaded them. Asking
initialises them, and some of their settings can no longer be changed then.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

from typing_extensions import override

HOST, DEVICE = "CPU:0", "GPU:0"


class Framework:
    """What Keras computes with.

    Attributes:
        title: What it is called.
        package: What it is imported as, and distributed as.
        peak_source: Where the peaks of its allocators come from, for the method of a measurement;
            with a place for the device.
        host_statistics: What is to be known of the statistics of the host, if it keeps any.
    """

    title: str
    package: str
    peak_source: str
    host_statistics: str = ""

    @property
    def module(self) -> Any:
        """The framework where it is loaded, else None."""
        return sys.modules.get(self.package)

    def threads(self) -> tuple[int, int] | None:
        """Return the threads within an operation and between operations; None if it tells none."""
        return None

    def gpus(self) -> tuple[str, ...]:
        """Return the model of each GPU that it sees; it must be loaded."""
        raise NotImplementedError

    def peaks(self) -> dict[str, int]:
        """Return the peak in bytes of each device whose allocator keeps statistics, by its name."""
        raise NotImplementedError

    def reset_peaks(self) -> None:
        """Start the peaks anew on each device that keeps one, where they can be."""


class TensorFlow(Framework):
    """TensorFlow; 0 threads let it choose.

    Its GPU allocator keeps statistics; of its CPU allocators oneDNN's, and the one that
    TF_CPU_ALLOCATOR_USE_BFC chooses.
    """

    title, package = "TensorFlow", "tensorflow"
    peak_source = "peak of TensorFlow's allocator for {} (get_memory_info) in training"
    host_statistics = (
        "in chunks, which may be larger than what they hold; oneDNN's allocator leaves out tensors "
        "under 256 KiB"
    )

    @override
    def threads(self) -> tuple[int, int]:
        threading = self.module.config.threading
        return (
            threading.get_intra_op_parallelism_threads(),
            threading.get_inter_op_parallelism_threads(),
        )

    @override
    def gpus(self) -> tuple[str, ...]:
        config = self.module.config
        return tuple(
            config.experimental.get_device_details(device).get("device_name", device.name)
            for device in config.list_physical_devices("GPU")
        )

    @override
    def peaks(self) -> dict[str, int]:
        memory, peaks = self._memory(), {}
        for device in (HOST, DEVICE) if memory else ():
            with suppress(ValueError):  # no such device, or no statistics there
                peaks[device] = int(memory.get_memory_info(device)["peak"])
        return peaks

    @override
    def reset_peaks(self) -> None:
        for device in self.peaks():
            self._memory().reset_memory_stats(device)

    def _memory(self) -> Any:
        config = getattr(getattr(self.module, "config", None), "experimental", None)
        complete = hasattr(config, "get_memory_info") and hasattr(config, "reset_memory_stats")
        return config if complete else None


class Jax(Framework):
    """JAX; it does not tell its threads, and its peaks cannot be reset."""

    title, package = "JAX", "jax"
    peak_source = (
        "peak of JAX's allocator for {} (memory_stats), from the start of the process to the end "
        "of training"
    )

    @override
    def gpus(self) -> tuple[str, ...]:
        return tuple(str(device.device_kind) for device in self._gpus())

    @override
    def peaks(self) -> dict[str, int]:
        # Of the host JAX keeps no statistics.
        gpus = self._gpus()
        peak = (gpus[0].memory_stats() or {}).get("peak_bytes_in_use") if gpus else None
        return {} if peak is None else {DEVICE: int(peak)}

    def _gpus(self) -> list[Any]:
        devices = self.module.local_devices() if self.module else []
        return [device for device in devices if device.platform == "gpu"]


class Torch(Framework):
    """PyTorch, with CUDA or ROCm."""

    title, package = "PyTorch", "torch"
    peak_source = "peak of PyTorch's allocator for {} (cuda.max_memory_allocated) in training"

    @override
    def threads(self) -> tuple[int, int]:
        return self.module.get_num_threads(), self.module.get_num_interop_threads()

    @override
    def gpus(self) -> tuple[str, ...]:
        cuda = self.module.cuda
        return tuple(cuda.get_device_name(number) for number in range(cuda.device_count()))

    @override
    def peaks(self) -> dict[str, int]:
        # Of the host PyTorch keeps no statistics.
        in_use = self.module and self.module.cuda.is_initialized()
        return {DEVICE: int(self.module.cuda.max_memory_allocated(0))} if in_use else {}

    @override
    def reset_peaks(self) -> None:
        if self.peaks():
            self.module.cuda.reset_peak_memory_stats(0)


def loaded_framework() -> Framework:
    """Return what Keras computes with; TensorFlow where Keras is not loaded."""
    named = getattr(getattr(sys.modules.get("keras"), "backend", None), "backend", None)
    backend = named() if named else TensorFlow.package
    found = next((each for each in (Jax, Torch) if each.package == backend), TensorFlow)
    return found()
