"""Resident memory over time: phase by phase, and as points to look at."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fm_mlflow.measure.measurement import MIB

_MOST_POINTS = 20_000
"""About 17 minutes at 50 ms; a longer run keeps the highest of 2, 4, 8 … neighbours."""


KERNEL, SAMPLER = "kernel", "sampler"


@dataclass
class PhaseMemory:
    """What a phase of a process's life held; its monitor fills it in until the phase ends.

    Attributes:
        name: As the monitor was told.
        start_seconds: When it began, after the monitor did.
        seconds: How long it took.
        start_rss_mib: Resident memory at its start, in MiB.
        end_rss_mib: Resident memory at its end, in MiB.
        end_anonymous_mib: Of it, what no file backs; None where the system does not say.
        peak_rss_mib: The highest resident memory within it, in MiB.
        peak_source: `kernel` if the kernel's mark is this phase's own, else `sampler`.
    """

    name: str
    start_seconds: float
    seconds: float = 0.0
    start_rss_mib: float = 0.0
    end_rss_mib: float = 0.0
    end_anonymous_mib: float | None = None
    peak_rss_mib: float = 0.0
    peak_source: str = SAMPLER


class Point(NamedTuple):
    """One reading.

    Attributes:
        seconds: Time since the monitor began.
        rss_mib: Resident memory, in MiB.
        phase: What the process was doing.
    """

    seconds: float
    rss_mib: float
    phase: str


class Timeline:
    """Readings in order; their number stays bounded, their peaks stay.

    It is for looking at, never for a figure that the kernel can give.
    """

    def __init__(self, most_points: int = _MOST_POINTS) -> None:
        self._most_points = most_points
        self._points: list[Point] = []
        self._stride = 1
        self._merged = 0

    def add(self, seconds: float, resident: int, phase: str) -> None:
        """Add a reading: `resident` in bytes."""
        self._put(Point(seconds, resident / MIB, phase), 1)
        if len(self._points) > self._most_points:
            points, self._points = self._points, []
            self._stride *= 2
            for point in points:
                self._put(point, self._stride // 2)

    def _put(self, point: Point, readings: int) -> None:
        """Add a point of so many readings; the higher one stays where two share a place."""
        last = self._points[-1] if self._points else None
        if last and last.phase == point.phase and self._merged + readings <= self._stride:
            self._points[-1] = max(last, point, key=lambda each: each.rss_mib)
            self._merged += readings
        else:
            self._points.append(point)
            self._merged = readings

    def points(self) -> tuple[Point, ...]:
        """Return what is kept, in order of time."""
        return tuple(self._points)

    def write(self, path: Path) -> None:
        """Write `memory/timeline.csv`: columns seconds, rss_mib, phase; the folder must exist."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(Point._fields)
            writer.writerows(
                (f"{point.seconds:.3f}", f"{point.rss_mib:.3f}", point.phase)
                for point in self._points
            )
