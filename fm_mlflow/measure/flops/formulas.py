"""The formula table: what one execution of a TensorFlow operation costs, by its type.

Convention: one addition, subtraction, multiplication, division, comparison or elementary function
(square root, exponential, tanh ...) of floating-point numbers is 1 FLOP, so that a multiply-add is
2. *Core* FLOPs are those of matrix products and convolutions: 2 for each pair of numbers that is
multiplied and summed. A convolution is counted by the positions of its output, in the backward
passes too; a tap that falls on zero padding is counted like any other. Products and convolutions of
integers are counted in the same way, but apart. Other arithmetic on integers and truth values,
moving, copying, selecting (so relu, too: a number or zero) and converting data, and drawing random
numbers are not counted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fm_mlflow.measure.flops.nodes import Node, Shape


class UnknownShapeError(Exception):
    """A size that the formula needs is not known before the graph runs."""


@dataclass(frozen=True)
class Cost:
    """What one execution costs.

    Attributes:
        core: FLOPs in matrix products and convolutions.
        other: All other FLOPs.
        integer: Operations on integers in products and convolutions, which are no FLOPs.
    """

    core: int = 0
    other: int = 0
    integer: int = 0


Formula = Callable[["Node"], Cost]
FREE = Cost()
REGISTERED: dict[str, Formula] = {}
"""Formulas of a user, by operation type (`fm_mlflow.measure.register_formula`)."""


def known(shape: Shape) -> tuple[int, ...]:
    """Return the sizes as numbers.

    Raises:
        UnknownShapeError: One of them is unknown.
    """
    if shape is None or any(size is None for size in shape):
        raise UnknownShapeError
    return tuple(size for size in shape if size is not None)


def _size(shape: Shape) -> int:
    return math.prod(known(shape))


def _shape(op: Node, index: int | None) -> Shape:
    """Shape of an input, by its number; None stands for the output."""
    return op.output_shapes[0] if index is None else op.input_shapes[index]


def _elementwise(flops: int, index: int | None) -> Formula:
    return lambda op: Cost(other=flops * _size(_shape(op, index)))


def _broadcast(op: Node) -> Cost:
    """One FLOP an element of what the operands are broadcast to."""
    axes = zip_longest(*(reversed(known(shape)) for shape in op.input_shapes), fillvalue=1)
    return Cost(other=math.prod(0 if 0 in sizes else max(sizes) for sizes in axes))


def _reduction(op: Node) -> Cost:
    return Cost(other=_size(op.input_shapes[0]) - _size(op.output_shapes[0]))


def _matrix_product(transposed: str) -> Formula:
    """Each output sums as many products as the left operand has columns (rows if transposed)."""

    def formula(op: Node) -> Cost:
        left = known(op.input_shapes[0])
        terms = left[-2] if op.attribute(transposed) else left[-1]
        return Cost(core=2 * terms * _size(op.output_shapes[0]))

    return formula


def _einsum(op: Node) -> Cost:
    """All index combinations of two operands; one operand alone is a sum or a rearrangement."""
    terms, output = op.attribute("equation").decode().replace(" ", "").split("->")
    sizes: dict[str, int] = {}
    operands = []
    for term, shape in zip(terms.split(","), op.input_shapes, strict=True):
        labels = _labels(term, len(known(shape)))
        operands.append(labels)
        for label, size in zip(labels, known(shape), strict=True):
            sizes[label] = max(size, sizes.get(label, 1))  # an ellipsis broadcasts
    if len(operands) == 1:
        return _reduction(op)
    kept = set(_labels(output, len(known(op.output_shapes[0]))))
    pairs = set(operands[0]) & set(operands[1]) | kept
    # What only one operand has and the output has not is summed before the product.
    summed = sum(
        _size(shape)
        for labels, shape in zip(operands, op.input_shapes, strict=True)
        if set(labels) - pairs
    )
    return Cost(core=2 * math.prod(sizes[label] for label in pairs), other=summed)


def _labels(term: str, rank: int) -> list[str]:
    """Name every axis; those of an ellipsis by their distance from its end."""
    if "..." not in term:
        return list(term)
    before, after = term.split("...")
    hidden = rank - len(before) - len(after)
    return [*before, *(f"...{hidden - index}" for index in range(hidden)), *after]


def _convolution(axes: int, kernel: int | None, output: int | None) -> Formula:
    """Each output sums as many products as the filter's first axes have elements.

    Args:
        axes: Where they end: -1 for all but the last, 2 for height and width (depthwise).
        kernel: Which input has the filter's shape; None for the operation's output.
        output: Which has the shape of the convolution's output.
    """
    return lambda op: Cost(
        core=2 * math.prod(known(_shape(op, kernel))[:axes]) * _size(_shape(op, output))
    )


def _pooling(extra: int, pooled: int | None) -> Formula:
    """The window's elements (+ extra) at each position of the pooled tensor."""
    return lambda op: Cost(
        other=(math.prod(op.attribute("ksize")) + extra) * _size(_shape(op, pooled))
    )


def _cross_entropy(op: Node) -> Cost:
    """Loss and gradient: max, subtract, exp, sum, divide, subtract an element; log, subtract a row.

    Dense labels are multiplied and summed as well: 2 more an element.
    """
    rows, classes = known(op.input_shapes[0])
    per_element = 6 if op.kind.startswith("Sparse") else 8
    return Cost(other=rows * (per_element * classes + 2))


def _batch_normalization(op: Node) -> Cost:
    """Scale and shift an element; in training mean (1) and variance (3) as well."""
    per_element, per_channel = (6, 8) if op.attribute("is_training") else (2, 6)
    size, channels = _size(op.input_shapes[0]), _size(op.input_shapes[1])
    return Cost(other=per_element * size + per_channel * channels)


def _batch_normalization_gradient(op: Node) -> Cost:
    """Gradients of shift (1), scale (4) and input (4 an element, 4 a channel)."""
    return Cost(other=9 * _size(op.input_shapes[0]) + 4 * _size(op.input_shapes[2]))


_PER_OUTPUT = {
    1: "Abs Acos Acosh Asin Asinh Atan Atan2 Atanh BiasAdd Ceil Cos Cosh Cumprod Cumsum Digamma Erf"
    " Erfc Erfinv Exp Expm1 Floor Igamma Igammac Inv IsFinite IsInf IsNan LeakyRelu LeakyReluGrad"
    " Lgamma Log Log1p Ndtri Neg NextAfter Reciprocal Rint Round Rsqrt Sigmoid Sign Sin Sinh"
    " Softplus Softsign Sqrt Square Tan Tanh Xdivy",
    2: "ClipByValue Elu EluGrad Selu SeluGrad SqrtGrad Xlogy Xlog1py",
    3: "InvGrad ReciprocalGrad RsqrtGrad SigmoidGrad SoftplusGrad SoftsignGrad TanhGrad",
    5: "LogSoftmax Softmax",
    9: "ResizeBilinear",
}
_BROADCAST = (
    "Add AddV2 ApproximateEqual Div DivNoNan Equal FloorDiv FloorMod Greater GreaterEqual Less"
    " LessEqual Maximum Minimum Mod Mul MulNoNan NotEqual Pow RealDiv SquaredDifference Sub"
    " TruncateDiv TruncateMod"
)
# A mean: additions, then one division an output, together as many as there are inputs.
_PER_INPUT = "ArgMax ArgMin CumulativeLogsumexp EuclideanNorm Mean ResizeNearestNeighborGrad"
_PER_SECOND_INPUT = "AssignAddVariableOp AssignSubVariableOp InTopK InTopKV2"
_PER_THIRD_INPUT = (
    "ResourceScatterAdd ResourceScatterSub ResourceScatterMul ResourceScatterDiv"
    " ResourceScatterMax ResourceScatterMin ResourceScatterNdAdd ResourceScatterNdSub"
    " TensorScatterAdd TensorScatterSub TensorScatterMax TensorScatterMin"
)
_SEGMENTS = (
    "SegmentMax SegmentMean SegmentMin SegmentProd SegmentSum UnsortedSegmentMax"
    " UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum"
)
_REDUCTIONS = "BiasAddGrad Max Min Prod Sum"
_FREE = (
    "Assert Assign AssignVariableOp BatchToSpaceND Bitcast BroadcastGradientArgs BroadcastTo Cast"
    " CheckNumerics CheckNumericsV2 Concat ConcatV2 Const DepthToSpace DestroyResourceOp Diag"
    " DiagPart DynamicPartition DynamicStitch Empty EmptyTensorList EnsureShape ExpandDims"
    " ExtractImagePatches ExtractVolumePatches Fill Gather GatherNd GatherV2 Identity IdentityN If"
    " LoopVariable MatrixBandPart MatrixDiag MatrixDiagPartV3 MatrixDiagV3 MatrixSetDiagV3 Merge"
    " MirrorPad NoOp OneHot OnesLike OptionalFromValue OptionalGetValue OptionalHasValue"
    " OptionalNone Pack Pad PadV2 ParallelDynamicStitch Placeholder PlaceholderWithDefault"
    " PreventGradient Print PrintV2 RandomStandardNormal RandomUniform"
    " Range Rank ReadVariableOp Relu Relu6 Relu6Grad ReluGrad Reshape"
    " ResizeNearestNeighbor ResourceGather ResourceGatherNd"
    " ResourceScatterNdUpdate ResourceScatterUpdate ResourceStridedSliceAssign Reverse"
    " ReverseSequence ReverseV2 Roll ScatterNd Select SelectV2 Shape ShapeN Size Slice Snapshot"
    " SpaceToBatchND SpaceToDepth Split SplitV Squeeze StatelessMultinomial StatelessRandomNormal"
    " StatelessRandomNormalV2 StatelessRandomUniform StatelessRandomUniformV2"
    " StatelessTruncatedNormal StatelessTruncatedNormalV2 StopGradient StridedSlice"
    " StridedSliceGrad TensorListConcatV2 TensorListElementShape TensorListFromTensor"
    " TensorListGather TensorListGetItem TensorListLength TensorListPopBack TensorListPushBack"
    " TensorListReserve TensorListResize TensorListScatter TensorListScatterIntoExistingList"
    " TensorListScatterV2 TensorListSetItem TensorListSplit TensorListStack TensorScatterUpdate"
    " Tile Transpose TruncatedNormal Unpack VarHandleOp VarIsInitializedOp Where While ZerosLike"
)

FORMULAS: dict[str, Formula] = {
    "MatMul": _matrix_product("transpose_a"),
    "BatchMatMul": _matrix_product("adj_x"),
    "BatchMatMulV2": _matrix_product("adj_x"),
    "BatchMatMulV3": _matrix_product("adj_x"),
    "Einsum": _einsum,
    **dict.fromkeys(("Conv", "Conv2D", "Conv3D"), _convolution(-1, 1, None)),
    "DepthwiseConv2dNative": _convolution(2, 1, None),
    # Inputs: sizes, filter, gradient of the output.
    **dict.fromkeys(("Conv2DBackpropInput", "Conv3DBackpropInputV2"), _convolution(-1, 1, 2)),
    "DepthwiseConv2dNativeBackpropInput": _convolution(2, 1, 2),
    # Inputs: input, filter's sizes, gradient of the output.
    **dict.fromkeys(("Conv2DBackpropFilter", "Conv3DBackpropFilterV2"), _convolution(-1, None, 2)),
    "DepthwiseConv2dNativeBackpropFilter": _convolution(2, None, 2),
    **dict.fromkeys(("AvgPool", "AvgPool3D", "MaxPool", "MaxPool3D"), _pooling(0, None)),
    # The maximum of each window is found again (or the gradient divided), then added.
    **dict.fromkeys(("MaxPoolGrad", "MaxPool3DGrad"), _pooling(1, 2)),
    **dict.fromkeys(("AvgPoolGrad", "AvgPool3DGrad"), _pooling(1, 1)),
    **dict.fromkeys(
        ("SparseSoftmaxCrossEntropyWithLogits", "SoftmaxCrossEntropyWithLogits"), _cross_entropy
    ),
    "FusedBatchNormV3": _batch_normalization,
    "FusedBatchNormGradV3": _batch_normalization_gradient,
    "AddN": lambda op: Cost(other=(len(op.inputs) - 1) * _size(op.output_shapes[0])),
    "L2Loss": _elementwise(2, 0),
    "ResizeBilinearGrad": _elementwise(8, 0),
    **dict.fromkeys(_BROADCAST.split(), _broadcast),
    **dict.fromkeys(_REDUCTIONS.split(), _reduction),
    **dict.fromkeys([*_PER_INPUT.split(), *_SEGMENTS.split()], _elementwise(1, 0)),
    **dict.fromkeys(_PER_SECOND_INPUT.split(), _elementwise(1, 1)),
    **dict.fromkeys(_PER_THIRD_INPUT.split(), _elementwise(1, 2)),
    **{kind: _elementwise(n, None) for n, kinds in _PER_OUTPUT.items() for kind in kinds.split()},
}
"""Formula by operation type; one that is neither here nor in `FREE_KINDS` is unsupported."""

FREE_KINDS = frozenset(_FREE.split())
CORE_KINDS = frozenset(kind for kind in FORMULAS if "MatMul" in kind or "Conv" in kind) | {"Einsum"}
_PRODUCT = re.compile("MatMul|Conv[0-9D]|Convolution|Dot|Einsum")


def cost(op: Node) -> Cost | None:
    """Return what one execution of an operation costs, None where there is no formula.

    Raises:
        UnknownShapeError: There is a formula, but a size that it needs is unknown.
    """
    if op.kind in FREE_KINDS:
        return FREE
    formula = FORMULAS.get(op.kind) or REGISTERED.get(op.kind)
    if op.is_floating or op.kind in REGISTERED:
        return None if formula is None else formula(op)
    if op.kind in CORE_KINDS and formula is not None:
        return Cost(integer=formula(op).core)
    return None if _PRODUCT.search(op.kind) and formula is None else FREE
