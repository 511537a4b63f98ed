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

_MARK = re.compile(r"fmL(\d+)c(\d+)")

OPTIMIZER = "(optimizer)"
BACKWARD_SCOPE = "fmG"
"""Name scope of what is traced while a tape computes gradients, forward passes done again too."""


@dataclass
class Row:
    """Something that operations are attributed to.

    Attributes:
        name: The layer's path in nested models, or a word in parentheses.
        kind: Its class.
        layer: The layer, None for what is none.
        is_container: A model, of which only the operations between its layers count as its own.
        output_shape: What it returned when it was first called, the batch size None.
    """

    name: str
    kind: str
    layer: keras.layers.Layer | None = None
    is_container: bool = False
    output_shape: str = ""


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


def own_optimizers(model: keras.Model) -> dict[str, Any]:
    """The optimizers that a model's own step may use, likewise."""
    return {name: each for name, each in optimizers(model).items() if "/" not in name}


def optimizers(model: keras.Model) -> dict[str, Any]:
    """The optimizers of a model and of the models in it, by the names of their rows."""
    found: dict[str, Any] = {}
    inner = [row for row in layer_rows(model) if row.is_container and row.layer is not model]
    for path, owner in [("", model), *((f"{row.name}/", row.layer) for row in inner)]:
        # What Keras and TensorFlow keep beside it comes last.
        attributes = sorted(vars(owner), key=lambda each: (each != "optimizer", each[0] == "_"))
        for attribute in attributes:
            value = vars(owner)[attribute]
            values = value.values() if isinstance(value, dict) else value
            several = list(values) if isinstance(value, (list, tuple, dict)) else [value]
            for number, each in enumerate(several):
                is_new = all(each is not other for other in found.values())
                if isinstance(each, keras.optimizers.Optimizer) and is_new:
                    which = f"{path}{attribute}{f' {number}' if len(several) > 1 else ''}"
                    found[OPTIMIZER if which == "optimizer" else f"(optimizer {which})"] = each
    return found


def call_of(name: str) -> tuple[int | None, int]:
    """Return the row and (as a bit) the call of an operation's innermost mark; else None, 0."""
    found = _MARK.findall(name)
    return (int(found[-1][0]), 1 << int(found[-1][1])) if found else (None, 0)


def layer_rows(model: keras.Model) -> list[Row]:
    """A row for each layer that `model.summary(expand_nested=True)` shows, then the models."""
    rows: list[Row] = []
    models: list[Row] = []
    seen: set[int] = set()

    def walk(container: keras.Model, path: str) -> None:
        for layer in container.layers:
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            row = Row(path + layer.name, type(layer).__name__, layer)
            if isinstance(layer, keras.Model):
                walk(layer, f"{row.name}/")
                row.is_container = True
                models.append(row)
            else:
                rows.append(row)

    walk(model, "")
    own = Row(model.name, type(model).__name__, model, is_container=True)
    return [*rows, *models, own]


def _shapes(outputs: Any) -> str:
    shapes = [
        (None, *value.shape[1:]) for value in keras.tree.flatten(outputs) if hasattr(value, "shape")
    ]
    return str(shapes[0] if len(shapes) == 1 else shapes) if shapes else ""
