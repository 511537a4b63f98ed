"""oneDNN's kernels for convolutions and pooling, on processors where TensorFlow leaves them off.

TensorFlow uses oneDNN by itself only on processors with instructions for neural nets (AVX512-VNNI
and the like). On others its own kernels run, which are slow on one thread, above all that for the
gradient of max pooling. The kernels of oneDNN are in the same library. `TF_ENABLE_ONEDNN_OPTS=1`
would switch them on for the whole process, and with them change the latency of the model, which is
measured as a server has it; so only the graph of the training steps gets them here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fm_mlflow.process.quiet import ONEDNN

_PREFIX = "_MklNative"
_LABEL = b"MklNameChangeOp"
"""By operation and label TensorFlow's own graph pass names these kernels (mkl_layout_pass.cc)."""

_SAME_OPERANDS = {
    "Conv2D",
    "Conv2DBackpropFilter",
    "Conv2DBackpropInput",
    "DepthwiseConv2dNative",
    "DepthwiseConv2dNativeBackpropFilter",
    "DepthwiseConv2dNativeBackpropInput",
    "AvgPool",
    "AvgPoolGrad",
}


def is_built_in() -> bool:
    """Tell whether this build of TensorFlow has oneDNN's kernels; those for macOS do not."""
    try:
        from tensorflow.python.framework.op_def_registry import get
    except ImportError:  # it is not public
        return False
    return get(f"{_PREFIX}MaxPool") is not None


def is_left_off() -> bool:
    """Tell whether TensorFlow does not use oneDNN of itself; a user's own choice stands."""
    if ONEDNN in os.environ:
        return False
    try:
        # TensorFlow says it nowhere public; its own tests ask here.
        from tensorflow.python.util._pywrap_util_port import IsMklEnabled
    except ImportError:
        return False
    return is_built_in() and not IsMklEnabled()


def use_onednn(definition: Any) -> int:
    """Put oneDNN's kernels in place of TensorFlow's own in a `GraphDef`, where both do the same.

    Returns:
        How many operations were replaced, those of its functions included.
    """
    count = _replace(definition.node, workspace="{}:1")
    for function in definition.library.function:
        count += _replace(function.node_def, workspace="{}:workspace:0")
    return count


def _replace(nodes: Sequence[Any], workspace: str) -> int:
    pools = {node.name: node for node in nodes if node.op == "MaxPool" and _is_served(node)}
    taken = {}
    for node in nodes:
        if node.op in _SAME_OPERANDS and _is_served(node):
            taken[node.name] = node
        elif node.op == "MaxPoolGrad" and _is_served(node):
            # oneDNN's gradient wants to know which pixels were the largest, from the forward pass.
            pool = pools.get(node.input[1].partition(":")[0])
            if pool is None or len(node.input) != 3:
                continue
            node.input.append(workspace.format(pool.name))
            for each in (pool, node):
                each.attr["workspace_enabled"].b = True
                taken[each.name] = each
    for node in taken.values():
        node.op = f"{_PREFIX}{node.op}"
        node.attr["_kernel"].s = _LABEL
    return len(taken)


def _is_served(node: Any) -> bool:
    """Tell whether oneDNN does what an operation asks for: as TensorFlow's own pass decides."""
    windows = [node.attr[name].list.i for name in ("ksize", "strides") if name in node.attr]
    return (
        node.attr["T"].type == tf.float32.as_datatype_enum
        and node.attr["padding"].s in (b"SAME", b"VALID")
        and node.attr["data_format"].s == b"NHWC"
        and all(window[0] == window[3] == 1 for window in windows)
    )
