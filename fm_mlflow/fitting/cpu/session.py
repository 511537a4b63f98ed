"""A traced function in a TensorFlow session, with threads and kernels of its own.

How many threads an operation takes is a matter of the whole process in TensorFlow 2, and so is
whether oneDNN is used. A session has devices, and so threads, of its own; a graph of its own, which
can be given other kernels; and variables of its own, which take over the values of the model's and
give them back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.compat import v1
from typing_extensions import override

from fm_mlflow.fitting.cpu import onednn
from fm_mlflow.fitting.examples import Examples, Window
from fm_mlflow.fitting.steps import Compiler, Logs, Steps, all_nodes
from fm_mlflow.process.identity import usable_cores


class CannotMoveError(Exception):
    """A function uses something that does not exist in a session: a table, say."""


class SessionSteps(Steps):
    """Steps that run in a session, but for an epoch's smaller last one.

    The session takes the variables over when it begins, and gives them back when they settle.

    Args:
        step: As for `Steps`, and so are `examples`, `window` and `batch_size`. It may use
            variables; other resources not, and no Python.
        parts: In how many parts the step takes a batch. Where there are several, they keep the
            cores busy, and an operation takes one thread.
        with_onednn: Give the steps oneDNN's kernels, see `fm_mlflow.fitting.cpu.onednn`.

    Raises:
        CannotMoveError: The step uses what does not exist in a session.
        Exception: TensorFlow's, where it refuses the graph or has no kernel for it.
    """

    def __init__(
        self,
        step: Callable[[Any], Logs],
        examples: Examples,
        window: Window,
        batch_size: int,
        parts: int,
        with_onednn: bool,
    ) -> None:
        super().__init__(step, examples, window, batch_size, Compiler.TENSORFLOW)
        self._ways.append(f"batches in {parts} parts" if parts > 1 else "session")
        function = self.traced(window)
        self._outputs = function.structured_outputs
        self._variables = list(function.variables)
        graph = tf.Graph()
        with graph.as_default():
            copies = [
                v1.get_variable(
                    f"variable_{number}", each.shape, each.dtype, use_resource=True, trainable=False
                )
                for number, each in enumerate(self._variables)
            ]
            inputs, outputs, effects = self._import(function, copies, with_onednn)
            values = [v1.placeholder(each.dtype, each.shape) for each in copies]
            assigned = [v1.assign(*each) for each in zip(copies, values, strict=True)]
            reads = [each.read_value() for each in copies]
        cores = usable_cores() or 1
        config = v1.ConfigProto(
            device_count={"GPU": 0},
            intra_op_parallelism_threads=1 if parts > 1 else cores,
            inter_op_parallelism_threads=cores,
            use_per_session_threads=True,
        )
        self._session = v1.Session(graph=graph, config=config)
        self._is_in_session = False
        try:
            self._call = self._session.make_callable([outputs, effects], feed_list=inputs)
            self._assign = self._session.make_callable(assigned, feed_list=values)
            self._read = self._session.make_callable(reads)
            # TensorFlow looks for kernels when a step first runs. This one is of no effect: what it
            # does to the session's variables is gone when they are next taken over.
            self.run(window, 0, 1)
            self._is_in_session = False
        except Exception:
            self.close()
            raise

    def _import(
        self, function: Any, copies: Sequence[Any], with_onednn: bool
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """Bring a function into the graph: its arguments, results and side effects there."""
        source = function.graph
        captured = function.captured_inputs
        arguments = source.inputs[: len(source.inputs) - len(captured)]
        places = source.inputs[len(arguments) :]
        handles = {id(each.handle): number for number, each in enumerate(self._variables)}
        replaced = {}
        for value, place in zip(captured, places, strict=True):
            if id(value) in handles:
                replaced[place.name] = copies[handles[id(value)]].handle
            elif value.dtype in (tf.resource, tf.variant):
                raise CannotMoveError(place.name)
            else:
                replaced[place.name] = tf.constant(value.numpy())
        inputs = [v1.placeholder(each.dtype, each.shape) for each in arguments]
        replaced |= {each.name: new for each, new in zip(arguments, inputs, strict=True)}
        wanted = [each.name for each in (*source.outputs, *source.control_outputs)]
        definition = source.as_graph_def()
        for node in all_nodes(definition):
            if "PyFunc" in node.op:  # it could look at the variables that wait outside
                raise CannotMoveError(node.name)
        if with_onednn and onednn.use_onednn(definition):
            self._ways.append("oneDNN")
        elements = tf.graph_util.import_graph_def(
            definition, input_map=replaced, return_elements=wanted
        )
        results = len(source.outputs)
        return inputs, elements[:results], elements[results:]

    @override
    def compile(self, window: Window) -> None:
        """Do nothing: the step of no effect has brought the session so far."""

    @override
    def run(self, window: Window, first: int, count: int) -> Logs:
        if not self._is_in_session:
            self._assign(*(each.numpy() for each in self._variables))
            self._is_in_session = True
        arguments = keras.tree.flatten((window.tensors, window.order, first, first + count))
        outputs, _ = self._call(*map(np.asarray, arguments))
        return keras.tree.pack_sequence_as(self._outputs, outputs)

    @override
    def run_one(self, window: Window, number: int) -> Logs:
        self.settle()
        return super().run_one(window, number)

    @override
    def settle(self) -> None:
        if self._is_in_session:
            for variable, value in zip(self._variables, self._read(), strict=True):
                variable.assign(value)
            self._is_in_session = False

    @override
    def close(self) -> None:
        self._session.close()
