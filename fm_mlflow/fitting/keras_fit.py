"""`model.fit` on the batches of our loop, for models that change more than their steps."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fm_mlflow.fitting.examples import Examples, Order, Structure, epoch_order
from fm_mlflow.fitting.plan import Plan


def keras_fit(model: keras.Model, plan: Plan) -> None:
    """Fit a compiled and built model with Keras, in the order of `epoch_order`."""
    reporter, on_batch = plan.reporter, plan.on_batch

    def order(epoch: int) -> Order:
        return epoch_order(plan.seed, epoch, len(plan.training))

    batches = Batches(plan.training, plan.batch_size, order(plan.initial_epoch))

    def begin(epoch: int, _logs: Any) -> None:
        reporter.start()
        batches.order = order(epoch)

    def count(batch: int, logs: Any) -> None:  # noqa: ARG001  # Keras passes it by name
        if on_batch:
            on_batch(batch + 1, plan.steps)

    first = keras.callbacks.LambdaCallback(
        on_epoch_begin=begin,
        on_train_batch_end=count,
        on_test_begin=lambda _logs: reporter.end_training(),
    )
    model.fit(
        batches,
        epochs=plan.epochs,
        initial_epoch=plan.initial_epoch,
        validation_data=_validation(plan),
        callbacks=[first, *plan.callbacks],
        verbose=0,
        shuffle=False,
    )


def _validation(plan: Plan) -> Any:
    examples, batch_size = plan.validation, plan.batch_size
    arrays = examples.arrays
    if all(type(each) is np.ndarray for each in keras.tree.flatten(arrays)):
        batches = tf.data.Dataset.from_tensor_slices(arrays).batch(batch_size)
        return batches.map(lambda *batch: examples.prepare(batch))
    # It would have to be in memory as a whole.
    return Batches(examples, batch_size)


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # keras is untyped
    """Examples in batches; only those of a batch are read.

    Args:
        examples: Of any kind, lazy rows too.
        batch_size: Examples a batch.
        order: Of the rows; as they come, unless it is given. It may be set anew.
    """

    def __init__(self, examples: Examples, batch_size: int, order: Order | None = None) -> None:
        super().__init__()
        self.order = np.arange(len(examples), dtype=np.int32) if order is None else order
        self._arrays = examples.arrays
        self._examples = examples
        self._batch_size = batch_size

    @property
    def num_batches(self) -> int:
        """Batches of an epoch, its smaller last one included."""
        return -(-len(self.order) // self._batch_size)

    def __getitem__(self, index: int) -> Structure:
        start = index * self._batch_size
        rows = self.order[start : start + self._batch_size]
        batch = keras.tree.map_structure(lambda array: array[rows], self._arrays)
        prepared = self._examples.prepare(batch)
        return keras.tree.map_structure(keras.ops.convert_to_numpy, prepared)
