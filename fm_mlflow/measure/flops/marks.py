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
        """Mark what is traced inside: layers, loss, optimizer, metrics."""
        with ExitStack() as stack:
            for row in layer_rows(model):
                stack.enter_context(self._mark(row, row.layer, "call"))
            if model.compiled:
                stack.enter_context(self._mark(Row("(loss)", ""), model, "compute_loss"))
                stack.enter_context(self._mark(Row("(metrics)", ""), model, "compute_metrics"))
                if model.optimizer is not None:
                    optimizer = Row("(optimizer)", type(model.optimizer).__name__)
                    stack.enter_context(self._mark(optimizer, model.optimizer, "apply"))
            yield

    @contextmanager
    def _mark(self, row: Row, owner: Any, method: str) -> Iterator[None]:
        """Let a method of one object run in a name scope that says whose it is."""
        number = len(self.rows)
        self.rows.append(row)
        original: Callable[..., Any] = getattr(owner, method)

        @wraps(original)
        def marked(*args: Any, **kwargs: Any) -> Any:
            with tf.name_scope(f"fmL{number}c{next(self._calls)}"):
                outputs = original(*args, **kwargs)
            row.output_shape = row.output_shape or _shapes(outputs)
            return outputs

        # Not by setattr: Keras would take notice, and a class may define a slot of its own.
        attributes = vars(owner)
        before = {method: attributes[method]} if method in attributes else {}
        attributes[method] = marked
        try:
            yield
        finally:
            del attributes[method]
            attributes.update(before)


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
