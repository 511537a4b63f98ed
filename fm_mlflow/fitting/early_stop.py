"""How a fit ended that a callback stopped before its last epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Stop:
    """An early stop.

    Attributes:
        epoch: The last epoch that was done, from 1.
        best_epoch: The best one by what the callback monitors, else by the validation loss; None
            where neither is known.
        reason: Which callback stopped it, and why as far as it says.
    """

    epoch: int
    best_epoch: int | None
    reason: str


def kept_epoch(callbacks: Iterable[keras.callbacks.Callback]) -> int | None:
    """Return the epoch whose weights a fit that is over has restored, from 1 as Keras counts.

    Keras does so at the end of every fit with `restore_best_weights`, whether it was stopped or
    not.

    Returns:
        None where no callback of Keras' restores weights: then they are the last epoch's.
    """
    epochs = [
        int(each.best_epoch) + 1
        for each in callbacks
        if isinstance(each, keras.callbacks.EarlyStopping)
        and each.restore_best_weights
        and each.best_weights is not None
    ]
    return epochs[-1] if epochs else None  # the last of several has the last word


def stop(
    callbacks: Iterable[keras.callbacks.Callback],
    epoch: int,
    losses: Sequence[float],
    *,
    before: int = 0,
) -> Stop:
    """Describe an early stop.

    Args:
        callbacks: The user's; one of them set `stop_training`, or the model did.
        epoch: The last epoch that was done, from 1.
        losses: The validation loss of the last epochs.
        before: Epochs of earlier fits, which Keras does not count.
    """
    callbacks = list(callbacks)
    for each in callbacks:
        if isinstance(each, keras.callbacks.EarlyStopping) and each.wait >= each.patience:
            waited = "1 epoch" if each.wait == 1 else f"{each.wait} epochs"
            reason = f"EarlyStopping: {each.monitor} has not improved for {waited}"
            return Stop(epoch, before + each.best_epoch + 1, reason)
    names = dict.fromkeys(type(each).__name__ for each in callbacks)
    by = f"one of {', '.join(names)}" if len(names) > 1 else "".join(names) or "the model"
    finite = [loss if math.isfinite(loss) else math.inf for loss in losses]
    best = epoch - len(finite) + 1 + finite.index(min(finite)) if finite else None
    return Stop(epoch, best, f"stop_training was set by {by}")
