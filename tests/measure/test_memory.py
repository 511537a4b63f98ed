"""Memory by phase, against allocations of known size and the kernel's own accounting."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fm_mlflow import keys
from fm_mlflow.measure import measurement
from fm_mlflow.measure.frameworks import loaded_framework
from fm_mlflow.measure.measurement import Measurement
from fm_mlflow.measure.memory import MemoryMonitor, resident_mib
from fm_mlflow.measure.memory_system import (
    HighWater,
    LinuxHighWater,
    UsageHighWater,
    WindowsHighWater,
    high_water_of,
)
from fm_mlflow.measure.memory_timeline import PhaseMemory, Timeline
from fm_mlflow.report.plots import save_memory_timeline

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the mark can be reset on Linux")

PRELUDE = """
import json
from pathlib import Path
from fm_mlflow.measure.memory import MemoryMonitor
from fm_mlflow.measure.memory_system import HighWater, LinuxHighWater

def touched(mib):
    return bytearray(b"x") * (mib << 20)

def report(monitor):
    print(json.dumps({
        "phases": {phase.name: vars(phase) for phase in monitor.phases},
        "measurements": {m.name: vars(m) for m in monitor.measurements()},
    }))
"""


def in_new_process(code: str) -> dict[str, Any]:
    """Run code in a process that nothing has grown yet; return what it reported last."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def values(result: dict[str, Any]) -> dict[str, float]:
    return {name: each["value"] for name, each in result["measurements"].items()}


TRAINING_OF = """
with MemoryMonitor() as monitor:
    monitor.phase("model")
    monitor.phase("training")
    weights = touched({mib})
report(monitor)
"""


def test_500_mib_more_shows_500_mib_more() -> None:
    less, more = (values(in_new_process(TRAINING_OF.format(mib=mib))) for mib in (20, 520))
    for key in (keys.MEMORY_PEAK, keys.MEMORY_TRAINING):
        assert more[key] - less[key] == pytest.approx(500, rel=0.05)
    assert more[keys.MEMORY_TRAINING] == pytest.approx(520, rel=0.05)
    assert more[keys.MEMORY_BASELINE] == pytest.approx(less[keys.MEMORY_BASELINE], rel=0.05)


@linux_only
def test_phase_has_a_peak_of_its_own() -> None:
    # No sampler could have seen it: the first reading would be an hour later.
    phases = in_new_process("""
with MemoryMonitor(sample_seconds=3600) as monitor:
    monitor.phase("data")
    del_me = touched(300)
    del del_me
    monitor.phase("model")
    monitor.phase("training")
    del_me = touched(100)
    del del_me
    monitor.phase("evaluation")
report(monitor)
""")["phases"]
    assert list(phases) == ["data", "model", "training", "evaluation"]
    assert {phase["peak_source"] for phase in phases.values()} == {"kernel"}
    for name, mib in {"data": 300, "model": 0, "training": 100, "evaluation": 0}.items():
        above = phases[name]["peak_rss_mib"] - phases[name]["start_rss_mib"]
        assert above == pytest.approx(mib, rel=0.05, abs=5), name
        assert phases[name]["end_rss_mib"] - phases[name]["start_rss_mib"] < 10
        assert 0 < phases[name]["end_anonymous_mib"] < phases[name]["end_rss_mib"]


WITNESS = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
_, status, usage = os.wait4(child.pid, 0)
assert status == 0
print(usage.ru_maxrss / 1024)
"""


@linux_only
@pytest.mark.parametrize("clear_refs", ["/proc/self/clear_refs", "/proc/version"])
@pytest.mark.parametrize("data_mib", [0, 400])
def test_peak_is_what_the_parent_is_told(data_mib: int, clear_refs: str) -> None:
    """As `/usr/bin/time -v` is; also where the peak was before the last reset of the mark."""
    code = f"""
with MemoryMonitor(high_water=LinuxHighWater(clear_refs=Path({clear_refs!r}))) as monitor:
    monitor.phase("data")
    images = touched({data_mib})
    del images
    monitor.phase("model")
    monitor.phase("training")
    weights = touched(200)
report(monitor)
"""
    # By way of a small process: a child is charged with the memory of the one it was forked from.
    done = subprocess.run(
        [sys.executable, "-c", WITNESS, PRELUDE + code], capture_output=True, text=True, check=True
    )
    report, witness = done.stdout.splitlines()
    peak = json.loads(report)["measurements"][keys.MEMORY_PEAK]["value"]
    assert peak == pytest.approx(float(witness), rel=0.02)
    assert peak > max(data_mib, 200)


@linux_only
@pytest.mark.parametrize("file", ["/proc/version", "/nowhere/clear_refs", "a file like any other"])
def test_where_the_mark_cannot_be_reset_the_method_says_so(file: str, tmp_path: Path) -> None:
    if not file.startswith("/"):
        file = str(tmp_path / file)
    result = in_new_process(f"""
import time
with MemoryMonitor(high_water=LinuxHighWater(clear_refs=Path({file!r}))) as monitor:
    monitor.phase("data")
    images = touched(300)
    del images
    monitor.phase("model")
    monitor.phase("training")
    weights = touched(100)
    time.sleep(0.3)
    del weights
    monitor.phase("evaluation")
    predictions = touched(400)
report(monitor)
""")
    phases = result["phases"]
    assert phases["training"]["peak_source"] == "sampler"
    assert phases["training"]["peak_rss_mib"] - phases["training"]["start_rss_mib"] == (
        pytest.approx(100, rel=0.05)
    )
    # Above all that was before, the mark is the phase's own without a reset.
    assert phases["data"]["peak_source"] == phases["evaluation"]["peak_source"] == "kernel"
    training = result["measurements"][keys.MEMORY_TRAINING]
    assert "readings of RSS every 50 ms" in training["method"]
    assert "could not be reset" in training["method"]
    assert training["value"] == pytest.approx(100, rel=0.05)
    peak = result["measurements"][keys.MEMORY_PEAK]
    assert peak["method"].startswith("VmHWM")
    assert peak["value"] == pytest.approx(phases["data"]["peak_rss_mib"])


@pytest.mark.parametrize(
    "high_water", ["HighWater()", "LinuxHighWater(status=Path('/nowhere/status'))"]
)
def test_without_a_mark_the_sampler_stands_in_and_the_method_says_so(high_water: str) -> None:
    result = in_new_process(f"""
import time
with MemoryMonitor(sample_seconds=0.02, high_water={high_water}) as monitor:
    monitor.phase("model")
    monitor.phase("training")
    weights = touched(200)
    time.sleep(0.2)
    del weights
report(monitor)
""")
    for key in (keys.MEMORY_PEAK, keys.MEMORY_TRAINING):
        assert "readings of RSS every 20 ms" in result["measurements"][key]["method"]
    assert values(result)[keys.MEMORY_TRAINING] == pytest.approx(200, rel=0.05)
    assert result["phases"]["training"]["peak_source"] == "sampler"
    assert result["phases"]["training"]["end_anonymous_mib"] is None


@linux_only
def test_monitors_that_overlap_keep_each_others_peaks() -> None:
    result = in_new_process("""
with MemoryMonitor(sample_seconds=3600) as outer:
    outer.phase("all of it")
    images = touched(300)
    del images
    with MemoryMonitor(sample_seconds=3600) as inner:
        inner.phase("model")
        inner.phase("training")
        weights = touched(100)
print(json.dumps({
    "outer": outer.phases[0].peak_rss_mib,
    "training": inner.phases[1].peak_rss_mib,
    "inner": inner.measurements()[0].value,
}))
""")
    assert result["outer"] == pytest.approx(result["inner"])
    assert result["outer"] > 300
    assert result["training"] < 200


def test_second_training_in_a_process_is_not_isolated() -> None:
    result = in_new_process("""
seen = []
for _ in range(2):
    with MemoryMonitor() as monitor:
        monitor.phase("model")
        monitor.phase("first step")
        monitor.phase("training")
    seen.append([(m.method, m.details.get("isolated")) for m in monitor.measurements()[:3]])
print(json.dumps({"seen": seen}))
""")
    first, second = result["seen"]
    for method, isolated in first:
        assert "not isolated" not in method
        assert isolated in (True, None)
    for method, isolated in second:
        assert "not isolated" in method
        assert isolated in (False, None)
    assert first[0][1] is True
    assert second[0][1] is False


def test_after_a_training_that_nobody_measured_the_next_is_not_isolated() -> None:
    result = in_new_process("""
from fm_mlflow.measure.memory import note_training
note_training()
with MemoryMonitor() as monitor:
    monitor.phase("training")
print(json.dumps({"isolated": monitor.isolated}))
""")
    assert result["isolated"] is False


def test_phase_belongs_inside_the_monitor() -> None:
    monitor = MemoryMonitor()
    with pytest.raises(RuntimeError, match="inside `with"):
        monitor.phase("data")
    with monitor:
        monitor.phase("data")
    with pytest.raises(RuntimeError, match="inside `with"):
        monitor.phase("model")
    assert [phase.name for phase in monitor.phases] == ["data"]


def by_name(monitor: MemoryMonitor) -> dict[str, Measurement]:
    return {each.name: each for each in monitor.measurements()}


def test_measurements_are_complete() -> None:
    with MemoryMonitor() as monitor:
        for phase in ("libraries", "data", "model", "first step", "training", "evaluation"):
            monitor.phase(phase)
    found = by_name(monitor)
    assert list(found) == [
        keys.MEMORY_PEAK,
        keys.MEMORY_BASELINE,
        keys.MEMORY_TRAINING,
        keys.MEMORY_ALLOCATOR_PEAK,
        keys.MEMORY_DEVICE_PEAK,
    ]
    assert {each.unit for each in found.values()} == {"MiB"}
    peak = found[keys.MEMORY_PEAK]
    assert [phase["name"] for phase in peak.details["phases"]] == [
        phase.name for phase in monitor.phases
    ]
    assert (peak.value or 0) >= max(phase.peak_rss_mib for phase in monitor.phases[:-1])
    json.loads(measurement.to_json(found.values(), {}))


def test_what_lacks_its_phase_is_missing_and_says_so() -> None:
    with MemoryMonitor() as monitor:
        monitor.phase("reading")
    assert measurement.metrics(monitor.measurements()) == {}
    for each in monitor.measurements():
        assert "there was no phase" in (each.reason or "")


def test_phase_under_way_ends_with_an_error_and_the_sampler_stops() -> None:
    monitor = MemoryMonitor(sample_seconds=0.01)

    def fail() -> None:
        with monitor:
            monitor.phase("training")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [phase.name for phase in monitor.phases] == ["training"]
    assert "memory-monitor" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(RuntimeError, match="make a new one"):
        monitor.__enter__()


def test_timeline_is_well_formed(tmp_path: Path) -> None:
    with MemoryMonitor(sample_seconds=0.01) as monitor:
        monitor.phase("data")
        time.sleep(0.1)
        monitor.phase("training")
        time.sleep(0.1)
    path = tmp_path / "timeline.csv"
    monitor.write_timeline(path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["seconds", "rss_mib", "phase"]
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)
    assert list(dict.fromkeys(row["phase"] for row in rows)) == ["", "data", "training"]
    assert len(rows) > 8
    for row in rows:
        assert float(row["rss_mib"]) == pytest.approx(resident_mib(), rel=0.2)


def test_long_timeline_stays_bounded_and_keeps_its_peaks() -> None:
    timeline = Timeline(most_points=100)
    for index in range(5000):
        peak = 2**30 if index in (1234, 4321) else 2**20
        timeline.add(float(index), peak, "first" if index < 2500 else "second")
    points = timeline.points()
    assert 25 < len(points) <= 100
    assert [point.seconds for point in points] == sorted(point.seconds for point in points)
    peaks = [(point.seconds, point.phase) for point in points if point.rss_mib == 1024]
    assert peaks == [(1234, "first"), (4321, "second")]


def test_timeline_plot_is_an_image(tmp_path: Path) -> None:
    timeline = Timeline()
    timeline.add(0.0, 2**20, "")
    for points in (timeline.points(), [(0.0, 1.0, "data"), (1.0, 5.0, "training")]):
        save_memory_timeline(points, 7.0, "p$^$.py:build", tmp_path / "memory.png")
        assert (tmp_path / "memory.png").read_bytes().startswith(b"\x89PNG")
    timeline.write(tmp_path / "timeline.csv")
    assert (tmp_path / "timeline.csv").read_text().splitlines()[1] == "0.000,1.000,"


@pytest.mark.parametrize(
    ("platform", "kind"),
    [
        ("linux", LinuxHighWater),
        ("darwin", UsageHighWater),
        ("win32", WindowsHighWater),
        ("sunos5", HighWater),
    ],
)
def test_each_platform_has_its_mark(platform: str, kind: type[HighWater]) -> None:
    assert type(high_water_of(platform)) is kind


def test_neither_tensorflow_nor_mlflow_is_needed() -> None:
    result = in_new_process("""
import sys
with MemoryMonitor() as monitor:
    monitor.phase("training")
print(json.dumps({"loaded": sorted({"tensorflow", "keras", "mlflow"} & set(sys.modules))}))
""")
    assert result["loaded"] == []


def test_phases_are_plain_records() -> None:
    with MemoryMonitor() as monitor:
        monitor.phase("data")
    (phase,) = monitor.phases
    assert isinstance(phase, PhaseMemory)
    assert phase.seconds > 0
    assert phase.peak_rss_mib >= phase.end_rss_mib


def test_allocator_that_counted_nothing_is_no_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    # As oneDNN's does, on processors that it suits, when no tensor has 256 KiB.
    account = SimpleNamespace(
        get_memory_info=lambda _device: {"current": 0, "peak": 0},
        reset_memory_stats=lambda _device: None,
    )
    tensorflow = SimpleNamespace(config=SimpleNamespace(experimental=account))
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    with MemoryMonitor() as monitor:
        monitor.phase("training")
    host = by_name(monitor)[keys.MEMORY_ALLOCATOR_PEAK]
    assert (host.value, host.reason) == (None, "the allocator has counted nothing")
    assert "leaves out tensors under 256 KiB" in host.method


def test_allocator_is_read_where_tensorflow_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    assert loaded_framework().peaks() == {}
