"""What a model learns from: arrays, the order of their rows, and how they reach the device."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np
import psutil
import tensorflow as tf
from numpy.typing import NDArray

Structure = Any
"""An array or tensor, or tuples, lists and dictionaries of them."""

Order = NDArray[np.int32]

_RESIDENT_SHARE = 0.25
_WINDOW_BYTES = 32 * 1024**2


@dataclass(frozen=True)
class Examples:
    """What a model trains or validates on.

    Attributes:
        inputs: Array of shape (n, *input_shape), or tuples, lists or dictionaries of such arrays
            for a model with several inputs. Rows that are only read when they are asked for
            (`LazyRows`) are taken as well.
        labels: The same for its outputs: class numbers of shape (n,), say; None for a model that
            brings its own loss.
        weights: The same, shape (n,): how much each example counts in the loss.
        divisor: Inputs are divided by it within the training step: images of 8 bits then take a
            quarter of the memory. None leaves them as they are.
    """

    inputs: Structure
    labels: Structure = None
    weights: Structure = None
    divisor: float | None = None

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(keras.tree.flatten(self.inputs)[0])

    def weighted(self, class_weight: Mapping[int, float]) -> Examples:
        """Return the examples weighted by their class, as Keras' `class_weight` does it.

        Args:
            class_weight: Weight of each class number; 1 for those that are not in it.

        Raises:
            ValueError: They have weights already, or several labels.
        """
        if self.weights is not None or not isinstance(self.labels, np.ndarray):
            raise ValueError("class weights take one array of labels, and no other weights")
        labels = self.labels
        if labels.ndim > 1:
            labels = labels[..., 0] if labels.shape[-1] == 1 else labels.argmax(axis=-1)
        classes, rows = np.unique(labels, return_inverse=True)
        weights = np.array([class_weight.get(int(each), 1.0) for each in classes], np.float32)
        return replace(self, weights=weights[rows])

    @property
    def arrays(self) -> tuple[Structure, ...]:
        """Inputs, labels and weights, as far as there are any, as NumPy arrays.

        As in Keras, floats come in its float type, usually 32 bits. Lazy rows stay what they are.
        """
        parts = [self.inputs, self.labels, self.weights]
        while parts[-1] is None:
            parts.pop()
        return tuple(keras.tree.map_structure(_as_array, part) for part in parts)

    @property
    def kind(self) -> tuple[Any, ...]:
        """What a step that takes them is traced for: divisor, structure, types and shapes."""

        def of(array: Any) -> str:
            return f"{np.dtype(array.dtype)}{tuple(array.shape[1:])}"

        return (self.divisor, *keras.tree.map_structure(of, self.arrays))

    def prepare(self, batch: tuple[Structure, ...]) -> tuple[Structure, ...]:
        """Turn a batch of `arrays` into what the model takes: a part of the traced step."""
        if self.divisor is None:
            return batch
        dtype, divisor = keras.config.floatx(), self.divisor
        scaled = keras.tree.map_structure(lambda part: tf.cast(part, dtype) / divisor, batch[0])
        return (scaled, *batch[1:])


@runtime_checkable
class LazyRows(Protocol):
    """An array that is never in memory as a whole, such as `fm_mlflow.data.lazy_images`.

    Its rows are read by number: `rows[order]`. In a structure it is a leaf, as an array is.
    """

    shape: tuple[int, ...]
    dtype: Any
    nbytes: int
    checksums: Any


def _as_array(value: Any) -> Any:
    if isinstance(value, LazyRows):
        return value
    array = value if isinstance(value, np.memmap) else np.asarray(value)
    return array.astype(keras.config.floatx(), copy=False) if array.dtype.kind == "f" else array


def epoch_order(seed: int, epoch: int, count: int) -> Order:
    """Return the order in which an epoch sees its examples: a function of these numbers alone.

    Args:
        seed: Of the run.
        epoch: From 0.
        count: Number of examples.

    Returns:
        A permutation of 0 … count - 1, int32.
    """
    # Not default_rng: that may stand for another generator in a later NumPy.
    generator = np.random.Generator(np.random.PCG64([seed, epoch]))
    return generator.permutation(count).astype(np.int32)


@dataclass(frozen=True)
class Window:
    """A part of an epoch that is on the device.

    Attributes:
        tensors: Rows of `Examples.arrays`.
        order: Row numbers within `tensors`, in the order of training, shape (m,), int32.
        steps: Whole batches at the start of `order`.
        rest: Rows after them: the last, smaller batch.
    """

    tensors: tuple[Structure, ...]
    order: tf.Tensor
    steps: int
    rest: int


Source = Callable[[Order], Generator[Window, None, None]]
"""Gives the windows of an epoch, in its order; full windows have one shape."""


def source_of(examples: Examples, batch_size: int, resident_bytes: int | None = None) -> Source:
    """Put the examples on the device if they fit there, else bring them window by window.

    Up to `resident_bytes` may be put there at once; by default a quarter of the free memory.
    """
    arrays = examples.arrays
    size = sum(array.nbytes for array in keras.tree.flatten(arrays))
    if resident_bytes is None:
        resident_bytes = int(psutil.virtual_memory().available * _RESIDENT_SHARE)
    if size <= resident_bytes:
        tensors = keras.tree.map_structure(lambda array: tf.constant(np.asarray(array)), arrays)
        return partial(_resident, tensors, batch_size)
    rows = max(1, min(_WINDOW_BYTES, resident_bytes) * len(examples) // size)
    return partial(_streamed, arrays, batch_size, max(1, rows // batch_size))


def _resident(
    tensors: tuple[Structure, ...], batch_size: int, order: Order
) -> Generator[Window, None, None]:
    """All examples are on the device: only the order changes."""
    yield Window(tensors, tf.constant(order), *divmod(len(order), batch_size))


def _streamed(
    arrays: tuple[Structure, ...], batch_size: int, steps: int, order: Order
) -> Generator[Window, None, None]:
    """Gather rows on the host, the next window while the device works on this one."""
    rows = steps * batch_size

    def window(part: Order) -> Window:
        # Filled up with rows that no step reads: one shape, one compilation.
        filled = np.resize(part, rows)
        tensors = keras.tree.map_structure(lambda array: tf.constant(array[filled]), arrays)
        return Window(tensors, tf.range(rows, dtype=tf.int32), *divmod(len(part), batch_size))

    with ThreadPoolExecutor(1, thread_name_prefix="examples") as ahead:
        following: Future[Window] = ahead.submit(window, order[:rows])
        for start in range(rows, len(order) + rows, rows):
            ready = following.result()
            if start < len(order):
                following = ahead.submit(window, order[start : start + rows])
            yield ready
