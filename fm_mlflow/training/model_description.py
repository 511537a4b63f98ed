"""What a run calls a model."""

from __future__ import annotations

import re

import keras


def plain_name(model: keras.Model) -> str:
    """Return a model's name, without the number that Keras appends to a name that it made up.

    `sequential_3` is the fourth model of that class in its process, which says nothing of it.
    """
    made_up = re.fullmatch(r"(.+?)_\d+", model.name)
    if made_up and made_up[1].replace("_", "") == type(model).__name__.lower():
        return made_up[1]
    return str(model.name)
