"""Models that are nearly the built-in MLP: what `benchmark --seeds auto` says where little differs.

Commands, each of a benchmark:

    fm-mlflow benchmark --models mlp,benchmarks/near_equals.py:other_weights --seeds auto
    fm-mlflow benchmark --models mlp,benchmarks/near_equals.py:units_250 --seeds auto

The order of the images is the same for both.
"""

from __future__ import annotations

import random

import keras


def other_weights() -> keras.Model:
    """Return the same network; its initial weights are those of other seeds."""
    random.random()  # Keras draws the seeds of initial weights from this generator
    return _mlp(256)


def units_250() -> keras.Model:
    """Return the network with 250 instead of 256 units."""
    return _mlp(250)


def _mlp(units: int) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Flatten(),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
