"""What frameworks say of devices that this machine lacks, by stand-ins for them."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from fm_mlflow import keys
from fm_mlflow.measure.frameworks import DEVICE, Jax, TensorFlow, Torch, loaded_framework
from fm_mlflow.measure.machine import describe_machine
from fm_mlflow.measure.measurement import MIB
from fm_mlflow.measure.memory import MemoryMonitor


@pytest.fixture
def keras_on(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stand-ins for Keras and its backend, both loaded."""

    def load(backend: str, framework: Any) -> None:
        keras = SimpleNamespace(backend=SimpleNamespace(backend=lambda: backend))
        monkeypatch.setitem(sys.modules, "keras", keras)
        monkeypatch.setitem(sys.modules, backend, framework)

    return load


def fake_jax(*devices: Any) -> Any:
    return SimpleNamespace(local_devices=lambda: list(devices))


class Gpu:
    """A device of JAX's."""

    platform, device_kind = "gpu", "Fast"

    def __init__(self, **statistics: int) -> None:
        self.statistics = statistics

    def memory_stats(self) -> dict[str, int]:
        return self.statistics


class Cuda:
    """PyTorch's, of a device that holds 7 MiB and held 9."""

    def __init__(self, *, is_used: bool = True) -> None:
        self.is_used, self.peak = is_used, 9 * MIB

    def is_initialized(self) -> bool:
        return self.is_used

    def device_count(self) -> int:
        return 1

    def get_device_name(self, number: int) -> str:
        return f"Fast {number}"

    def max_memory_allocated(self, device: int) -> int:
        return self.peak + device

    def reset_peak_memory_stats(self, device: int) -> None:
        self.peak = 7 * MIB + device


def device_peak() -> Any:
    with MemoryMonitor() as monitor:
        monitor.phase("training")
    (found,) = (m for m in monitor.measurements() if m.name == keys.MEMORY_DEVICE_PEAK)
    return found


def test_jax_tells_the_peak_of_its_gpu(keras_on: Any) -> None:
    keras_on("jax", fake_jax(Gpu(peak_bytes_in_use=9 * MIB)))
    found = device_peak()
    assert found.value == 9
    assert "JAX's allocator for GPU:0 (memory_stats), from the start of the process" in found.method
    assert describe_machine().gpus == ("Fast",)


@pytest.mark.parametrize("device", [Gpu(), SimpleNamespace(platform="cpu")])
def test_jax_device_without_statistics_is_missing(keras_on: Any, device: Any) -> None:
    keras_on("jax", fake_jax(device))
    found = device_peak()
    assert found.value is None
    assert found.reason == "JAX has no GPU:0 here or its allocator keeps no statistics"
    assert describe_machine().facts()["threads"] == "not told by JAX"


def test_pytorch_tells_the_peak_of_the_training(keras_on: Any) -> None:
    torch = SimpleNamespace(
        cuda=Cuda(), get_num_threads=lambda: 3, get_num_interop_threads=lambda: 2
    )
    keras_on("torch", torch)
    assert Torch().peaks() == {DEVICE: 9 * MIB}
    found = device_peak()
    assert found.value == 7
    assert "PyTorch's allocator for GPU:0 (cuda.max_memory_allocated)" in found.method
    machine = describe_machine()
    assert machine.gpus == ("Fast 0",)
    assert machine.facts()["gpus"] == "1 x Fast 0"
    assert machine.facts()["threads"] == "3 within, 2 between"


def test_a_machine_is_told_by_its_gpus(keras_on: Any) -> None:
    keras_on("jax", fake_jax(Gpu(), Gpu(), SimpleNamespace(platform="cpu")))
    assert describe_machine().facts()["gpus"] == "2 x Fast"
    keras_on("jax", fake_jax(SimpleNamespace(platform="cpu")))
    assert "gpus" not in describe_machine().facts()


def test_a_gpu_that_nothing_uses_is_not_initialised(keras_on: Any) -> None:
    keras_on("torch", SimpleNamespace(cuda=Cuda(is_used=False)))
    assert device_peak().value is None


def test_the_framework_is_keras_backend(keras_on: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    keras_on("jax", fake_jax())
    assert type(loaded_framework()) is Jax
    monkeypatch.delitem(sys.modules, "keras")
    assert type(loaded_framework()) is TensorFlow
