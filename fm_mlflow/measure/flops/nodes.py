"""The parts of a flat graph: nodes, what refers to them, and the regions that they are in."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import tensorflow as tf

Shape = tuple[int | None, ...] | None
"""Sizes of a tensor; None for an unknown size, or for an unknown rank."""


@dataclass(eq=False)
class Region:
    """The body of a loop or one branch of a condition.

    Attributes:
        owner: The loop or condition.
        runs: How often it runs each time its owner does; None where that is unknown.
        parent: The region that the owner is in.
        is_test: It is not a loop's body but its condition.
    """

    owner: Node
    runs: Fraction | None
    parent: Region | None
    is_test: bool = False


@dataclass(eq=False)
class Node:
    """An operation of the flat graph.

    Attributes:
        kind: TensorFlow's type, or `LoopVariable`, `While`, `If` or `Merge`.
        name: Names of the calls that lead to it and its own, joined by "/".
        inputs: Where its data come from.
        output_shapes: Of each output.
        dtypes: Of inputs and outputs together.
        region: The innermost loop or branch that it is in.
        op: The TensorFlow operation, where it stands for one.
        positions: Of a convolution's gradient: what stands for the shape of its third input.
    """

    kind: str
    name: str
    inputs: list[Ref]
    output_shapes: list[Shape]
    dtypes: list[tf.DType]
    region: Region | None
    op: Any = None
    positions: Shape = None

    @property
    def input_shapes(self) -> list[Shape]:
        """Shape of each input; none of what stands for no TensorFlow operation."""
        shapes = [_shape(tensor) for tensor in self.op.inputs] if self.op is not None else []
        if self.positions is not None:
            shapes[2] = self.positions
        return shapes

    @property
    def is_floating(self) -> bool:
        """Whether it takes or returns floating-point or complex numbers."""
        return any(dtype.is_floating or dtype.is_complex for dtype in self.dtypes)

    def attribute(self, name: str) -> Any:
        """Value of an attribute of the TensorFlow operation."""
        return self.op.get_attr(name)


@dataclass(frozen=True)
class Ref:
    """One output of a node."""

    node: Node
    index: int


@dataclass
class FlatGraph:
    """All operations of a traced function, and what it returns.

    Attributes:
        nodes: In an order in which every node follows its inputs (a loop's variables excepted).
        outputs: What the function returns.
        regions: All of them, outer before inner.
    """

    nodes: list[Node] = field(default_factory=list)
    outputs: list[Ref] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)


def _shape(tensor: Any) -> Shape:
    return None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
