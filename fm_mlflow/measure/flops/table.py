"""The result table: FLOPs by layer."""

from __future__ import annotations

import math
from fractions import Fraction

from fm_mlflow.measure.flops.engine import Count, Counted, Exact, Phase
from fm_mlflow.measure.flops.result import LayerFlops
from fm_mlflow.measure.flops.rows import OPTIMIZER, Row

_NO_FORWARD_PASS = ("(metrics)", OPTIMIZER[:-1], "(other)")


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
    numbered = [*enumerate(rows), (None, Row("(other)", "", is_container=True))]
    weights_seen: set[int] = set()
    total = count.total
    table = []
    for number, row in numbered:
        # What two layers share counts in the first that has it.
        new = [w for w in getattr(row.layer, "weights", []) if id(w) not in weights_seen]
        weights_seen |= {id(weight) for weight in new}
        is_shown = not row.is_container and row.kind != "InputLayer"
        if is_shown or number in by_row or new:
            parameters = sum(math.prod(weight.shape) for weight in new)
            operations = by_row.get(number, [])
            table.append(_row(row, parameters, operations, total, batch_size))
    return tuple(table)


def _row(
    row: Row, parameters: int, operations: list[Counted], total: Fraction, batch_size: int
) -> LayerFlops:
    by_phase: dict[Phase, Exact] = dict.fromkeys(Phase, 0)
    core: dict[Phase, Exact] = dict.fromkeys(Phase, 0)
    for counted in operations:
        by_phase[counted.phase] += counted.core + counted.other
        core[counted.phase] += counted.core
    together = sum(by_phase.values())

    def per_image(flops: Exact) -> float:
        return float(Fraction(flops) / batch_size)

    forward, other = per_image(by_phase[Phase.FORWARD]), 0.0
    has_forward_pass = row.layer is not None or not row.name.startswith(_NO_FORWARD_PASS)
    if not has_forward_pass:
        forward, other = other, forward
    return LayerFlops(
        layer=row.name,
        type=row.kind,
        output_shape=row.output_shape if row.layer is not None else "",
        parameters=parameters,
        macs=per_image(Fraction(core[Phase.FORWARD]) / 2) if has_forward_pass else 0.0,
        forward_flops=forward,
        weight_gradient_flops=per_image(by_phase[Phase.WEIGHT_GRADIENT]),
        input_gradient_flops=per_image(by_phase[Phase.INPUT_GRADIENT]),
        other_flops=other,
        training_flops=per_image(together),
        training_core_flops=per_image(sum(core.values())),
        integer_ops=per_image(sum(counted.integer for counted in operations)),
        share_percent=float(100 * together / total) if total else 0.0,
    )
