"""The parts of a flat graph: nodes, what refers to them, and the regions that they are in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

Shape = tuple[int | None, ...] | None
"""Sizes of a tensor; None for an unknown size, or for an unknown rank."""


@dataclass(eq=False)
class Region:
    """The body of a loop or one branch of a condition.

    Attributes:
        owner: The loop or condition.
        runs: How often it runs each time its owner does; None for a branch where that is unknown.
    """

    owner: Node
    runs: Fraction | None

    @property
    def parent(self) -> Region | None:
        """The region that the owner is in."""
        return self.owner.region


@dataclass(eq=False)
class Node:
    """An operation of the flat graph.

    Attributes:
        kind: TensorFlow's type, or `LoopVariable`, `While`, `If` or `Merge`.
        name: Names of the calls that lead to it and its own, joined by "/".
        inputs: Where its data come from.
        outputs: A tensor of TensorFlow, or its specification, for each output.
        region: The innermost loop or branch that it is in.
        op: The TensorFlow operation, where it stands for one.
        positions: Of a convolution's gradient: what stands for the shape of its third input.
    """

    kind: str
    name: str
    inputs: list[Ref]
    outputs: Sequence[Any]
    region: Region | None
    op: Any = None
    positions: Shape = None

    @property
    def input_shapes(self) -> list[Shape]:
        """Shape of each input; none of what stands for no TensorFlow operation."""
        shapes = _shapes(self.op.inputs) if self.op is not None else []
        if self.positions is not None:
            shapes[2] = self.positions
        return shapes

    @property
    def output_shapes(self) -> list[Shape]:
        """Shape of each output."""
        return _shapes(self.outputs)

    @property
    def is_floating(self) -> bool:
        """Whether it takes or returns floating-point or complex numbers."""
        tensors = [*self.outputs, *(self.op.inputs if self.op is not None else [])]
        return any(_is_floating(tensor.dtype) for tensor in tensors)

    def attribute(self, name: str) -> Any:
        """Value of an attribute of the TensorFlow operation."""
        return self.op.get_attr(name)


@dataclass(frozen=True)
class Ref:
    """One output of a node."""

    node: Node
    index: int

    @property
    def tensor(self) -> Any:
        """What has its shape and type: a tensor of TensorFlow, or its specification."""
        return self.node.outputs[self.index]


@dataclass
class FlatGraph:
    """All operations of a traced function, and what it returns.

    Attributes:
        nodes: In an order in which every node follows its inputs (a loop's variables excepted).
        outputs: What the function returns.
        regions: All of them, outer before inner.
        endless: Loops whose number of trips is unknown; their bodies are taken to run once.
        identities: TensorFlow's operations of the traced function itself that pass data on.
    """

    nodes: list[Node] = field(default_factory=list)
    outputs: list[Ref] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    endless: list[Node] = field(default_factory=list)
    identities: list[Any] = field(default_factory=list)


@cache
def _is_floating(dtype: Any) -> bool:
    # DType.is_floating does not know the float8 types.
    return bool(dtype.is_complex or "float" in dtype.name)


def _shapes(tensors: Sequence[Any]) -> list[Shape]:
    shapes = [tensor.shape for tensor in tensors]
    return [None if shape.rank is None else tuple(shape.as_list()) for shape in shapes]
