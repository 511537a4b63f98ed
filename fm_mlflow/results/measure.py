"""What `measure_model` returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    import pandas as pd

    from fm_mlflow.measure.measurement import Measurement


class Measurements(Sequence["Measurement"]):
    """The costs of a model: a sequence of measurements that prints as a table.

    By name: `costs["flops/inference"].value`.
    """

    def __init__(self, measurements: Sequence[Measurement]) -> None:
        self._all = tuple(measurements)

    @overload
    def __getitem__(self, index: int | str) -> Measurement: ...
    @overload
    def __getitem__(self, index: slice) -> Measurements: ...
    def __getitem__(self, index: int | str | slice) -> Measurement | Measurements:
        if isinstance(index, slice):
            return Measurements(self._all[index])
        if isinstance(index, str):
            found = next((each for each in self._all if each.name == index), None)
            if found is None:
                raise KeyError(index)
            return found
        return self._all[index]

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Measurement]:
        return iter(self._all)

    def to_frame(self) -> pd.DataFrame:
        """Return a data frame: a row a cost; `reason` says why one is missing."""
        import pandas as pd

        columns = ("name", "value", "unit", "method", "samples", "spread", "interval", "reason")
        rows = [{name: getattr(each, name) for name in columns} for each in self._all]
        return pd.DataFrame(rows, columns=list(columns)).set_index("name")

    def __str__(self) -> str:
        """A line a cost: its value with the 95% interval, or why it is missing."""
        from fm_mlflow.analysis.prose.words import number

        width = max((len(each.name) for each in self._all), default=0)
        lines = []
        for each in self._all:
            if each.value is None:
                text = f"not measured, because {each.reason}"
            else:
                text = f"{number(each.name, each.value)} {each.unit}"
                if each.interval:
                    low, high = (number(each.name, bound) for bound in each.interval)
                    text += f" ({low} to {high})"
            lines.append(f"{each.name:<{width}}  {text}")
        return "\n".join(lines)

    __repr__ = __str__
