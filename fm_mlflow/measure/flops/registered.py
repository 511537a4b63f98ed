"""Formulas that a user registers for operations that fm_mlflow has none for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fm_mlflow.errors import FlopsError, InputError
from fm_mlflow.measure.flops.formulas import FORMULAS, FREE_KINDS, REGISTERED, Cost, known

if TYPE_CHECKING:
    from fm_mlflow.measure.flops.nodes import Node

ShapeFunction = Callable[[Sequence[tuple[int, ...]], Sequence[tuple[int, ...]]], float]
"""From the shapes of an operation's inputs and outputs, in order, to a number of operations."""


def register_formula(
    operation: str, *, flops: ShapeFunction | None = None, macs: ShapeFunction | None = None
) -> None:
    """Register what one execution of a TensorFlow operation costs, for all profiles of the process.

    It is for operations that fm_mlflow lists as unsupported, such as one of your own. What it has
    a formula for cannot be replaced, because models are compared by one rule. Registering an
    operation again replaces the formula.

    Examples:
        The inverse of n x n matrices costs about 2 n^3 FLOPs each:

        >>> def inverse(inputs, outputs):
        ...     return 2 * inputs[0][-1] * math.prod(inputs[0])
        >>> register_formula("MatrixInverse", flops=inverse)

        An operation that multiplies matrices, as `MatMul` does:

        >>> register_formula("MyMatMul", macs=lambda i, o: i[0][-1] * math.prod(o[0]))

    Args:
        operation: Its type, as `FlopsProfile.unsupported` names it. TensorFlow must know it: load
            the library of an operation of your own first.
        flops: Function of the shapes of its inputs and of its outputs (lists of tuples of whole
            numbers, batch included) that returns its FLOPs without those of `macs`.
        macs: The same for the multiply-adds of matrix products and convolutions: each is 2 FLOPs,
            which count in `flops/training_core` and in the column `macs` as well.

    Raises:
        InputError: The operation is unknown or has a formula already, or there is no function.
    """
    if not isinstance(operation, str) or not _is_known(operation):
        accepted = "the type of an operation that TensorFlow knows, such as 'MatrixInverse'"
        raise InputError("operation", operation, accepted)
    if operation in {*FORMULAS, *FREE_KINDS, *_STRUCTURE}:
        accepted = "an operation that fm_mlflow does not count itself"
        raise InputError("operation", operation, accepted)
    for name, function in (("flops", flops), ("macs", macs)):
        if function is not None and not callable(function):
            raise InputError(name, function, "a function of the shapes of inputs and of outputs")
    if flops is None and macs is None:
        raise InputError("flops", None, "a function here or as `macs`")

    def formula(op: Node) -> Cost:
        shapes = [known(shape) for shape in op.input_shapes], [known(s) for s in op.output_shapes]
        multiplied, others = (_number(operation, each, *shapes) for each in (macs, flops))
        return Cost(core=2 * multiplied, other=others)

    REGISTERED[operation] = formula


_STRUCTURE = (
    *("Case", "If", "StatelessCase", "StatelessIf", "StatelessWhile", "While"),
    *("PartitionedCall", "StatefulPartitionedCall"),
)
"""Calls, loops and branches: what is in them is counted."""


def _number(
    operation: str,
    function: ShapeFunction | None,
    inputs: list[tuple[int, ...]],
    outputs: list[tuple[int, ...]],
) -> int:
    if function is None:
        return 0
    shapes = f"the formula registered for {operation} with inputs {inputs}, outputs {outputs}"
    try:
        number = function(inputs, outputs)
        is_number = not isinstance(number, bool) and math.isfinite(number) and number >= 0
    except Exception as error:  # whatever a user's function raises
        what = f"{shapes} raised {type(error).__name__}: {error}"
        raise FlopsError(what, "mend it, or do not register it") from error
    if not is_number:
        raise FlopsError(f"{shapes} returned {number!r}", "it must return a number from 0")
    return round(number)


def _is_known(operation: str) -> bool:
    try:
        from tensorflow.python.framework import op_def_registry
    except ImportError:  # another version of TensorFlow has it elsewhere
        return bool(operation)
    return op_def_registry.get(operation) is not None
