"""`model.fit` on the batches of our loop, for models that change more than their steps."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from fm_mlflow.fitting.examples import Structure, epoch_order
from fm_mlflow.fitting.plan import Plan


def keras_fit(model: keras.Model, plan: Plan) -> None:
    """Fit a compiled and built model with Keras, in the order of `epoch_order`."""
    batches, reporter, on_batch = _Batches(plan), plan.reporter, plan.on_batch

    def begin(epoch: int, _logs: Any) -> None:
        reporter.start()
        batches.begin(epoch)

    def count(batch: int, logs: Any) -> None:  # noqa: ARG001  # Keras passes it by name
        if on_batch:
            on_batch(batch + 1, plan.steps)

    first = keras.callbacks.LambdaCallback(
        on_epoch_begin=begin,
        on_train_batch_end=count,
        on_test_begin=lambda _logs: reporter.end_training(),
    )
    validation = tf.data.Dataset.from_tensor_slices(plan.validation.arrays).batch(plan.batch_size)
    model.fit(
        batches,
        epochs=plan.epochs,
        initial_epoch=plan.initial_epoch,
        validation_data=validation.map(lambda *batch: plan.validation.prepare(batch)),
        callbacks=[first, *plan.callbacks],
        verbose=0,
        shuffle=False,
    )


class _Batches(keras.utils.PyDataset):  # type: ignore[misc]  # keras is untyped
    """The batches of the epoch that began last."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._arrays = plan.training.arrays
        self._plan = plan
        self.begin(plan.initial_epoch)

    def begin(self, epoch: int) -> None:
        """Take up the order of an epoch."""
        self._order = epoch_order(self._plan.seed, epoch, len(self._plan.training))

    @property
    def num_batches(self) -> int:
        return self._plan.steps

    def __getitem__(self, index: int) -> Structure:
        start = index * self._plan.batch_size
        rows = self._order[start : start + self._plan.batch_size]
        batch = keras.tree.map_structure(lambda array: array[rows], self._arrays)
        prepared = self._plan.training.prepare(batch)
        return keras.tree.map_structure(keras.ops.convert_to_numpy, prepared)
