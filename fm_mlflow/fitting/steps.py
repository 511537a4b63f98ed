"""Training and validation steps as compiled loops over examples that are on the device.

Keras' own `train_step` and `test_step` are what runs, so that every compiled model is served, one
with a step of its own too. What `model.fit` does for each batch in Python and in tf.data - fetch,
convert, copy, call - is left out: a chunk of steps is one call.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any

import keras
import tensorflow as tf

from fm_mlflow.fitting.examples import Examples, Structure, Window
from fm_mlflow.process.garbage import forget_gradients

_log = logging.getLogger(__name__)

Logs = Any
"""What a step returns: a dictionary of scalars, unless a model of the user's says otherwise."""

# On a CPU, XLA has no good kernels for these: the reference CNN's step takes 2.3 times as long, and
# within a loop 15 times (convolutions then run on one thread); a random number takes it 0.4 us, so
# that the reference MLP's step with dropout takes 6 times as long.
_SLOW_IN_XLA = re.compile(
    "Conv|Pool|LRN|Resize|FFT|While|TensorList|TensorArray|Sort|TopK|BatchMatMul|Einsum|Cholesky|Svd"
    "|Random|Multinomial"
)
_NOT_COMPILED = (
    tf.errors.InvalidArgumentError,
    tf.errors.InternalError,
    tf.errors.NotFoundError,
    tf.errors.UnimplementedError,
)
_FUSED_ADAM = "ResourceApplyAdam"


class Compiler(str, Enum):
    """What runs the training steps."""

    XLA = "xla"
    """XLA, the loop over the steps included."""
    XLA_STEP = "xla, each step"
    """XLA, step by step, as the model was compiled (`jit_compile`)."""
    TENSORFLOW = "tensorflow"
    """TensorFlow's own kernels."""
    KERAS = "keras"
    """`model.fit`, because the model or its distribution strategy changes more than a step."""


class Steps:
    """A step function of a model, compiled to run many times over a `Window`.

    Args:
        step: `model.train_step` or `model.test_step`.
        examples: What it will be given; only shapes and types count.
        window: The first window, likewise.
        batch_size: Examples a step.
        compiler: What is to run it; None chooses by rule, from the operations of the step.
    """

    def __init__(
        self,
        step: Callable[[Any], Logs],
        examples: Examples,
        window: Window,
        batch_size: int,
        compiler: Compiler | None = None,
    ) -> None:
        self._batch_size = batch_size
        batch = keras.tree.map_structure(_any_rows, window.tensors)
        # Traced once, for any number of rows, as Keras traces it; and without autograph as there.
        self._step = tf.function(
            lambda data: step(examples.prepare(data)),
            autograph=False,
            jit_compile=compiler is Compiler.XLA_STEP or None,
        ).get_concrete_function(batch)
        definition = self._step.graph.as_graph_def()
        forget_gradients(_own_gradients(definition))  # it has been differentiated
        operations = {node.op for node in all_nodes(definition)}
        self.compiler = compiler or _choose(operations)
        self._ways: list[str] = []
        self._has_fused_adam = _FUSED_ADAM in operations
        # Traced when first called: not every fit needs both.
        self._some = tf.function(
            lambda tensors, rows: self._step(_take(tensors, rows)),
            autograph=False,
            reduce_retracing=True,
        )
        self._many = self._compiled()

    @property
    def description(self) -> str:
        """What runs the steps and what makes them fast: the tag `fm_mlflow.compiler`."""
        # XLA joins the operations of Keras' Adam just as well.
        fused = self._has_fused_adam and self.compiler is Compiler.TENSORFLOW
        return ", ".join([self.compiler.value, *self._ways, *(["fused Adam"] if fused else [])])

    def run(self, window: Window, first: int, count: int) -> Logs:
        """Run `count` whole batches of a window from number `first`: the last one's logs."""
        arguments = window.tensors, window.order, tf.constant(first), tf.constant(first + count)
        try:
            return self._many(*arguments)
        except _NOT_COMPILED as error:
            if self.compiler is not Compiler.XLA:
                raise
            # Compiling comes before running: no variable has changed yet.
            _log.info("XLA cannot compile the step: %s", error)
            self.compiler = Compiler.TENSORFLOW
            self._many = self._compiled()
            return self._many(*arguments)

    def compile(self, window: Window) -> None:
        """Compile `run` for windows of this shape; no step is run."""
        self.run(window, 0, 0)

    def run_one(self, window: Window, number: int) -> Logs:
        """Run one batch of a window, which may be its smaller last one: its logs."""
        start = number * self._batch_size
        stop = min(start + self._batch_size, window.steps * self._batch_size + window.rest)
        return self._some(window.tensors, window.order[start:stop])

    def settle(self) -> None:
        """Let the variables of the model have what the steps so far have made of them."""

    def close(self) -> None:
        """Free what the steps hold beside the model: no further step will be run."""

    def traced(self, window: Window) -> Any:
        """Return `run` as a traced function of tensors, order, first and last number."""
        order = tf.TensorSpec([None], window.order.dtype)
        number = tf.TensorSpec([], tf.int32)
        batch = keras.tree.map_structure(_any_rows, window.tensors)
        return self._many.get_concrete_function(batch, order, number, number)

    def _compiled(self) -> Any:
        is_xla = self.compiler is Compiler.XLA
        return tf.function(self._run_many, autograph=False, jit_compile=is_xla or None)

    def _run_many(
        self, tensors: Structure, order: tf.Tensor, first: tf.Tensor, stop: tf.Tensor
    ) -> Logs:
        def one(number: tf.Tensor, _logs: Logs) -> tuple[tf.Tensor, Logs]:
            rows = tf.slice(order, [number * self._batch_size], [self._batch_size])
            return number + 1, self._step(_take(tensors, rows))

        specs = self._step.structured_outputs
        _, logs = tf.while_loop(
            lambda number, _logs: number < stop,
            one,
            (first, keras.tree.map_structure(_nothing, specs)),
            shape_invariants=(
                tf.TensorShape([]),
                keras.tree.map_structure(lambda spec: spec.shape, specs),
            ),
            parallel_iterations=1,
        )
        return logs


def _any_rows(tensor: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)


def _nothing(spec: Any) -> tf.Tensor:
    """Return zeros of a shape that a step of the user's own may have left open."""
    rank = spec.shape.rank
    return tf.zeros([size or 0 for size in spec.shape] if rank else [], spec.dtype)


def _take(tensors: Structure, rows: tf.Tensor) -> Structure:
    return keras.tree.map_structure(lambda tensor: tf.gather(tensor, rows), tensors)


def _own_gradients(definition: Any) -> Iterator[str]:
    """Name the custom gradients of a graph and of its loops and branches.

    Those of functions that it calls are the functions': who calls them again may need them.
    """
    functions = {each.signature.name: each.node_def for each in definition.library.function}
    nodes = list(definition.node)
    while nodes:
        node = nodes.pop()
        if node.op == "IdentityN":
            yield node.attr["_gradient_op_type"].s.decode()
        elif not node.op.endswith("PartitionedCall"):
            for value in node.attr.values():
                for body in [value.func, *value.list.func]:
                    nodes += functions.get(body.name, ())


def all_nodes(definition: Any) -> list[Any]:
    """Return the operations of a `GraphDef` and of its functions."""
    functions = (node for function in definition.library.function for node in function.node_def)
    return [*definition.node, *functions]


def _choose(operations: Iterable[str]) -> Compiler:
    """Choose by the step's operations, not by a trial: a trial could end differently next time.

    XLA rounds differently, so that a run would no longer repeat bit for bit.
    """
    if tf.config.list_physical_devices("GPU"):
        return Compiler.TENSORFLOW  # there Keras' own `jit_compile` has decided
    slow = any(map(_SLOW_IN_XLA.search, operations))
    return Compiler.TENSORFLOW if slow else Compiler.XLA
