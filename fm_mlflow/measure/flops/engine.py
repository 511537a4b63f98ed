"""The engine: which operations of a flat graph execute, how often, what for, and what they cost."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction

from fm_mlflow.errors import FlopsError
from fm_mlflow.measure.flops import formulas
from fm_mlflow.measure.flops.formulas import Cost, UnknownShapeError
from fm_mlflow.measure.flops.marks import call_of
from fm_mlflow.measure.flops.nodes import FlatGraph, Node, Region

_BACKWARD = re.compile(r"(^|/)(gradient_tape|gradients)/")
_UPDATE = re.compile(
    r"^(Assign.*VariableOp|Resource(Apply|SparseApply|Scatter).*|.*StridedSliceAssign)$"
)


class Phase(Enum):
    """What an operation is there for."""

    FORWARD = "forward"
    WEIGHT_GRADIENT = "weight gradient"
    INPUT_GRADIENT = "input gradient"


@dataclass(frozen=True)
class Counted:
    """An operation that executes.

    Attributes:
        kind: TensorFlow's type.
        row: Number of the table's row that it belongs to, None where it belongs to none.
        phase: What it is there for.
        core: FLOPs in matrix products and convolutions, all executions of it together.
        other: All its other FLOPs.
    """

    kind: str
    row: int | None
    phase: Phase
    core: Fraction
    other: Fraction


@dataclass(frozen=True)
class Count:
    """What one call of a traced function executes.

    Attributes:
        operations: Those that cost something.
        unsupported: Operations without a count: why and how often they occur, by type.
        coverage: Of the operations that do arithmetic, the share that is counted, 0 to 1.
    """

    operations: list[Counted]
    unsupported: dict[str, int]
    coverage: float

    @property
    def core(self) -> Fraction:
        """FLOPs in matrix products and convolutions."""
        return sum((counted.core for counted in self.operations), Fraction())

    @property
    def total(self) -> Fraction:
        """All FLOPs."""
        return sum((counted.core + counted.other for counted in self.operations), Fraction())


def count(flat: FlatGraph) -> Count:
    """Count what executes: what the outputs or the update of a variable need.

    Raises:
        FlopsError: The shape of a matrix product or convolution is unknown.
    """
    live = _live(flat)
    origins = _origins(live)
    reached = _reached_calls(live, origins)
    costs: dict[Node, Cost] = {}
    missing: Counter[str] = Counter()
    for node in live:
        try:
            cost = formulas.cost(node)
        except UnknownShapeError:
            if node.kind in formulas.CORE_KINDS:
                raise FlopsError(
                    f"the shape of {node.name} ({node.kind}) is unknown before training runs",
                    "give the layers fixed sizes",
                ) from None
            missing[f"{node.kind} (unknown shape)"] += 1
            continue
        if cost is None:
            missing[node.kind] += 1
        elif cost != formulas.FREE:
            costs[node] = cost
    if flat.endless:
        missing["While (unknown number of trips)"] = len(flat.endless)
    runs = _runs(flat, costs)
    operations = []
    for node, cost in costs.items():
        if times := runs[node.region]:
            origin = origins[node]
            phase = _phase(origin, reached[node])
            operations.append(
                Counted(node.kind, origin.row, phase, times * cost.core, times * cost.other)
            )
    arithmetic = len(costs) + missing.total()
    coverage = len(costs) / arithmetic if arithmetic else 1.0
    return Count(operations, dict(missing.most_common()), coverage)


def _live(flat: FlatGraph) -> list[Node]:
    """What the outputs and the updates of variables need, directly or not."""
    waiting = [ref.node for ref in flat.outputs]
    waiting += [node for node in flat.nodes if _UPDATE.match(node.kind)]
    live: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node in live:
            continue
        live.add(node)
        waiting += [ref.node for ref in node.inputs]
        if node.region is not None:
            waiting.append(node.region.owner)
    return [node for node in flat.nodes if node in live]


@dataclass(frozen=True)
class _Origin:
    """What an operation's name says.

    Attributes:
        row: Number of the table's row, None if of none.
        call: A bit for the call of the layer, 0 if of none.
        is_backward: It is part of the backward pass.
        is_use: It is that call's own use of what it is given, not a sum for several users.
    """

    row: int | None
    call: int
    is_backward: bool
    is_use: bool = True


def _origins(live: list[Node]) -> dict[Node, _Origin]:
    origins: dict[Node, _Origin] = {}
    for node in live:
        row, call = call_of(node.name)
        if row is None and node.kind == "AddN":
            # The sum of what several users of a tensor pass back; TensorFlow does not say whose.
            origins[node] = replace(origins[node.inputs[0].node], is_use=False)
        else:
            origins[node] = _Origin(row, call, bool(_BACKWARD.search(node.name)))
    return origins


def _reached_calls(live: list[Node], origins: dict[Node, _Origin]) -> dict[Node, int]:
    """For each node, the calls of layers in whose backward pass its result is used (a bit each).

    Loops make circles, so it repeats until nothing changes; two or three times, in practice.
    """
    reached = dict.fromkeys(live, 0)
    changed = True
    while changed:
        changed = False
        for node in reversed(live):
            origin = origins[node]
            onward = reached[node] | (origin.call if origin.is_backward and origin.is_use else 0)
            for ref in node.inputs:
                if onward & ~reached[ref.node]:
                    reached[ref.node] |= onward
                    changed = True
    return reached


def _phase(origin: _Origin, reached: int) -> Phase:
    """Tell the backward pass's two purposes apart by who uses the result.

    What the backward pass of another layer (or of another call of the same layer) uses is the
    gradient with respect to an input; what ends in this layer's own weights is theirs.
    """
    if not origin.is_backward:
        return Phase.FORWARD
    return Phase.INPUT_GRADIENT if reached & ~origin.call else Phase.WEIGHT_GRADIENT


def _runs(flat: FlatGraph, costs: dict[Node, Cost]) -> dict[Region | None, Fraction]:
    """How often each region runs in one call of the function; None is the function itself.

    Of a condition that depends on data the branch with the most FLOPs is counted.
    """
    spent: Counter[Region | None] = Counter()
    for node, cost in costs.items():
        spent[node.region] += cost.core + cost.other
    # Inner regions come after outer ones; what they cost is added up on the way back.
    factor: dict[Region, Fraction] = {}
    for region in reversed(flat.regions):
        if region.runs is not None:
            factor[region] = region.runs
        elif region not in factor:
            branches = [other for other in flat.regions if other.owner is region.owner]
            dearest = max(branches, key=lambda branch: spent[branch])
            factor |= {branch: Fraction(branch is dearest) for branch in branches}
        spent[region.parent] += int(spent[region] * factor[region])
    runs: dict[Region | None, Fraction] = {None: Fraction(1)}
    for region in flat.regions:
        runs[region] = runs[region.parent] * factor[region]
    return runs
