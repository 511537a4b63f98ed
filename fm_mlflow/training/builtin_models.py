"""The built-in models: the reference networks, of which the arguments change the sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from fm_mlflow.settings.space import Each, Int
from fm_mlflow.training.user_source import UnfitError

if TYPE_CHECKING:
    import keras

_SMALLEST_OF_CNN = 10
_CHANNELS = "channels_last"  # independent of the user's keras.json
_OF_OUTPUTS = "float32"  # whatever the other layers compute in: a softmax of 16 bits is no sum of 1


def mlp(
    shape: tuple[int, ...],
    classes: int,
    /,
    *,
    hidden: Annotated[tuple[int, ...], Each(Int(16, 512, log=True), Int(16, 256, log=True))] = (
        256,
        128,
    ),
) -> keras.Model:
    """Return a multilayer perceptron; by default the reference: 256 and 128 relu units, softmax.

    Args:
        shape: Of an example.
        classes: How many there are.
        hidden: Units of each hidden layer.
    """
    import keras
    from keras import layers

    check_sizes("hidden", hidden)
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Flatten(),
            *(layers.Dense(units, activation="relu") for units in hidden),
            layers.Dense(classes, activation="softmax", dtype=_OF_OUTPUTS),
        ],
        name="mlp",
    )


def cnn(
    shape: tuple[int, ...],
    classes: int,
    /,
    *,
    filters: Annotated[tuple[int, ...], Each(Int(4, 32, log=True), Int(8, 64, log=True))] = (
        16,
        32,
    ),
    dense: Annotated[int, Int(16, 128, log=True)] = 64,
) -> keras.Model:
    """Return a convolutional net; by default the reference: 16 and 32 filters, 64 units.

    Args:
        shape: Of an example.
        classes: How many there are.
        filters: Of each 3x3 convolution, which a pooling by 2 follows.
        dense: Units of the hidden layer.
    """
    import keras
    from keras import layers

    check_sizes("filters", filters)
    check_sizes("dense", (dense,))
    smallest = _smallest(len(filters))
    if len(shape) not in (2, 3) or min(shape[:2]) < smallest:
        accepted = f"data of images of {smallest} x {smallest} pixels or more"
        raise UnfitError(f"{accepted}; an example has the shape {shape}")
    blocks = [
        layer
        for count in filters
        for layer in (
            layers.Conv2D(count, 3, activation="relu", data_format=_CHANNELS),
            layers.MaxPooling2D(2, data_format=_CHANNELS),
        )
    ]
    return keras.Sequential(
        [
            keras.Input((*shape, 1)[:3]),
            *blocks,
            layers.Flatten(data_format=_CHANNELS),
            layers.Dense(dense, activation="relu"),
            layers.Dense(classes, activation="softmax", dtype=_OF_OUTPUTS),
        ],
        name="cnn",
    )


def check_sizes(name: str, sizes: tuple[int, ...]) -> None:
    """Refuse layers without units.

    Raises:
        UnfitError: One has none.
    """
    if min(sizes, default=1) < 1:
        raise UnfitError(f"whole numbers from 1 for {name}; received {', '.join(map(str, sizes))}")


def _smallest(convolutions: int) -> int:
    """Return the side of the smallest image of which the last pooling leaves a pixel."""
    side = 1
    for _ in range(convolutions):
        side = 2 * side + 2
    return side


BUILDERS: dict[str, Callable[..., keras.Model]] = {"mlp": mlp, "cnn": cnn}
"""Functions of an example's shape, the number of classes, and the model's arguments."""
