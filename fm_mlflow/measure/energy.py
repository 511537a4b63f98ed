"""Energy of a training and of predictions, by the hardware's own counters; never an estimate.

Needs neither TensorFlow nor MLflow. The counters are the whole machine's: nothing is taken off for
what other processes or an idle machine draw, but how busy the others were is said.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter

import psutil

from fm_mlflow import keys
from fm_mlflow.keys import Key
from fm_mlflow.measure.energy_counters import (
    EnergyCounters,
    NotCountedError,
    NvmlGpus,
    RaplPackages,
)
from fm_mlflow.measure.measurement import Measurement
from fm_mlflow.measure.memory import FIRST_STEP, TRAINING
from fm_mlflow.process.redaction import one_line

_TRAINING_PHASES = (FIRST_STEP, TRAINING)
_SECONDS_BETWEEN_READINGS = 10.0  # the range of a counter lasts three times as long
_LARGEST_ERROR = 0.05
"""Share of a figure that two steps of its counter may come to: one is cut at either border."""

_LEAST_SECONDS, _MOST_SECONDS = 1.0, 10.0
_WARM_UP_SECONDS = 0.1
_CHANGES = 5
_LONGEST_WAIT = 1.0
_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")  # of psutil.cpu_times
_IDLE = ("idle", "iowait")


@dataclass(frozen=True)
class _Reading:
    """What the clocks and counters say at a moment, or how far they went between moments.

    Attributes:
        joules: By domain, of the counters that can be read.
        seconds: Wall time.
        own_cpu: CPU seconds of this process and those that it started.
        busy_cpu: Of all processes of the machine.
        all_cpu: Of its CPUs, busy or idle; 0 where the system does not say.
    """

    joules: Mapping[str, float]
    seconds: float
    own_cpu: float
    busy_cpu: float
    all_cpu: float


@dataclass
class _Meter:
    """Counters of one kind, and what is known of them.

    Attributes:
        counters: The counters.
        training, inference: The names under which their figures are logged.
        reason: Why they cannot be read; empty if they can.
        domains: What each of them counts.
        resolution: Seconds between two steps of the slowest.
    """

    counters: EnergyCounters
    training: Key
    inference: Key
    reason: str = "the monitor was not entered"
    domains: tuple[str, ...] = ()
    resolution: float = 0.0

    def open(self) -> None:
        self.reason = ""
        try:
            self.counters.open()
            self.domains = tuple(self.counters.read())
            self.resolution = _resolution(self.counters)
        except Exception as error:
            self.reason = _why(error)

    def read(self) -> dict[str, float]:
        if not self.reason:
            try:
                return self.counters.read()
            except Exception as error:
                self.reason = _why(error)  # for good: nobody knows what was not read
        return {}


def _why(error: Exception) -> str:
    """Return why a counter cannot be read; no fault of a driver may fail a training."""
    if isinstance(error, NotCountedError):
        return str(error)
    return f"reading the counters failed: {one_line(error)}"


class EnergyMonitor:
    """Reads the energy counters of this machine at the borders of phases, as `MemoryMonitor`.

    Where there are no counters it does nothing, and its figures are missing with the reason.

    Args:
        packages: The counters of the processor packages; by default RAPL's.
        gpus: The counters of the GPUs; by default NVML's.

    Examples:
        >>> with EnergyMonitor() as monitor:
        ...     monitor.phase("training")
        ...     model.fit(x, y)
        ...     monitor.phase("measuring")
        ...     figures = monitor.training() + monitor.inference(lambda: model.predict(x), len(x))
    """

    def __init__(
        self, packages: EnergyCounters | None = None, gpus: EnergyCounters | None = None
    ) -> None:
        self._meters = (
            _Meter(packages or RaplPackages(), keys.ENERGY_TRAINING, keys.ENERGY_INFERENCE),
            _Meter(gpus or NvmlGpus(), keys.ENERGY_GPU_TRAINING, keys.ENERGY_GPU_INFERENCE),
        )
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="energy-monitor", daemon=True)
        self._started: _Reading | None = None
        self._trainings: list[tuple[_Reading, _Reading]] = []

    def __enter__(self) -> EnergyMonitor:
        """Find the counters, and how often each moves."""
        for meter in self._meters:
            meter.open()
        if self._is_counting:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the last phase and release the counters."""
        self.phase("")
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        for meter in self._meters:
            meter.counters.close()

    def phase(self, name: str) -> None:
        """End the phase under way and begin another; a name may come more than once."""
        trains = name in _TRAINING_PHASES
        if trains == (self._started is not None) or not self._is_counting:
            return  # a reading takes milliseconds: only where a training begins or ends
        now = self._read()
        if self._started is not None:
            self._trainings.append((self._started, now))
        self._started = now if trains else None

    def training(self) -> list[Measurement]:
        """Return the joules of the phases of training, which must have ended."""
        how = "read as the fit begins, tracing included, and as it ends"
        spent = _between(self._trainings) if self._trainings else None
        return [_figure(meter, meter.training, spent, how) for meter in self._meters]

    def inference(self, predict: Callable[[], object], examples: int) -> list[Measurement]:
        """Predict for long enough to read the counters; return the joules of 1,000 predictions.

        Args:
            predict: Predicts and waits for the output. It is not called where nothing is counted.
            examples: How many predictions a call makes.
        """
        spent, calls, how = None, 0, f"read before and after calls on {examples} examples each"
        if self._is_counting:
            _repeat(predict, _WARM_UP_SECONDS)
            slowest = max(meter.resolution for meter in self._meters)  # 0 of what is not counted
            seconds = 2 * slowest / _LARGEST_ERROR
            start = self._read()
            calls = _repeat(predict, min(max(seconds, _LEAST_SECONDS), _MOST_SECONDS))
            spent = _between([(start, self._read())])
            how = f"read before and after {calls} calls on {examples} examples each, warm"
        scale, details = 1000 / max(calls * examples, 1), {"calls": calls, "examples": examples}
        return [
            _figure(meter, meter.inference, spent, how, scale, details) for meter in self._meters
        ]

    @property
    def _is_counting(self) -> bool:
        return not all(meter.reason for meter in self._meters)

    def _read(self) -> _Reading:
        with self._lock:
            joules = {name: value for meter in self._meters for name, value in meter.read().items()}
        return _Reading(joules, time.perf_counter(), *_cpu_seconds())

    def _watch(self) -> None:
        """Read the counters before one can begin again at 0 twice."""
        while not self._stop.wait(_SECONDS_BETWEEN_READINGS):
            with self._lock:
                for meter in self._meters:
                    meter.read()


def _figure(
    meter: _Meter,
    key: Key,
    spent: _Reading | None,
    how: str,
    scale: float = 1,
    details: Mapping[str, int] | None = None,
) -> Measurement:
    method = f"{meter.counters.source}, {how}"
    if meter.reason:
        return Measurement.missing(key, method, meter.reason)
    if spent is None:
        return Measurement.missing(key, method, "there was no phase of training, or it runs still")
    joules = {name: spent.joules[name] for name in meter.domains}
    if still := [name for name, value in joules.items() if value <= 0]:
        reason = f"the counter of {', '.join(still)} did not move in {spent.seconds:.3g} s"
        return Measurement.missing(key, method, reason)
    if 2 * meter.resolution > _LARGEST_ERROR * spent.seconds:
        reason = (
            f"{spent.seconds:.3g} s are too short for a counter that moves every "
            f"{meter.resolution * 1000:.3g} ms"
        )
        return Measurement.missing(key, method, reason)
    others: float | None = None
    load = "how busy other processes were is not known"
    if spent.all_cpu > 0:
        others = max(spent.busy_cpu - spent.own_cpu, 0) / spent.all_cpu
        load = f"other processes used {others:.1%} of the machine's CPU time meanwhile"
    method += f": all that {', '.join(joules)} drew, idle power included; {load}"
    return Measurement(
        str(key),
        sum(joules.values()) * scale,
        key.unit,
        method,
        details={
            "joules": joules,
            "seconds": spent.seconds,
            "resolution_seconds": meter.resolution,
            "cpu_share_of_other_processes": others,
            **(details or {}),
        },
    )


def _between(spans: Sequence[tuple[_Reading, _Reading]]) -> _Reading:
    """Add up how far clocks and counters went."""

    def total(of: Callable[[_Reading], float]) -> float:
        return sum(of(end) - of(start) for start, end in spans)

    def joules(domain: str) -> float:
        return total(lambda reading: reading.joules[domain])

    return _Reading(
        {domain: joules(domain) for domain in spans[-1][1].joules},  # what was read to the end
        total(attrgetter("seconds")),
        total(attrgetter("own_cpu")),
        total(attrgetter("busy_cpu")),
        total(attrgetter("all_cpu")),
    )


def _repeat(call: Callable[[], object], seconds: float) -> int:
    """Call for so many seconds, once at least; return how often."""
    calls, end = 0, time.perf_counter() + seconds
    while not calls or time.perf_counter() < end:
        call()
        calls += 1
    return calls


def _resolution(counters: EnergyCounters) -> float:
    """Return the seconds between two steps of the slowest counter: the median of a few.

    Raises:
        NotCountedError: One of them does not move.
    """
    last = counters.read()
    changes: dict[str, list[float]] = defaultdict(list)
    end = time.perf_counter() + _LONGEST_WAIT
    while min(len(changes[name]) for name in last) < _CHANGES and time.perf_counter() < end:
        now = counters.read()
        for name, value in now.items():
            if value != last[name]:
                changes[name].append(time.perf_counter())
        last = now
    if still := [name for name, moments in changes.items() if len(moments) < 2]:
        counter = f"the counter of {', '.join(still)}"
        raise NotCountedError(f"{counter} did not move twice in {_LONGEST_WAIT:g} s")
    return max(
        statistics.median(later - earlier for earlier, later in pairwise(moments))
        for moments in changes.values()
    )


def _cpu_seconds() -> tuple[float, float, float]:
    """Return CPU seconds of this process and its children, of all processes, of the machine."""
    own = 0.0
    this = psutil.Process()
    try:
        machine = psutil.cpu_times()
        processes = [this, *this.children(recursive=True)]
    except (OSError, psutil.Error):  # a sandbox without /proc/stat
        return 0.0, 0.0, 0.0
    for process in processes:
        with suppress(psutil.Error):  # it ended meanwhile
            own += sum(process.cpu_times()[:4])  # user, system, and both of ended children
    busy = sum(getattr(machine, name, 0.0) for name in _BUSY)
    return own, busy, busy + sum(getattr(machine, name, 0.0) for name in _IDLE)
