"""Conditions on a counter: how often each branch is taken as a variable counts the steps.

An optimizer that accumulates gradients asks `counter % n == r`, and so may a user's own step.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

import numpy as np

from fm_mlflow.measure.flops.nodes import FlatGraph, Node, Ref
from fm_mlflow.measure.flops.values import Values

UPDATE = re.compile(
    r"^(Assign.*VariableOp|Resource(Apply|SparseApply|Scatter).*|.*StridedSliceAssign)$"
)
"""Operations that write a variable."""

_LONGEST = 10_000
"""A longer period is taken for a condition on data."""
_SIGNS = {"Add": 1, "AddV2": 1, "Sub": -1, "AssignAddVariableOp": 1, "AssignSubVariableOp": -1}


def shares_of_counters(
    flat: FlatGraph, values: Values, chooser: Ref, branches: int, is_index: bool
) -> list[Fraction] | list[None]:
    """Return which share of the steps takes each branch; None where that is not known.

    It is known where all that the condition depends on is the remainder of a counter, that is of a
    whole number that each step raises by the same, and where the counter reaches every remainder.

    Args:
        flat: All operations.
        values: Evaluates them.
        chooser: The condition.
        branches: How many there are.
        is_index: The condition is the number of a branch, and not a truth value.
    """
    remainders = [node for node in _evaluated(values, chooser) if node.kind == "FloorMod"]
    if len(remainders) != 1:
        return [None] * branches
    (remainder,) = remainders
    period = values.of(remainder.inputs[1])
    counter = _variable_and_offset(values, remainder.inputs[0])
    if counter is None or period is None or not 1 <= period <= _LONGEST:
        return [None] * branches
    step = _step(flat, values, counter[0])
    if step is None or math.gcd(step, int(period)) != 1:
        return [None] * branches
    counts = [0] * branches
    dtype = remainder.outputs[0].dtype.as_numpy_dtype
    for number in range(int(period)):
        taken = values.taken(chooser, branches, is_index, {remainder: np.asarray(number, dtype)})
        if taken is None:
            return [None] * branches
        counts[taken] += 1
    return [Fraction(count, int(period)) for count in counts]


def _evaluated(values: Values, chooser: Ref) -> list[Node]:
    """What the condition is computed from, up to the remainders that it may ask for."""
    found: dict[Node, None] = {}
    waiting = [chooser.node]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found[node] = None
            if values.computes(node) and node.kind != "FloorMod":
                waiting += [ref.node for ref in node.inputs]
    return list(found)


def _variable_and_offset(values: Values, ref: Ref) -> tuple[Node, int] | None:
    """Return the variable that a number is read from, and what is added to it; else None."""
    node, offset = ref.node, 0
    while True:
        if node.kind == "ReadVariableOp":
            return _variable(node), offset
        if node.kind == "Cast" and not node.is_floating:
            node = node.inputs[0].node
        elif node.kind in _SIGNS and not node.is_floating:
            left, right = node.inputs
            if values.of(right) is None and node.kind != "Sub":
                left, right = right, left
            added = values.of(right)
            if added is None or np.ndim(added):
                return None
            offset += _SIGNS[node.kind] * int(added)
            node = left.node
        else:
            return None


def _variable(node: Node) -> Node:
    """The resource that an operation reads or writes."""
    resource = node.inputs[0].node
    while resource.kind == "LoopVariable":
        resource = resource.inputs[0].node
    return resource


def _step(flat: FlatGraph, values: Values, variable: Node) -> int | None:
    """By how much a step raises a variable, if it is written once and by a known number."""
    updates = [
        node for node in flat.nodes if UPDATE.match(node.kind) and _variable(node) is variable
    ]
    if len(updates) != 1:
        return None
    (update,) = updates
    region: Any = update.region
    while region is not None:
        if region.owner.kind == "While":
            return None
        region = region.parent
    if update.kind == "AssignVariableOp":
        source = _variable_and_offset(values, update.inputs[1])
        return source[1] if source is not None and source[0] is variable else None
    added = values.of(update.inputs[1]) if update.kind in _SIGNS else None
    return None if added is None or np.ndim(added) else _SIGNS[update.kind] * int(added)
