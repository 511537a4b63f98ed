"""Resident memory over time: for looking at, never for a figure that the kernel can give."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fm_mlflow.measure.measurement import MIB

_MOST_POINTS = 20_000
"""About 17 minutes at 50 ms; a longer run keeps the highest of 2, 4, 8 … neighbours."""


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
    """Readings in order; their number stays bounded, their peaks stay."""

    def __init__(self, most_points: int = _MOST_POINTS) -> None:
        """Keep at most so many points."""
        self._most_points = most_points
        self._points: list[Point] = []
        self._stride = 1
        self._merged = 0

    def add(self, seconds: float, resident: int, phase: str) -> None:
        """Add a reading: `resident` in bytes."""
        point = Point(seconds, resident / MIB, phase)
        if 0 < self._merged < self._stride and self._points[-1].phase == phase:
            self._merged += 1
            self._points[-1] = _higher(self._points[-1], point)
            return
        self._points.append(point)
        self._merged = 1
        if len(self._points) > self._most_points:
            self._halve()

    def points(self) -> tuple[Point, ...]:
        """Return what is kept, in order of time."""
        return tuple(self._points)

    def _halve(self) -> None:
        kept: list[Point] = []
        pair_open = False
        for point in self._points:
            if pair_open and kept[-1].phase == point.phase:
                kept[-1] = _higher(kept[-1], point)
                pair_open = False
            else:
                kept.append(point)
                pair_open = True
        self._points = kept
        self._stride *= 2


def _higher(first: Point, second: Point) -> Point:
    return max(first, second, key=lambda point: point.rss_mib)


def write_timeline(points: Sequence[Point], path: Path) -> None:
    """Write `memory/timeline.csv`: columns seconds, rss_mib, phase; the folder must exist."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Point._fields)
        writer.writerows(
            (f"{point.seconds:.3f}", f"{point.rss_mib:.3f}", point.phase) for point in points
        )
