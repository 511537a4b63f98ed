"""What callbacks and models of users' own ask of the loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf

TRAIN_HOOKS = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
TEST_HOOKS = ("on_test_batch_begin", "on_test_batch_end")
# They look at each batch only where `save_freq` is a number.
_SAVERS = (keras.callbacks.ModelCheckpoint, keras.callbacks.BackupAndRestore)
# Of losses: how those of a batch become one number, and those that are one number of a batch.
_MEANS = ("sum_over_batch_size", "mean")
_OF_A_BATCH = ("circle", "dice", "tversky")
_WHOLE_FIT = ("fit", "make_train_function", "make_test_function", "evaluate")


def hears(callbacks: Iterable[keras.callbacks.Callback], hooks: Iterable[str]) -> bool:
    """Tell whether a callback wants to be called at one of these hooks."""
    return any(_hears(callback, hook) for callback in callbacks for hook in hooks)


def _hears(callback: keras.callbacks.Callback, hook: str) -> bool:
    by_epoch = getattr(callback, "save_freq", None) == "epoch"
    idle = (keras.callbacks.Callback, *(_SAVERS if by_epoch else ()))
    own = getattr(type(callback), hook, None)
    # An instance has hooks of its own in a LambdaCallback.
    return hook in vars(callback) or all(own is not getattr(kind, hook) for kind in idle)


def needs_keras_fit(model: keras.Model) -> bool:
    """Tell whether more than the step is the model's own, so that only `model.fit` will do."""
    return (
        bool(model.run_eagerly)
        or tf.distribute.has_strategy()
        or model.distribute_strategy.num_replicas_in_sync > 1
        or _overrides(model, _WHOLE_FIT)
    )


def _overrides(model: keras.Model, names: Iterable[str]) -> bool:
    return any(getattr(type(model), name) is not getattr(keras.Model, name) for name in names)


def is_mean_over_examples(model: keras.Model) -> bool:
    """Tell whether validation figures do not depend on how the examples are put in batches.

    Most of Keras' own losses and metrics weigh each example alike; one of a user's need not, what
    a layer of a user's adds to the loss need not, and of several losses Keras reports each as a
    mean over batches.
    """
    has_one_loss = isinstance(model.loss, (str, keras.losses.Loss))
    if not has_one_loss or _overrides(model, ("test_step", "compute_loss", "compute_metrics")):
        return False
    if not all(_is_of_keras(type(layer)) for layer in _layers(model)):
        return False
    try:
        config = model.get_compile_config()
    except Exception:  # Keras cannot describe a class or function of the user's
        return False
    parts = ("loss", "metrics", "weighted_metrics")
    return all(_weighs_alike(config.get(part)) for part in parts)


def _layers(layer: keras.Layer) -> Iterator[keras.Layer]:
    """Yield a layer and those within it."""
    yield layer
    wrapped = getattr(layer, "layer", None)
    for inner in [*getattr(layer, "layers", ()), *([wrapped] if wrapped is not None else ())]:
        yield from _layers(inner)


def _is_of_keras(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "keras"


def _weighs_alike(described: Any) -> bool:
    """Tell whether a serialized loss or metric, or a structure of them, is Keras' own mean."""
    if isinstance(described, dict):
        module = described.get("module", "keras")
        own = isinstance(module, str) and module.partition(".")[0] == "keras"
        is_mean = described.get("reduction", _MEANS[0]) in _MEANS
        return own and is_mean and all(_weighs_alike(value) for value in described.values())
    if isinstance(described, (list, tuple)):
        return all(_weighs_alike(value) for value in described)
    return not isinstance(described, str) or described.lower() not in _OF_A_BATCH
