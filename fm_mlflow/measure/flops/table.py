"""The result table: FLOPs by layer, and its presentation as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from fractions import Fraction
from typing import Any

from fm_mlflow.measure.flops.engine import Count, Counted, Phase
from fm_mlflow.measure.flops.marks import Row

OPTIMIZER = "(optimizer)"
_NO_FORWARD_PASS = ("(metrics)", OPTIMIZER, "(other)")


@dataclass(frozen=True)
class LayerFlops:
    """One row of the table. All FLOPs and multiply-adds are per image.

    Attributes:
        layer: Path in nested models; in parentheses: what belongs to no layer.
        type: Class.
        output_shape: None stands for the batch size.
        parameters: Weights, shared ones once.
        macs: Multiply-adds of the forward pass.
        forward_flops: Forward pass, loss.
        weight_gradient_flops: Backward pass, for the layer's own weights only.
        input_gradient_flops: Backward pass, whatever a layer before it needs.
        other_flops: Optimizer, metrics.
        training_flops: The four before, together.
        training_core_flops: Of these, in matrix products and convolutions.
        share_percent: Of all training_flops.
    """

    layer: str
    type: str
    output_shape: str
    parameters: int
    macs: float
    forward_flops: float
    weight_gradient_flops: float
    input_gradient_flops: float
    other_flops: float
    training_flops: float
    training_core_flops: float
    share_percent: float


COLUMNS = tuple(field.name for field in fields(LayerFlops))
"""Columns of `flops/layers.csv`."""


def layer_table(rows: list[Row], count: Count, batch_size: int) -> tuple[LayerFlops, ...]:
    """Sum the counted operations by row; each column adds up to what the model costs.

    Args:
        rows: Of the marks under which the graph was traced.
        count: What the engine counted in it.
        batch_size: Images of the graph.
    """
    by_row: dict[int | None, list[Counted]] = {}
    for counted in count.operations:
        by_row.setdefault(counted.row, []).append(counted)
    parameters = _parameters(rows)
    total = count.total
    table = []
    for number, row in enumerate(rows):
        is_shown = not row.is_container and row.kind != "InputLayer"
        if is_shown or number in by_row or parameters[number]:
            operations = by_row.get(number, [])
            table.append(_row(row, parameters[number], operations, total, batch_size))
    if None in by_row:
        table.append(_row(Row("(other)", ""), 0, by_row[None], total, batch_size))
    return tuple(table)


def to_csv(table: Iterable[LayerFlops]) -> str:
    """Return the table as CSV with a heading; whole numbers without a decimal point."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in table:
        writer.writerow([_plain(value) for value in astuple(row)])
    return text.getvalue()


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _parameters(rows: list[Row]) -> list[int]:
    """Each weight in the first row that has it: what two layers share counts once."""
    seen: set[int] = set()
    counts = []
    for row in rows:
        new = [weight for weight in getattr(row.layer, "weights", []) if id(weight) not in seen]
        seen |= {id(weight) for weight in new}
        counts.append(sum(math.prod(weight.shape) for weight in new))
    return counts


def _row(
    row: Row, parameters: int, operations: list[Counted], total: Fraction, batch_size: int
) -> LayerFlops:
    by_phase = dict.fromkeys(Phase, Fraction())
    core = dict.fromkeys(Phase, Fraction())
    for counted in operations:
        by_phase[counted.phase] += counted.core + counted.other
        core[counted.phase] += counted.core
    forward = by_phase[Phase.FORWARD]
    is_other = row.name in _NO_FORWARD_PASS
    together = sum(by_phase.values(), Fraction())

    def per_image(flops: Fraction) -> float:
        return float(flops / batch_size)

    return LayerFlops(
        layer=row.name,
        type=row.kind,
        output_shape=row.output_shape if row.layer is not None else "",
        parameters=parameters,
        macs=per_image(core[Phase.FORWARD] / 2),
        forward_flops=0.0 if is_other else per_image(forward),
        weight_gradient_flops=per_image(by_phase[Phase.WEIGHT_GRADIENT]),
        input_gradient_flops=per_image(by_phase[Phase.INPUT_GRADIENT]),
        other_flops=per_image(forward) if is_other else 0.0,
        training_flops=per_image(together),
        training_core_flops=per_image(sum(core.values(), Fraction())),
        share_percent=float(100 * together / total) if total else 0.0,
    )
