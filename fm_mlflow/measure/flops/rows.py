"""What operations are attributed to: layers, optimizers, and a model's own parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

OPTIMIZER = "(optimizer)"


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


def own_optimizers(model: keras.Model) -> dict[str, Any]:
    """The optimizers that a model's own step may use, by the names of their rows."""
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
