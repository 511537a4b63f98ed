"""What a fit is to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras

from fm_mlflow.fitting.examples import Examples
from fm_mlflow.fitting.reporter import OnBatch, Reporter


@dataclass(frozen=True)
class Plan:
    """The arguments of `fit`, but for the model, and the reporter, which is its last callback."""

    training: Examples
    validation: Examples
    epochs: int
    initial_epoch: int
    batch_size: int
    seed: int
    callbacks: Sequence[keras.callbacks.Callback]
    reporter: Reporter
    on_batch: OnBatch | None
    resident_bytes: int | None

    @property
    def steps(self) -> int:
        """Training steps of an epoch, its smaller last one included."""
        return -(-len(self.training) // self.batch_size)
