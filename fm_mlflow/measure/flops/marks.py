"""Marks in the names of operations that say which layer made them.

Keras' own name scopes cannot say it: TensorFlow makes them unique by numbers, as Keras does with
the names of layers, so that `conv2d_1` may be the first layer or the second. While a model is
traced, each call of a layer therefore runs in a name scope of its own, which the gradients' names
repeat.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import keras
import tensorflow as tf

from fm_mlflow.measure.flops.rows import Row, layer_rows, optimizers

_MARK = re.compile(r"fmL(\d+)c(\d+)")

BACKWARD_SCOPE = "fmG"
"""Name scope of what is traced while a tape computes gradients, forward passes done again too."""


@dataclass
class Marks:
    """The rows of a model's table, and the patches that mark their operations."""

    rows: list[Row] = field(default_factory=list)
    _calls: Iterator[int] = field(default_factory=itertools.count)

    @contextmanager
    def applied(self, model: keras.Model) -> Iterator[None]:
        """Mark what is traced inside: layers, loss, optimizers, metrics, gradients."""
        with ExitStack() as stack:
            for row in layer_rows(model):
                # What is called in place of `call` once the layer is quantized.
                is_quantized = getattr(row.layer, "quantization_mode", None) is not None
                methods = ("call", "quantized_call") if is_quantized else ("call",)
                stack.enter_context(self._mark(row, row.layer, *methods))
            if model.compiled:
                stack.enter_context(self._mark(Row("(loss)", ""), model, "compute_loss"))
                stack.enter_context(self._mark(Row("(metrics)", ""), model, "compute_metrics"))
            for name, optimizer in optimizers(model).items():
                row = Row(name, type(optimizer).__name__, is_container=True)
                stack.enter_context(self._mark(row, optimizer, "apply"))
            stack.enter_context(_marked_gradients())
            yield

    @contextmanager
    def _mark(self, row: Row, owner: Any, *methods: str) -> Iterator[None]:
        """Let methods of one object run in a name scope that says whose they are."""
        number = len(self.rows)
        self.rows.append(row)

        def marked(original: Callable[..., Any]) -> Callable[..., Any]:
            @wraps(original)
            def call(*args: Any, **kwargs: Any) -> Any:
                with tf.name_scope(f"fmL{number}c{next(self._calls)}"):
                    outputs = original(*args, **kwargs)
                _give_batch_size(outputs, (args, kwargs))
                row.output_shape = row.output_shape or _shapes(outputs)
                return outputs

            return call

        # Not by setattr: Keras would take notice, and a class may define a slot of its own.
        attributes = vars(owner)
        before = {name: attributes[name] for name in methods if name in attributes}
        attributes.update({name: marked(getattr(owner, name)) for name in methods})
        try:
            yield
        finally:
            for name in methods:
                del attributes[name]
            attributes.update(before)


def _give_batch_size(outputs: Any, inputs: Any) -> None:
    """Let the outputs of a layer on texts have as many rows as there are texts.

    TensorFlow forgets that when it splits texts into words. What is traced here is never run.
    """
    texts = (each for each in tf.nest.flatten(inputs) if _is_text(each))
    rows = next((text.shape[0] for text in texts if text.shape.rank), None)
    if rows is None:
        return
    for output in tf.nest.flatten(outputs):
        if tf.is_tensor(output) and output.shape.rank and output.shape[0] is None:
            output.set_shape((rows, *output.shape[1:]))


def _is_text(each: Any) -> bool:
    return isinstance(each, tf.Tensor) and each.dtype == tf.string


@contextmanager
def _marked_gradients() -> Iterator[None]:
    """Name what tapes trace: a custom gradient or a forward pass done again has no other sign."""
    original = tf.GradientTape.gradient

    @wraps(original)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        with tf.name_scope(BACKWARD_SCOPE):
            return original(*args, **kwargs)

    tf.GradientTape.gradient = gradient
    try:
        yield
    finally:
        tf.GradientTape.gradient = original


def call_of(name: str) -> tuple[int | None, int]:
    """Return the row and (as a bit) the call of an operation's innermost mark; else None, 0."""
    found = _MARK.findall(name)
    return (int(found[-1][0]), 1 << int(found[-1][1])) if found else (None, 0)


def _shapes(outputs: Any) -> str:
    shapes = [
        (None, *value.shape[1:]) for value in keras.tree.flatten(outputs) if hasattr(value, "shape")
    ]
    return str(shapes[0] if len(shapes) == 1 else shapes) if shapes else ""
