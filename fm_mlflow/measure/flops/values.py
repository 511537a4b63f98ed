"""Values that are known before a graph runs: how often a loop runs, which branch is taken.

Only what loop counters are made of is evaluated: small integers and truth values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from fm_mlflow.measure.flops.nodes import Node, Ref

MAX_TRIPS = 100_000
"""A counted loop that runs longer is taken for endless."""

_LARGEST = 64
"""Elements of the largest tensor whose value is of interest."""

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "AddV2": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "FloorDiv": np.floor_divide,
    "FloorMod": np.mod,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Neg": np.negative,
    "Less": np.less,
    "LessEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "Equal": np.equal,
    "NotEqual": np.not_equal,
    "LogicalAnd": np.logical_and,
    "LogicalOr": np.logical_or,
    "LogicalNot": np.logical_not,
    "Squeeze": np.squeeze,
}
_WITH_AXES: dict[str, Callable[..., Any]] = {
    "Max": np.max,
    "Min": np.min,
    "Prod": np.prod,
    "Sum": np.sum,
    "All": np.all,
    "Any": np.any,
}


def _strided_slice(node: Node, value: Any, *bounds: Any) -> Any:
    if node.attribute("new_axis_mask") or node.attribute("ellipsis_mask"):
        return None
    open_start, open_end, is_number = (
        node.attribute(f"{mask}_mask") for mask in ("begin", "end", "shrink_axis")
    )
    index: list[int | slice] = []
    for axis, (start, end, step) in enumerate(zip(*np.asarray(bounds).tolist(), strict=True)):
        bit = 1 << axis
        part = slice(None if open_start & bit else start, None if open_end & bit else end, step)
        index.append(start if is_number & bit else part)
    return np.asarray(value)[tuple(index)]


def _gather(node: Node, value: Any, index: Any, axis: Any) -> Any:
    return None if node.attribute("batch_dims") else np.take(value, index, int(axis))


_OF_SHAPES: dict[str, Callable[..., Any]] = {
    "ConcatV2": lambda _, *values: np.concatenate(values[:-1], int(values[-1])),
    "ExpandDims": lambda _, value, axis: np.expand_dims(value, int(axis)),
    "GatherV2": _gather,
    "Pack": lambda node, *values: np.stack(values, node.attribute("axis")),
    "Reshape": lambda _, value, shape: np.reshape(value, shape),
    "StridedSlice": _strided_slice,
}
"""What sizes are picked from shapes by, and put together by."""

Known = dict["Node", Any]


class Values:
    """Evaluates references of a flat graph."""

    def __init__(self) -> None:
        self._known: Known = {}

    def of(self, ref: Ref, known: Known | None = None) -> Any:
        """Return a NumPy value, or None where it is unknown.

        Args:
            ref: What to evaluate.
            known: Values of nodes in the present trip of a loop.
        """
        memo = self._known if known is None else known
        node = ref.node
        for values in (memo, self._known):
            if node in values:
                return values[node]
        value = self._evaluate(ref, known)
        # What is unknown now may depend on a loop that has not been run yet.
        if value is not None and len(node.outputs) == 1:
            memo[node] = value
        return value

    def _evaluate(self, ref: Ref, known: Known | None) -> Any:
        node = ref.node
        if node.op is None or not _is_countable(node.op.outputs[ref.index]):
            return None
        if self.computes(node):
            values = [self.of(source, known) for source in node.inputs]
            if any(value is None for value in values):
                return self._folded(ref) if node.kind in _OF_SHAPES else None
            if node.kind == "Cast":
                return values[0].astype(node.op.outputs[0].dtype.as_numpy_dtype)
            if node.kind in _OF_SHAPES:
                return _OF_SHAPES[node.kind](node, *values)
            if node.kind in _WITH_AXES:
                axes = tuple(int(axis) for axis in np.ravel(values[1]))
                return _WITH_AXES[node.kind](
                    values[0], axis=axes, keepdims=node.attribute("keep_dims")
                )
            return _FUNCTIONS[node.kind](*values)
        if node.kind == "OptionalGetValue":
            kept = _kept_value(node, ref.index)
            return None if kept is None else self.of(kept)
        if node.kind == "TensorListPopBack" and ref.index == 1:
            pushed = _pushed_counter(node.inputs[0].node)
            return None if pushed is None else self.of(pushed)
        return self._folded(ref)

    @staticmethod
    def _folded(ref: Ref) -> Any:
        # TensorFlow's own folding sees constants and static shapes, within one function.
        return tf.get_static_value(ref.node.op.outputs[ref.index])

    def run_loop(self, variables: list[Node], proceed: Ref) -> int | None:
        """Run a loop's counters, and nothing else of it.

        Args:
            variables: The loop's; the inputs of each are its start, the loop and its next value.
            proceed: The loop's condition.

        Returns:
            The number of trips, None where it depends on data. What the counters end at is
            known from then on: the gradient's loop runs as often as a counter of the forward one
            says that it did.
        """
        needed = self._counters(variables, proceed)
        starts: Known = {node: self.of(node.inputs[0]) for node in variables}
        state = {node: v for node, v in starts.items() if v is not None or node in needed}
        for trips in range(MAX_TRIPS):
            known = dict(state)
            go_on = self.of(proceed, known)
            if go_on is None or any(state[node] is None for node in needed):
                return None
            if not go_on:
                self._known.update(state)
                return trips
            state = {node: self.of(node.inputs[2], known) for node in state}
        return None

    def _counters(self, variables: list[Node], proceed: Ref) -> list[Node]:
        """The loop variables that decide how often it runs, directly or through each other."""
        own = set(variables)
        found: dict[Node, None] = {}
        seen: set[Node] = set()
        waiting = [proceed]
        while waiting:
            node = waiting.pop().node
            if node in seen:
                continue
            seen.add(node)
            if node in own:
                found[node] = None
                waiting.append(node.inputs[2])
            elif self.computes(node):
                waiting += node.inputs
        return list(found)

    def taken(
        self, chooser: Ref, branches: int, is_index: bool, known: Known | None = None
    ) -> int | None:
        """Return which of a condition's branches is taken, None where that is unknown.

        Args:
            chooser: A truth value, which takes the first branch; or the number of a branch.
            branches: How many there are; the last one is taken for a number that has none.
            is_index: Whether it is a number.
            known: Values of nodes to assume.
        """
        value = self.of(chooser, known)
        if value is None:
            return None
        if not is_index:
            return 0 if value else 1
        return int(value) if 0 <= value < branches else branches - 1

    def computes(self, node: Node) -> bool:
        """Whether it evaluates such a node from its inputs."""
        kind = node.kind
        return kind in _FUNCTIONS or kind in _WITH_AXES or kind in _OF_SHAPES or kind == "Cast"


def _is_countable(tensor: Any) -> bool:
    size = tensor.shape.num_elements()
    is_discrete = tensor.dtype.is_integer or tensor.dtype.is_bool
    return is_discrete and size is not None and size <= _LARGEST


def _kept_value(node: Node, index: int) -> Ref | None:
    """Find what one branch of a condition keeps for its gradient; the others keep nothing."""
    source = node.inputs[0].node
    sources = [ref.node for ref in source.inputs[1:]] if source.kind == "Merge" else [source]
    kept = [each for each in sources if each.kind == "OptionalFromValue"]
    return kept[0].inputs[index] if len(kept) == 1 else None


def _pushed_counter(list_: Node) -> Ref | None:
    """Find what a list was filled with, if it is what an inner loop's counter ends at.

    The gradient of a loop in a loop is told so how often the inner one ran: the same each time, or
    the counter's end would not be known.
    """
    while list_.kind == "LoopVariable":
        push = list_.inputs[2].node if len(list_.inputs) > 2 else list_
        if push.kind == "TensorListPushBack":
            pushed = push.inputs[1]
            is_inner = pushed.node.kind == "LoopVariable" and pushed.node.region is push.region
            return pushed if is_inner else None
        list_ = list_.inputs[0].node
    return None
