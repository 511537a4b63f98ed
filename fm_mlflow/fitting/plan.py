"""What a fit is to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """The numbers that say which examples each step sees.

    Attributes:
        epochs: The epoch to end with.
        initial_epoch: Epochs that were done before.
        batch_size: Examples a step.
        seed: With the number of an epoch, it decides the epoch's order.
    """

    epochs: int
    initial_epoch: int
    batch_size: int
    seed: int

    def steps(self, examples: int) -> int:
        """Return the steps of an epoch, its smaller last one included."""
        return -(-examples // self.batch_size)
