"""What a model was compiled with: its loss, optimizers and metrics, checked and described."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras.optimizers.schedules import LearningRateSchedule
from numpy.typing import NDArray

from fm_mlflow import keys
from fm_mlflow.fitting import MetricNames
from fm_mlflow.measure.flops.rows import own_optimizers
from fm_mlflow.training.user_source import UnfitError, accepting

if TYPE_CHECKING:
    from fm_mlflow.training.output_kind import OutputKind

_LOSS = "a model compiled with a loss for class numbers, such as sparse_categorical_crossentropy"
_STEPS = ("train_step", "test_step", "compute_metrics")
_DEFAULT_OPTIMIZER = "rmsprop"
"""That of `keras.Model.compile`."""

_SHIFT = 3.0
_SAME = 1e-4
_SCHEDULE = (
    "a learning-rate schedule that Keras can describe; {} needs `def get_config(self)`, which "
    "returns the arguments of its __init__"
)
_OPTIMIZER = (
    "an optimizer that Keras can save and make again, unlike this {}: its class and its schedule's "
    "need get_config() and @keras.saving.register_keras_serializable(), a learning rate is a "
    "number or a LearningRateSchedule"
)


def params_of(model: keras.Model) -> dict[str, Any]:
    """Return optimizer, loss and learning rate that the author compiled the model with.

    Raises:
        UnfitError: An optimizer or its schedule cannot be described, so that the model could not
            be loaded; says what to add.
    """
    for each in own_optimizers(model).values():
        _check_optimizer(each)
    return compiled_params(model)


def compiled_params(model: keras.Model) -> dict[str, Any]:
    """Return optimizer, loss and learning rate that a model was compiled with, unchecked."""
    used = _without_default(model, own_optimizers(model))
    rates = {key: _described(each) for key, each in used.items()}
    params: dict[str, Any] = {"loss": _name(model.loss)}
    if len(rates) == 1:
        ((kind, rate),) = rates.values()
        if isinstance(rate, float):
            return {"optimizer": kind, **params, "learning_rate": rate}
        return {"optimizer": kind if rate is None else f"{kind} ({rate})", **params}
    each = [
        f"{key.strip('()').removeprefix('optimizer ')}: {kind} ({rate})"
        for key, (kind, rate) in rates.items()
    ]
    return {"optimizer": ", ".join(each) or "none", **params}


def _without_default(model: keras.Model, optimizers: dict[str, Any]) -> dict[str, Any]:
    """Leave out what `super().compile()` made without being asked, beside optimizers of its own."""
    default = keras.optimizers.get(_DEFAULT_OPTIMIZER).get_config()
    others = {key: each for key, each in optimizers.items() if each is not model.optimizer}
    if not others or not is_own(model, "compile") or model.optimizer is None:
        return optimizers
    config = {**_inner(model.optimizer).get_config(), "name": default["name"]}
    return others if config == default else optimizers


def _name(loss: Any) -> str:
    """Return what a loss is called: the same in each process, in any spelling."""
    (loss, *more) = keras.tree.flatten(loss) or [None]
    if isinstance(loss, partial):
        loss = loss.func
    name = loss if isinstance(loss, str) else getattr(loss, "name", getattr(loss, "__name__", None))
    name = "none" if loss is None else name or type(loss).__name__
    return ", ".join([name, *map(_name, more)])


def _check_optimizer(optimizer: Any) -> None:
    inner = _inner(optimizer)
    for schedule in _schedules(inner):
        with accepting(_SCHEDULE.format(type(schedule).__name__)):
            schedule.get_config()
    with accepting(_OPTIMIZER.format(type(inner).__name__)):
        keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))


def _described(optimizer: Any) -> tuple[str, float | str | None]:
    """Return an optimizer's kind, and its learning rate or the name of its schedule, if any."""
    inner = _inner(optimizer)
    kind, schedules = type(inner).__name__.lower(), _schedules(inner)
    if schedules:
        return kind, type(schedules[0]).__name__
    rate = getattr(inner, "learning_rate", None)
    # A float32 in Keras: 0.01 comes back as 0.009999999776.
    return kind, None if rate is None else float(str(np.float32(rate)))


def _inner(optimizer: Any) -> Any:
    """Return the optimizer itself: mixed precision wraps it in one that scales the loss."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _schedules(optimizer: Any) -> list[LearningRateSchedule]:
    return [each for each in vars(optimizer).values() if isinstance(each, LearningRateSchedule)]


def loss_takes(model: keras.Model, images: NDArray[Any]) -> OutputKind | None:
    """Find out what a compiled model's loss takes, from what it does, however it was spelt.

    A loss whose value stays when all outputs of an image rise by the same amount has a softmax in
    it: it takes logits. One that grows with the logarithm of how improbable the right class was
    takes probabilities.

    Args:
        model: Compiled.
        images: As many inputs as there are classes, for a loss of the model's own that wants them.

    Returns:
        None where it does not matter to the loss, or only a step of the model's own knows.

    Raises:
        UnfitError: The loss is none for class numbers.
    """
    from fm_mlflow.training.output_kind import OutputKind  # which imports TensorFlow

    own = {each for each in (*_STEPS, "compute_loss") if is_own(model, each)}
    if model.loss is None and {"train_step", "test_step"} <= own:
        return None
    classes = len(images)
    labels = np.arange(classes, dtype=np.int32)

    def value(outputs: NDArray[Any]) -> float:
        tensor = keras.ops.convert_to_tensor(outputs, keras.config.floatx())
        loss = model.compute_loss(x=images, y=labels, y_pred=tensor, training=False)
        return float(np.mean(keras.ops.convert_to_numpy(loss)))

    def right(share: float) -> float:
        rest = np.full((classes, classes), (1 - share) / max(1, classes - 1))
        np.fill_diagonal(rest, share)
        return value(rest)

    with accepting(_LOSS):
        logits = np.random.default_rng(0).normal(scale=2, size=(classes, classes))
        before, after, flat = value(logits), value(logits + _SHIFT), value(logits * 0)
        likely, tenth, thousandth, millionth = map(right, (0.9, 1e-1, 1e-3, 1e-6))
    if likely == tenth == thousandth and "compute_loss" in own:
        return None  # it does not look at the outputs that it is given
    if classes > 1 and not likely < thousandth:
        raise UnfitError(f"{_LOSS}; its own does not fall as the right class gets likelier")
    if before != flat and abs(after - before) <= _SAME * (1 + abs(before)):
        return OutputKind.LOGITS
    is_logarithmic = millionth - thousandth > (thousandth - tenth) / 2
    return OutputKind.PROBABILITIES if is_logarithmic else None


def check_metrics(
    model: keras.Model, outputs: NDArray[Any], labels: NDArray[Any], names: MetricNames
) -> None:
    """Compute the metrics of a few images, so that what they are called is told before the run.

    A model with a step of its own may leave its metrics alone: then its first epoch tells.
    """
    if any(is_own(model, name) for name in _STEPS):
        return
    with accepting("a model compiled with metrics of class numbers and of its outputs"):
        results = model.compute_metrics(None, labels, keras.ops.convert_to_tensor(outputs))
        model.reset_metrics()
    own = [each.name for part in model.metrics for each in getattr(part, "metrics", [])]
    if keys.LOSS in own:
        raise UnfitError("a model without a metric named loss: it would hide the loss in Keras")
    names.logged(results)


def is_own(model: keras.Model, method: str) -> bool:
    """Tell whether a model's class overrides a method of Keras' own."""
    return getattr(type(model), method) is not getattr(keras.Model, method)
