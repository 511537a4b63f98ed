"""What a run says of a model that somebody compiled: its name, optimizer and loss."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np


def plain_name(model: keras.Model) -> str:
    """Return a model's name, without the number that Keras appends to a name that it made up.

    `sequential_3` is the fourth model of that class in its process, which says nothing of it.
    """
    made_up = re.fullmatch(r"(.+?)_\d+", model.name)
    if made_up and made_up[1].replace("_", "") == type(model).__name__.lower():
        return made_up[1]
    return str(model.name)


def compiled_params(model: keras.Model) -> dict[str, Any]:
    """Return optimizer, loss and learning rate that the author compiled the model with."""
    # Mixed precision wraps the optimizer in one that scales the loss.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    loss = model.loss
    name = loss if isinstance(loss, str) else getattr(loss, "name", getattr(loss, "__name__", None))
    params = {"optimizer": optimizer.__class__.__name__.lower(), "loss": name or str(loss)}
    # Keras keeps the schedule itself under a private name; the config is its public form.
    rate = optimizer.get_config()["learning_rate"]
    if isinstance(rate, dict):
        params["optimizer"] += f" ({rate['class_name']})"
        return params
    # A float32 in Keras: 0.01 comes back as 0.009999999776.
    return {**params, "learning_rate": float(str(np.float32(rate)))}
