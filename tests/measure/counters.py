"""Energy counters that need no hardware."""

from __future__ import annotations

from fm_mlflow.measure.energy_counters import EnergyCounters


class Counting(EnergyCounters):
    """A joule more at every reading."""

    source = "made-up counters"

    def __init__(self) -> None:
        self.joules = 0.0

    def open(self) -> None: ...

    def close(self) -> None: ...

    def read(self) -> dict[str, float]:
        self.joules += 1
        return {"package-0": self.joules}
