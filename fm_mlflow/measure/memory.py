"""How much memory a process holds, phase by phase; needs neither TensorFlow nor MLflow.

Peaks are the kernel's own, not a sampler's: a sampler misses what is freed between two readings.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from fm_mlflow import keys
from fm_mlflow.keys import Key
from fm_mlflow.measure.frameworks import DEVICE, HOST, loaded_framework
from fm_mlflow.measure.measurement import MIB, Measurement
from fm_mlflow.measure.memory_system import HighWater, high_water_of, resident_bytes
from fm_mlflow.measure.memory_timeline import KERNEL, PhaseMemory, Point, Timeline

LOADING: Final = "data and libraries"
MODEL: Final = "model"
FIRST_STEP: Final = "first step"
TRAINING: Final = "training"
EVALUATION: Final = "evaluation"
AFTER_FIT: Final = "after the fit"

_TRAINING_PHASES = (FIRST_STEP, TRAINING)


def resident_mib() -> float:
    """Return the resident memory of this process now, in MiB: `memory/rss_mib`."""
    return resident_bytes() / MIB


class _Process:
    """What all monitors of this process share, because the kernel's mark is one."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.open: list[MemoryMonitor] = []
        self.peak = 0
        self.trainings = 0


_process = _Process()


def note_training() -> None:
    """Tell later monitors of a training that none measures: what it leaves is in their baseline."""
    with _process.lock:
        _process.trainings += 1


class MemoryMonitor:
    """Measures the resident memory of this process, phase by phase, on any code.

    Figures come from the kernel at the borders of the phases. A thread reads the resident memory
    every `sample_seconds`; it draws the timeline and stands in for the kernel's mark only where
    there is none or it cannot be reset, and then the method says so.

    Monitors may be nested or overlap: they share the kernel's mark and tell each other before one
    resets it. Other code that resets it is not noticed.

    Args:
        sample_seconds: Between two points of the timeline.
        high_water: The system's high-water mark; by default this platform's.

    Examples:
        >>> with MemoryMonitor() as monitor:
        ...     monitor.phase("data")
        ...     images = load()
        ...     monitor.phase("training")
        ...     fit(images)
        >>> [(phase.name, phase.peak_rss_mib) for phase in monitor.phases]
    """

    def __init__(self, sample_seconds: float = 0.05, high_water: HighWater | None = None) -> None:
        self._sample_seconds = sample_seconds
        self._high_water = high_water_of() if high_water is None else high_water
        self._timeline = Timeline()
        self._ended: list[PhaseMemory] = []
        self._phase: PhaseMemory | None = None
        self._start_mark = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory-monitor", daemon=True)
        self._started = 0.0
        self._samples = 0
        self._sampler_seconds = 0.0
        self._peak_to_training_end: float | None = None
        self._allocator: dict[str, int] = {}
        self._earlier_trainings: int | None = None

    def __enter__(self) -> MemoryMonitor:
        """Start the clock and the sampler.

        Raises:
            RuntimeError: The monitor was used before.
        """
        if self._thread.ident is not None:
            raise RuntimeError("a MemoryMonitor measures once; make a new one")
        with _process.lock:
            self._started = time.perf_counter()
            _process.open.append(self)
            self._read_mark()
            self._add_reading(resident_bytes())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the last phase and the sampler."""
        self._stop.set()
        self._thread.join()
        with _process.lock:
            self._end_phase()
            _process.open.remove(self)

    def phase(self, name: str) -> None:
        """End the phase under way and begin another; a name may come more than once.

        Raises:
            RuntimeError: The monitor has not been entered, or was left.
        """
        with _process.lock:
            if self not in _process.open:
                raise RuntimeError("a phase begins inside `with MemoryMonitor()`")
            self._end_phase()
            if name in _TRAINING_PHASES and self._earlier_trainings is None:
                self._earlier_trainings = _process.trainings
                _process.trainings += 1
                loaded_framework().reset_peaks()
            was_reset = self._high_water.reset()
            mark, resident = self._high_water.read(), resident_bytes()
            self._phase = PhaseMemory(name, self._seconds(), start_rss_mib=resident / MIB)
            # Where the mark is not the phase's own from the start, it is once it is above this.
            self._start_mark = 0 if was_reset or (mark or 0) <= resident else mark or 0
            self._add_reading(resident)

    @property
    def phases(self) -> tuple[PhaseMemory, ...]:
        """The phases that have ended, in order."""
        return tuple(self._ended)

    @property
    def timeline(self) -> tuple[Point, ...]:
        """Resident memory over time, in order."""
        with _process.lock:
            return self._timeline.points()

    @property
    def isolated(self) -> bool:
        """Whether no training that is known went before, in this process."""
        return not self._earlier_trainings

    def write_timeline(self, path: Path) -> None:
        """Write `memory/timeline.csv`; its folder must exist."""
        with _process.lock:
            self._timeline.write(path)

    def measurements(self) -> list[Measurement]:
        """Return `memory/peak_rss_mib`, baseline, training, allocator and device peak, in MiB.

        Call it when the phase `training` has ended, inside the monitor or after it. What lacks the
        phase that it needs is missing and says so. The phases are in the details of the first.
        """
        with _process.lock:
            return [
                self._peak(),
                self._resident_baseline(),
                self._training(),
                self._allocated(keys.MEMORY_ALLOCATOR_PEAK, HOST),
                self._allocated(keys.MEMORY_DEVICE_PEAK, DEVICE),
            ]

    def _peak(self) -> Measurement:
        if self._high_water.read() is None:
            source = f"{self._sampler_text()} ({self._high_water.source})"
            since = "the start of the monitor"
        else:
            source, since = self._high_water.source, "the start of the process"
        method = f"{source}, from {since} to the end of training{self._isolation_text()}"
        details = {
            "isolated": self.isolated,
            "phases": [asdict(phase) for phase in self._ended],
            "samples": self._samples,
            "sampler_cpu_seconds": self._sampler_seconds,
        }
        return _mib(keys.MEMORY_PEAK, self._peak_to_training_end, method, TRAINING, details)

    def _resident_baseline(self) -> Measurement:
        method = f"resident memory as the model's building begins (psutil){self._isolation_text()}"
        of_model = (phase.start_rss_mib for phase in self._ended if phase.name == MODEL)
        return _mib(keys.MEMORY_BASELINE, next(of_model, None), method, MODEL)

    def _training(self) -> Measurement:
        phases = [phase for phase in self._ended if phase.name in _TRAINING_PHASES]
        if all(phase.peak_source == KERNEL for phase in phases):
            source = f"{self._high_water.source}, reset as training begins"
        else:
            source = (
                f"{self._sampler_text()}, or {self._high_water.source} where it rose "
                "(it could not be reset)"
            )
        method = f"{source}; minus {keys.MEMORY_BASELINE}{self._isolation_text()}"
        baseline = self._resident_baseline().value
        if baseline is None:
            return _mib(keys.MEMORY_TRAINING, None, method, MODEL)
        above = max((phase.peak_rss_mib - baseline for phase in phases), default=None)
        return _mib(keys.MEMORY_TRAINING, above, method, TRAINING, {"isolated": self.isolated})

    def _allocated(self, key: Key, device: str) -> Measurement:
        framework = loaded_framework()
        method = framework.peak_source.format(device)
        if device == HOST and framework.host_statistics:
            method += f"; {framework.host_statistics}"
        if self._peak_to_training_end is None:
            return _mib(key, None, method, TRAINING)
        if device not in self._allocator:
            reason = f"{framework.title} has no {device} here or its allocator keeps no statistics"
            return Measurement.missing(key, method, reason)
        if not self._allocator[device]:
            return Measurement.missing(key, method, "the allocator has counted nothing")
        return _mib(key, self._allocator[device] / MIB, method, TRAINING)

    def _sampler_text(self) -> str:
        return f"highest of readings of RSS every {self._sample_seconds * 1000:g} ms"

    def _isolation_text(self) -> str:
        if self.isolated:
            return ""
        return (
            "; not isolated: this process had trained before, and what it kept is in the baseline"
        )

    def _seconds(self) -> float:
        return time.perf_counter() - self._started

    def _sample(self) -> None:
        with self._high_water.resident_reader() as resident_now:
            while not self._stop.wait(self._sample_seconds):
                resident = resident_now()
                with _process.lock:
                    self._add_reading(resident)
                    self._samples += 1
                    self._sampler_seconds = time.thread_time()

    def _add_reading(self, resident: int) -> None:
        if self._phase is not None:
            self._phase.peak_rss_mib = max(self._phase.peak_rss_mib, resident / MIB)
        self._timeline.add(self._seconds(), resident, self._phase.name if self._phase else "")

    def _read_mark(self) -> None:
        """Give the kernel's mark to every monitor whose phase it belongs to."""
        mark = self._high_water.read()
        if mark is None:
            return
        _process.peak = max(_process.peak, mark)
        for monitor in _process.open:
            phase = monitor._phase
            if phase is not None and mark > monitor._start_mark:
                phase.peak_rss_mib = max(phase.peak_rss_mib, mark / MIB)
                phase.peak_source = KERNEL

    def _end_phase(self) -> None:
        resident, anonymous = resident_bytes(), self._high_water.anonymous()
        self._add_reading(resident)
        self._read_mark()
        phase, self._phase = self._phase, None
        if phase is None:
            return
        phase.seconds = self._seconds() - phase.start_seconds
        phase.end_rss_mib = resident / MIB
        phase.end_anonymous_mib = None if anonymous is None else anonymous / MIB
        self._ended.append(phase)
        if phase.name in _TRAINING_PHASES:
            # The sampler's as well: other code may have reset the mark.
            sampled = (point.rss_mib for point in self._timeline.points())
            self._peak_to_training_end = max(_process.peak / MIB, *sampled)
            for device, peak in loaded_framework().peaks().items():
                self._allocator[device] = max(self._allocator.get(device, 0), peak)


def _mib(
    key: Key,
    amount: float | None,
    method: str,
    phase: str,
    details: Mapping[str, Any] | None = None,
) -> Measurement:
    """Return a reading in MiB; without it, say that the phase it comes from is missing."""
    if amount is None:
        reason = f"there was no phase {phase!r}, or it has not ended"
        return Measurement.missing(key, method, reason)
    return Measurement(str(key), amount, key.unit, method, details=details or {})
