"""Energy by counters: a made-up powercap tree and a made-up NVML stand for the hardware."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from fm_mlflow import keys
from fm_mlflow.measure import energy
from fm_mlflow.measure.energy import EnergyMonitor
from fm_mlflow.measure.energy_counters import (
    EnergyCounters,
    NotCountedError,
    NvmlGpus,
    RaplPackages,
    visible_gpus,
)
from fm_mlflow.measure.measurement import Measurement, metrics, to_json

RANGE = 262_143_328_850
"""Microjoules, as of a real package."""

ENERGY_KEYS = {str(key) for key in keys.all_keys() if key.startswith("energy/")}


class Powercap:
    """A folder as /sys/class/powercap, whose counters a test sets."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def zone(self, zone: str, name: str, joules: float, largest: int = RANGE) -> None:
        folder = self.root / zone
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "max_energy_range_uj").write_text(f"{largest}\n")
        self.set(zone, joules)

    def set(self, zone: str, joules: float) -> None:
        (self.root / zone / "energy_uj").write_text(f"{round(joules * 1e6)}\n")


@pytest.fixture
def powercap(tmp_path: Path) -> Powercap:
    """Two sockets, with what must not be added to them: core, dram, psys, the same by MMIO."""
    made = Powercap(tmp_path / "powercap")
    for zone, name in {
        "intel-rapl": "",
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
        "intel-rapl:1": "package-1",
        "intel-rapl:1:0": "core",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
        "dtpm": "",
    }.items():
        made.zone(zone, name, 1000)
    return made


class Clock:
    """Stands for the module `time`: each look at it takes 0.1 ms, and sleeping takes none."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        self.now += 0.0001
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(energy, "time", made)
    return made


class Ticking(EnergyCounters):
    """Counters that give so many joules a second, in steps of so many seconds."""

    source = "made-up counters"

    def __init__(
        self, clock: Clock, watts: float, step: float = 0.001, names: Sequence[str] = ("one",)
    ) -> None:
        self.clock, self.watts, self.step, self.names = clock, watts, step, names
        self.broken = self.closed = False

    def open(self) -> None:
        self.closed = False

    def read(self) -> dict[str, float]:
        if self.broken:
            raise OSError("No data available")
        joules = self.clock.now // self.step * self.step * self.watts
        return dict.fromkeys(self.names, joules)

    def close(self) -> None:
        self.closed = True


class Absent(EnergyCounters):
    source = "no counters"

    def open(self) -> None:
        raise NotCountedError("there are none")

    def read(self) -> dict[str, float]:
        raise AssertionError("nothing to read")

    def close(self) -> None:
        pass


def by_name(found: Sequence[Measurement]) -> dict[str, Measurement]:
    return {each.name: each for each in found}


def trained(monitor: EnergyMonitor, clock: Clock) -> dict[str, Measurement]:
    """Go through the phases of a training, 0.1 s each, and read its figures."""
    with monitor:
        for phase in ("data and libraries", "first step", "training", "evaluation"):
            monitor.phase(phase)
            clock.sleep(0.1)
        return by_name(monitor.training())


def test_packages_are_added_up_and_nothing_is_counted_twice(powercap: Powercap) -> None:
    counters = RaplPackages(powercap.root)
    counters.open()
    before = counters.read()
    for zone in ("intel-rapl:0:0", "intel-rapl:0:1", "intel-rapl:2", "intel-rapl-mmio:0"):
        powercap.set(zone, 5000)
    assert counters.read() == before
    powercap.set("intel-rapl:0", 1010)
    powercap.set("intel-rapl:1", 1032.5)
    after = counters.read()
    assert {name: after[name] - before[name] for name in after} == {
        "package-0": pytest.approx(10),
        "package-1": pytest.approx(32.5),
    }


def test_dies_of_a_socket_are_packages(tmp_path: Path) -> None:
    made = Powercap(tmp_path)
    made.zone("intel-rapl:0", "package-0-die-0", 1)
    made.zone("intel-rapl:10", "package-0-die-1", 1)
    counters = RaplPackages(tmp_path)
    counters.open()
    assert set(counters.read()) == {"package-0-die-0", "package-0-die-1"}


def test_a_counter_that_began_again_at_0_goes_on(powercap: Powercap) -> None:
    end = RANGE / 1e6
    powercap.set("intel-rapl:0", end - 30)
    counters = RaplPackages(powercap.root)
    counters.open()
    for joules in (end - 10, 5, end - 1, 2):  # 20 more, 15 more; round again but 6; 3 more
        powercap.set("intel-rapl:0", joules)
        found = counters.read()["package-0"]
    assert found == pytest.approx(20 + 15 + end - 6 + 3)


def test_a_counter_that_may_have_begun_again_twice_gives_no_figure(tmp_path: Path) -> None:
    made = Powercap(tmp_path)
    made.zone("intel-rapl:0", "package-0", 0.0001, largest=1000)  # lasts 0.5 microseconds
    counters = RaplPackages(tmp_path)
    counters.open()
    time.sleep(0.001)
    with pytest.raises(NotCountedError, match="may have begun again more than once"):
        counters.read()


def unreadable(folder: Path) -> None:
    (folder / "energy_uj").unlink()


def no_name(folder: Path) -> None:
    (folder / "name").unlink()  # as where a container hides what the link leads to


def no_number(folder: Path) -> None:
    (folder / "energy_uj").write_text("-1\n")


def no_file(folder: Path) -> None:
    unreadable(folder)
    (folder / "energy_uj").mkdir()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (unreadable, r"intel-rapl:1/energy_uj cannot be read: No such file"),
        (no_name, r"intel-rapl:1/name cannot be read: No such file"),
        (no_number, r"intel-rapl:1/energy_uj holds no number"),
        (no_file, r"intel-rapl:1/energy_uj cannot be read: not a regular file"),
    ],
)
def test_one_socket_that_cannot_be_read_leaves_no_figure(
    powercap: Powercap, damage: Callable[[Path], None], reason: str
) -> None:
    damage(powercap.root / "intel-rapl:1")
    with pytest.raises(NotCountedError, match=reason):
        RaplPackages(powercap.root).open()


def test_what_root_alone_may_read_says_who_can_allow_it(
    powercap: Powercap, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    def refused(path: Path) -> Any:  # tests may run as root, whom no mode of a file stops
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return path.open("rb")

    monkeypatch.setattr("fm_mlflow.measure.energy_counters.open_regular", refused)
    found = trained(EnergyMonitor(RaplPackages(powercap.root), Absent()), clock)
    reason = found[keys.ENERGY_TRAINING].reason or ""
    assert "intel-rapl:0/energy_uj may not be read by this user; root can allow it" in reason
    assert "docs/energy.md" in reason


def test_a_machine_without_counters_says_so_for_each_figure(tmp_path: Path) -> None:
    predictions: list[int] = []
    with EnergyMonitor(RaplPackages(tmp_path / "none"), NvmlGpus()) as monitor:
        monitor.phase("training")
        found = by_name(monitor.training() + monitor.inference(lambda: predictions.append(1), 1))
    assert set(found) == ENERGY_KEYS
    assert metrics(found.values()) == {}
    assert "no RAPL counters in" in (found[keys.ENERGY_TRAINING].reason or "")
    assert found[keys.ENERGY_INFERENCE].reason == found[keys.ENERGY_TRAINING].reason
    assert all(each.reason and each.samples == 0 for each in found.values())
    assert not predictions  # which would take a second for nothing


def test_only_platform_counters_are_no_figure(tmp_path: Path) -> None:
    Powercap(tmp_path).zone("intel-rapl:0", "psys", 1)
    with pytest.raises(NotCountedError, match="none is a processor package's"):
        RaplPackages(tmp_path).open()


def test_the_training_is_its_phases_and_no_other(clock: Clock) -> None:
    found = trained(
        EnergyMonitor(Ticking(clock, 100), Ticking(clock, 40, names=("GPU 0", "GPU 1"))), clock
    )
    packages, gpus = found[keys.ENERGY_TRAINING], found[keys.ENERGY_GPU_TRAINING]
    seconds = packages.details["seconds"]
    assert seconds == pytest.approx(0.2, abs=0.01)  # of four phases of 0.1 s, two
    assert packages.value == pytest.approx(100 * seconds, rel=0.01)
    assert gpus.value == pytest.approx(2 * 40 * seconds, rel=0.01)
    assert packages.unit == "J"
    assert packages.details["joules"] == {"one": packages.value}
    assert packages.details["resolution_seconds"] == pytest.approx(0.001, rel=0.2)
    assert "all that one drew, idle power included" in packages.method
    assert "GPU 0, GPU 1" in gpus.method
    to_json(list(found.values()), {})


def test_fits_in_turn_are_added_up(clock: Clock) -> None:
    monitor = EnergyMonitor(Ticking(clock, 100), Absent())
    with monitor:
        for phase in ("training", "after the fit", "training", "after the fit"):
            monitor.phase(phase)
            clock.sleep(0.05)
        found = by_name(monitor.training())[keys.ENERGY_TRAINING]
    assert found.details["seconds"] == pytest.approx(0.1, abs=0.01)
    assert found.value == pytest.approx(100 * found.details["seconds"], rel=0.01)


def test_a_training_that_has_not_ended_has_no_figure(clock: Clock) -> None:
    with EnergyMonitor(Ticking(clock, 100), Absent()) as monitor:
        monitor.phase("training")
        found = by_name(monitor.training())
    assert found[keys.ENERGY_TRAINING].reason == "there was no phase of training, or it runs still"
    assert found[keys.ENERGY_GPU_TRAINING].reason == "there are none"


def test_a_training_too_short_for_its_counter_has_no_figure(clock: Clock) -> None:
    found = trained(EnergyMonitor(Ticking(clock, 100, step=0.05), Absent()), clock)[
        keys.ENERGY_TRAINING
    ]
    assert found.value is None
    assert "too short for a counter that moves every" in (found.reason or "")


def test_a_counter_that_stands_still_is_not_0_joules(clock: Clock) -> None:
    found = trained(EnergyMonitor(Ticking(clock, 0), Absent()), clock)[keys.ENERGY_TRAINING]
    assert found.value is None
    assert found.reason == "the counter of one did not move twice in 1 s"


def test_a_counter_that_stands_still_later_is_not_0_joules(clock: Clock) -> None:
    counters = Ticking(clock, 100)
    with EnergyMonitor(counters, Absent()) as monitor:
        counters.watts = 0
        for phase in ("training", "evaluation"):
            monitor.phase(phase)
        found = by_name(monitor.training())[keys.ENERGY_TRAINING]
    assert found.value is None
    assert "the counter of one did not move in" in (found.reason or "")


def test_a_counter_that_fails_under_way_fails_no_training(clock: Clock) -> None:
    counters = Ticking(clock, 100)
    monitor = EnergyMonitor(counters, Ticking(clock, 50))
    with monitor:
        monitor.phase("training")
        clock.sleep(0.1)
        counters.broken = True
        monitor.phase("evaluation")
        counters.broken = False  # what it counted meanwhile is not known
        found = by_name(monitor.training())
    assert found[keys.ENERGY_TRAINING].value is None
    assert "OSError: No data available" in (found[keys.ENERGY_TRAINING].reason or "")
    assert found[keys.ENERGY_GPU_TRAINING].value is not None
    assert counters.closed


def test_counters_are_read_between_the_borders_too(
    powercap: Powercap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "_SECONDS_BETWEEN_READINGS", 0.001)
    monkeypatch.setattr(energy, "_resolution", lambda _: 0.0)
    read: list[float] = []

    class Watched(RaplPackages):
        def read(self) -> dict[str, float]:
            read.append(time.perf_counter())
            return super().read()

    with EnergyMonitor(Watched(powercap.root), Absent()) as monitor:
        monitor.phase("training")
        before, end = len(read), time.perf_counter() + 10
        while len(read) < before + 3 and time.perf_counter() < end:
            time.sleep(0.001)
    assert len(read) >= before + 3


def test_predictions_last_as_long_as_the_counter_needs(clock: Clock) -> None:
    with EnergyMonitor(Ticking(clock, 100, step=0.05), Absent()) as monitor:
        found = by_name(monitor.inference(lambda: clock.sleep(0.002), 50))
    each = found[keys.ENERGY_INFERENCE]
    calls, seconds = each.details["calls"], each.details["seconds"]
    assert seconds >= 2 * each.details["resolution_seconds"] / 0.05
    assert each.details["examples"] == 50
    assert each.value == pytest.approx(100 * seconds / (calls * 50) * 1000, rel=0.01)
    assert f"{calls} calls on 50 examples each" in each.method
    assert found[keys.ENERGY_GPU_INFERENCE].reason == "there are none"


def test_a_failing_prediction_is_the_callers_to_see(clock: Clock) -> None:
    def fail() -> None:
        raise ArithmeticError("no output today")

    with EnergyMonitor(Ticking(clock, 100), Absent()) as monitor, pytest.raises(ArithmeticError):
        monitor.inference(fail, 1)


def test_the_share_of_other_processes_is_told(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    # Over the phase: 3 s of this process and its children, 8 s busy and 40 s in all.
    seconds = itertools.chain([(1.0, 2.0, 10.0)], itertools.repeat((4.0, 10.0, 50.0)))
    monkeypatch.setattr(energy, "_cpu_seconds", lambda: next(seconds))
    with EnergyMonitor(Ticking(clock, 100), Absent()) as monitor:
        monitor.phase("training")
        clock.sleep(0.1)
        monitor.phase("evaluation")
        found = by_name(monitor.training())[keys.ENERGY_TRAINING]
    assert found.details["cpu_share_of_other_processes"] == pytest.approx(5 / 40)
    assert found.method.endswith("other processes used 12.5% of the machine's CPU time meanwhile")


def test_cpu_seconds_are_this_process_and_the_machine(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    own, busy, everything = energy._cpu_seconds()
    times = psutil.cpu_times()
    assert 0 < own <= busy < everything
    assert busy == pytest.approx(everything - times.idle - getattr(times, "iowait", 0), rel=0.01)

    def hidden() -> None:
        raise PermissionError(13, "Permission denied", "/proc/stat")

    monkeypatch.setattr(psutil, "cpu_times", hidden)
    found = trained(EnergyMonitor(Ticking(clock, 100), Absent()), clock)[keys.ENERGY_TRAINING]
    assert found.value is not None
    assert found.details["cpu_share_of_other_processes"] is None
    assert "how busy other processes were is not known" in found.method


class Nvml(ModuleType):
    """Stands for pynvml at its boundary; two GPUs, each of which draws as a test says."""

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.millijoules = {"a": 5000, "b": 7000}
        self.error: Exception | None = None
        self.open = 0

    def nvmlInit(self) -> None:  # noqa: N802 - pynvml's own name; so are the others
        if self.error:
            raise self.error
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.millijoules)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        return list(self.millijoules)[index]

    def nvmlDeviceGetUUID(self, handle: str) -> str:  # noqa: N802
        return f"GPU-{handle}1b2"

    def nvmlDeviceGetName(self, handle: str) -> str:  # noqa: N802
        return "NVIDIA Test"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        return self.millijoules[handle]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nvml]:
    made = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", made)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield made
    assert made.open == 0


def test_gpus_that_the_process_may_use_in_joules(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = NvmlGpus()
    gpus.open()
    assert gpus.read() == {"GPU 0": 5.0, "GPU 1": 7.0}
    gpus.close()
    gpus.close()
    with pytest.raises(NotCountedError, match="closed"):
        gpus.read()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    gpus.open()
    nvml.millijoules["b"] += 1500
    assert gpus.read() == {"GPU 1": 8.5}
    gpus.close()


def test_a_driver_that_fails_is_a_reason(nvml: Nvml) -> None:
    nvml.error = nvml.NVMLError("Driver/library version mismatch")
    with EnergyMonitor(Absent(), NvmlGpus()) as monitor:
        found = by_name(monitor.training())[keys.ENERGY_GPU_TRAINING]
    assert found.value is None
    assert found.reason == (
        "reading the counters failed: NVMLError: Driver/library version mismatch"
    )


def test_the_package_of_nvml_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NotCountedError, match="nvidia-ml-py is not installed"):
        NvmlGpus().open()


UUIDS = ["GPU-aaa1", "GPU-abb2", "GPU-ccc3"]


@pytest.mark.parametrize(
    ("visible", "alike", "order", "expected"),
    [
        (None, False, "", [0, 1, 2]),
        ("2,0", True, "", [2, 0]),
        ("2, 0", False, "PCI_BUS_ID", [2, 0]),
        ("GPU-abb", False, "", [1]),
        ("0,-1,1", True, "", [0]),
        ("0,7,1", True, "", [0]),
        ("2,0", False, "", "set CUDA_DEVICE_ORDER=PCI_BUS_ID"),
        ("", True, "", "no GPU that NVML counts is visible"),
        ("-1", True, "", "no GPU that NVML counts is visible"),
        ("MIG-1234", True, "", "no GPU that NVML counts is visible"),
    ],
)
def test_which_gpus_cuda_shows(
    visible: str | None,
    alike: bool,
    order: str,
    expected: list[int] | str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("CUDA_VISIBLE_DEVICES", visible), ("CUDA_DEVICE_ORDER", order)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    if isinstance(expected, str):
        with pytest.raises(NotCountedError, match=expected):
            visible_gpus(UUIDS, alike=alike)
    else:
        assert visible_gpus(UUIDS, alike=alike) == expected
