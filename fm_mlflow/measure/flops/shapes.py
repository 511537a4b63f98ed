"""Shapes that a function's operations have in one call of it.

A function may have been traced for any batch size, or for any shape at all. Its operations are made
again, in a graph that nobody runs, for the shapes of the call: TensorFlow then infers the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from fm_mlflow.measure.flops.nodes import Ref
    from fm_mlflow.measure.flops.values import Values


class CallShapes:
    """Gives operations the shapes of their call."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self._graph = tf.Graph()
        self._stand_ins: dict[int, tuple[Any, Any]] = {}

    def of_call(self, op: Any, inputs: list[Ref]) -> Any:
        """Return the operation, or its like with the shapes that its inputs have in this call."""
        if not any(map(self._says_more, inputs, op.inputs)):
            return op
        attributes = {
            key: value for key, value in op.node_def.attr.items() if not key.startswith("_")
        }
        try:
            made = self._graph.create_op(
                op.type,
                [self._stand_in(ref) for ref in inputs],
                [tensor.dtype for tensor in op.outputs],
                attrs=attributes,
            )
            for tensor, before in zip(made.outputs, op.outputs, strict=True):
                tensor.set_shape(before.shape)
        except (TypeError, ValueError):
            return op  # what TensorFlow does not infer stays unknown, and is reported
        return made

    def at_start(self, start: Ref, declared: Any) -> Any:
        """Return what has the shape and type of a loop's variable in its first trip."""
        return self._specific(declared, [start.tensor])

    def joined(self, results: list[Ref], declared: Any) -> Any:
        """Return what has the shape and type that the branches of a condition agree on."""
        return self._specific(declared, [ref.tensor for ref in results])

    def same(self, one: Any, other: Any) -> bool:
        """Whether two tensors have the same shape as far as it is known."""
        return bool(one.shape.rank == other.shape.rank and one.shape == other.shape)

    def _specific(self, declared: Any, tensors: list[Any]) -> Any:
        first = tensors[0]
        if declared.dtype == tf.variant and self._is_own(first):
            return first  # it knows the shapes of a list's elements
        if declared.shape.is_fully_defined() or self.same(first, declared):
            return declared
        agreed = all(self.same(first, tensor) for tensor in tensors)
        return tf.TensorSpec(first.shape, first.dtype) if agreed else declared

    def _says_more(self, ref: Ref, declared: Any) -> bool:
        tensor = ref.tensor
        if tensor is declared:
            return False
        if self._is_own(tensor) and not tensor.dtype.is_floating:
            return True  # it may have a known value, such as a size
        return not declared.shape.is_fully_defined() and not self.same(tensor, declared)

    def _is_own(self, tensor: Any) -> bool:
        return getattr(tensor, "graph", None) is self._graph

    def _stand_in(self, ref: Ref) -> Any:
        """Return a tensor of the graph that has the shape, and the value where it is known."""
        tensor = ref.tensor
        if self._is_own(tensor):
            return tensor
        if id(tensor) not in self._stand_ins:
            value = self._values.of(ref)
            with self._graph.as_default():
                made = (
                    tf.compat.v1.placeholder(tensor.dtype, tensor.shape)
                    if value is None
                    else tf.constant(value, tensor.dtype)
                )
            self._stand_ins[id(tensor)] = made, tensor  # the latter keeps its id
        return self._stand_ins[id(tensor)][0]
