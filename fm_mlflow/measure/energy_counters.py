"""The hardware's own counters of energy: RAPL of the processor packages, NVML of the GPUs."""

from __future__ import annotations

import os
import re
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from typing_extensions import override

from fm_mlflow.process.regular_file import open_regular

_POWERCAP = Path("/sys/class/powercap")
_ZONE = re.compile(r"intel-rapl:\d+")
"""A domain at the top. Core and dram are below it, and another interface (intel-rapl-mmio) gives
the same counter again."""

_PACKAGE = re.compile(r"package-\d+(-die-\d+)?")
"""The name of a socket, or of a die of one. Psys, the whole platform, is at the top as well."""

_LONGEST_FILE = 64
_MICRO, _MILLI = 1e-6, 1e-3

_MOST_WATTS = 2000
"""More than a socket can draw: as long as its counter's range lasts at this, it cannot wrap twice.
The smallest range, 65,536 J, lasts 33 s."""


class NotCountedError(Exception):
    """There is no figure; says why."""


class EnergyCounters(ABC):
    """Counters of one kind, which are read together.

    Attributes:
        source: What they are, for the method of a measurement.
    """

    source: ClassVar[str]

    @abstractmethod
    def open(self) -> None:
        """Find the counters.

        Raises:
            NotCountedError: There are none, or one of them cannot be read.
            Exception: A driver's library failed in its own way; from `read` as well.
        """

    @abstractmethod
    def read(self) -> dict[str, float]:
        """Return the joules of each domain since some moment before the first reading.

        Raises:
            NotCountedError: A counter cannot be read.
        """

    @abstractmethod
    def close(self) -> None:
        """Release what `open` took; may be called without it, and twice."""


@dataclass
class _Zone:
    """A counter that begins again at 0 after its range; all in microjoules."""

    path: Path
    range: int
    last: int
    read_at: float
    total: int = 0

    def read(self) -> float:
        now, counter = _clock(), _whole_number(self.path)
        unread = now - self.read_at
        if unread > self.range * _MICRO / _MOST_WATTS:
            raise NotCountedError(
                f"{self.path} was not read for {unread:.0f} s, and may have begun again more than "
                "once meanwhile: the process or the machine was suspended"
            )
        wrapped = self.range if counter < self.last else 0
        self.total += counter + wrapped - self.last
        self.last, self.read_at = counter, now
        return self.total * _MICRO


class RaplPackages(EnergyCounters):
    """RAPL counters of all processor packages, as Linux's powercap shows them.

    Each has to be read again before its range is used up, which takes half a minute at least.

    Args:
        root: Folder of the powercap zones.
    """

    source = "RAPL counters (powercap)"

    def __init__(self, root: Path = _POWERCAP) -> None:
        self._root = root
        self._zones: dict[str, _Zone] = {}

    @override
    def open(self) -> None:
        zones = sorted(zone for zone in self._root.glob("*") if _ZONE.fullmatch(zone.name))
        if not zones:
            raise NotCountedError(
                f"no RAPL counters in {self._root}: not Linux, a virtual machine, or a processor "
                "or a kernel without them"
            )
        named = {_text(zone / "name"): zone for zone in zones}
        packages = {name: zone for name, zone in named.items() if _PACKAGE.fullmatch(name)}
        if not packages:
            raise NotCountedError(f"of the counters in {self._root}, none is a processor package's")
        for name, zone in packages.items():
            path, largest = zone / "energy_uj", _whole_number(zone / "max_energy_range_uj")
            self._zones[name] = _Zone(path, largest, _whole_number(path), _clock())

    @override
    def read(self) -> dict[str, float]:
        return {name: zone.read() for name, zone in self._zones.items()}

    @override
    def close(self) -> None:
        self._zones.clear()


class NvmlGpus(EnergyCounters):
    """NVML's counters of the GPUs that this process may use, each of a whole board."""

    source = "NVML's energy counters"

    def __init__(self) -> None:
        self._nvml: ModuleType | None = None
        self._gpus: dict[str, Any] = {}

    @override
    def open(self) -> None:
        try:
            import pynvml
        except ImportError as error:
            reason = "the package nvidia-ml-py is not installed (fm_mlflow's extra nvml)"
            raise NotCountedError(reason) from error
        pynvml.nvmlInit()
        self._nvml = pynvml
        count = pynvml.nvmlDeviceGetCount()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        uuids = [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
        models = {pynvml.nvmlDeviceGetName(handle) for handle in handles}
        visible = visible_gpus(uuids, alike=len(models) == 1)
        self._gpus = {f"GPU {index}": handles[index] for index in visible}

    @override
    def read(self) -> dict[str, float]:
        nvml = self._nvml
        if nvml is None:
            raise NotCountedError("NVML is closed")
        return {
            name: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) * _MILLI
            for name, handle in self._gpus.items()
        }

    @override
    def close(self) -> None:
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            with suppress(nvml.NVMLError):  # the driver is gone: nothing is left to release
                nvml.nvmlShutdown()


def visible_gpus(uuids: list[str], *, alike: bool) -> list[int]:
    """Return which of NVML's GPUs CUDA shows this process, by CUDA_VISIBLE_DEVICES.

    Args:
        uuids: Of NVML's GPUs, in its order, which is that of the PCI bus.
        alike: Whether they are of one model. If not, CUDA counts the fastest first.

    Raises:
        NotCountedError: None is visible, or which ones are is not known.
    """
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked is None:
        visible = list(range(len(uuids)))
    else:
        visible = []
        tokens = [token.strip() for token in asked.split(",")]
        by_bus = alike or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
        if not by_bus and any(map(str.isdecimal, tokens)):
            raise NotCountedError(
                "which GPUs CUDA_VISIBLE_DEVICES means is not known, because they are of several "
                "models: set CUDA_DEVICE_ORDER=PCI_BUS_ID"
            )
        for token in filter(None, tokens):
            found = [n for n, uuid in enumerate(uuids) if uuid.startswith(token) or token == str(n)]
            if not found:
                break  # as in CUDA: what follows a device that does not exist is not visible
            visible += found
    if not visible:
        raise NotCountedError("no GPU that NVML counts is visible to this process")
    return visible


def _clock() -> float:
    """Return seconds; on Linux those too in which the machine was suspended."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


def _whole_number(path: Path) -> int:
    text = _text(path)
    if not (text.isascii() and text.isdigit()):
        raise NotCountedError(f"{path} holds no number")
    return int(text)


def _text(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return file.read(_LONGEST_FILE).decode("ascii", "replace").strip()
    except PermissionError as error:
        raise NotCountedError(
            f"{path} may not be read by this user; root can allow it, as docs/energy.md says"
        ) from error
    except OSError as error:  # a container may hide what the link leads to
        raise NotCountedError(f"{path} cannot be read: {error.strerror}") from error
