"""`model.fit` on the batches of our loop, for models that change more than their steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from typing_extensions import override

from fm_mlflow.fitting.examples import Examples, Structure, epoch_order
from fm_mlflow.fitting.plan import Plan
from fm_mlflow.fitting.reporter import EpochClock, OnBatch


def keras_fit(
    model: keras.Model,
    training: Examples,
    validation: Examples,
    plan: Plan,
    callbacks: Sequence[keras.callbacks.Callback],
    clock: EpochClock,
    on_batch: OnBatch | None,
) -> None:
    """Fit with Keras, in the order of `epoch_order`.

    Args:
        model: Compiled and built.
        training: What it learns from.
        validation: What it is evaluated on after each epoch.
        plan: Which examples each step sees.
        callbacks: The user's, then ours.
        clock: To be told when an epoch begins and its training ends.
        on_batch: Called after each step.
    """
    batches = _Batches(training, plan)
    model.fit(
        batches,
        epochs=plan.epochs,
        initial_epoch=plan.initial_epoch,
        validation_data=_dataset(validation, plan.batch_size),
        callbacks=[_Timer(batches, clock, on_batch), *callbacks],
        verbose=0,
        shuffle=False,
    )


class _Batches(keras.utils.PyDataset):  # type: ignore[misc]  # keras is untyped
    """An epoch's batches; `epoch` says which epoch."""

    def __init__(self, examples: Examples, plan: Plan) -> None:
        super().__init__()
        self._examples = examples
        self._arrays = examples.arrays
        self._plan = plan
        self.begin(plan.initial_epoch)

    def begin(self, epoch: int) -> None:
        """Take up the order of an epoch."""
        self._order = epoch_order(self._plan.seed, epoch, len(self._examples))

    @property
    def num_batches(self) -> int:
        return self._plan.steps(len(self._examples))

    def __getitem__(self, index: int) -> tuple[Structure, ...]:
        start = index * self._plan.batch_size
        rows = self._order[start : start + self._plan.batch_size]
        batch = keras.tree.map_structure(lambda array: array[rows], self._arrays)
        prepared: tuple[Structure, ...] = keras.tree.map_structure(
            keras.ops.convert_to_numpy, self._examples.prepare(batch)
        )
        return prepared


class _Timer(keras.callbacks.Callback):  # type: ignore[misc]
    """Tells the batches which epoch it is, and the clock when its training ends."""

    def __init__(self, batches: _Batches, clock: EpochClock, on_batch: OnBatch | None) -> None:
        super().__init__()
        self._batches = batches
        self._clock = clock
        self._on_batch = on_batch

    @override
    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._clock.start()
        self._batches.begin(epoch)

    @override
    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._on_batch:
            self._on_batch(batch + 1, self.params["steps"])

    @override
    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._clock.end_training()


def _dataset(examples: Examples, batch_size: int) -> tf.data.Dataset:
    batches = tf.data.Dataset.from_tensor_slices(examples.arrays).batch(batch_size)
    return batches.map(lambda *batch: examples.prepare(batch))
