"""FLOPs of a Keras model: one prediction, one training step, a whole fit, each layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import keras

from fm_mlflow.errors import FlopsError, InputError
from fm_mlflow.measure.flops.result import FlopsProfile
from fm_mlflow.measure.flops.specs import (
    Spec,
    Structure,
    fixed_batch_size,
    input_specs,
    target_specs,
    with_batch_size,
)
from fm_mlflow.measure.measurement import whole_number
from fm_mlflow.process.garbage import own_garbage_collected


class _Counter(Protocol):
    """What counts on one backend of Keras: a module of this folder."""

    def profile_prediction(
        self,
        model: keras.Model,
        images: int,
        inputs: Structure,
        batch_size: int,
        keras_flops: bool,
        /,
    ) -> tuple[FlopsProfile, Structure]:
        """Profile a prediction of so many images; return the specs of its outputs, too."""

    def with_training(
        self, profile: FlopsProfile, model: keras.Model, steps: Mapping[str, Structure], /
    ) -> FlopsProfile:
        """Add a training step to the profile of a prediction: the first that the model takes."""


def profile_flops(
    model: keras.Model,
    batch_size: int,
    *,
    inputs: Structure = None,
    targets: Structure = None,
    data: Structure = None,
    keras_flops: bool = False,
) -> FlopsProfile:
    """Count the FLOPs of a built Keras model: a prediction and, if compiled, a training step.

    The training step is `model.train_step` as `fit` runs it: loss, gradients, optimizer, metrics.
    On TensorFlow, counted is what executes: operations that an output or the update of a variable
    needs, in called functions, branches and loops too (a loop as often as it runs). The convention
    is that of `fm_mlflow.measure.flops.formulas`. On JAX and PyTorch the backend's own counter is
    asked; `inference_method` and `method` say what it counts. Weights, optimizer state, metrics
    and random states are as before.

    Args:
        model: Built; layers may be nested, shared or frozen.
        batch_size: Images a training step.
        inputs: An example of the model's inputs, or specs of them (anything with `shape` and
            `dtype`, whose first size is replaced); needed where the model declares none, or not
            their sizes.
        targets: The same of the labels; needed where they are neither class numbers for a sparse
            loss nor of the output's shape.
        data: The same of all that `train_step` gets, where that is not (inputs, targets); without
            it and `targets`, inputs alone and (inputs, targets, weights) are tried as well.
        keras_flops: Whether to ask keras-flops, too (on TensorFlow); it takes 11 times the memory
            of the weights.

    Raises:
        InputError: The batch size is not a positive whole number, or not the model's own.
        FlopsError: The model is not built or cannot be traced, a size is unknown, or there is
            nothing to count.
    """
    batch_size = whole_number("batch_size", batch_size)
    if not model.built:
        raise FlopsError(f"the model {model.name!r} is not built", "call it once on an example")
    counter = _counter()
    fixed = fixed_batch_size(model)
    images = fixed or 1
    with own_garbage_collected():
        few_images = input_specs(model, images, inputs)
        profile, outputs = counter.profile_prediction(
            model, images, few_images, batch_size, keras_flops
        )
        if not model.compiled:
            return profile
        if data is not None:
            steps = {"what was passed as `data`": with_batch_size(data, batch_size)}
        else:
            x = input_specs(model, batch_size, inputs)
            y = target_specs(model, outputs, batch_size, targets)
            steps = _possible_steps(model, x, y, batch_size, are_known=targets is not None)
        try:
            return counter.with_training(profile, model, steps)
        except FlopsError:
            if fixed in (None, batch_size):
                raise
            accepted = f"{fixed}, which the model is built for"
            raise InputError("batch_size", batch_size, accepted) from None


def _possible_steps(
    model: keras.Model, x: Structure, y: Structure, batch_size: int, *, are_known: bool
) -> dict[str, Structure]:
    """Return what `train_step` may be given, by what it is, the likeliest first."""
    steps: dict[str, Structure] = {"(inputs, targets)": (x, y)}
    if are_known:
        return steps
    alone = {"inputs alone": x}
    # Without a loss of its own, a step has no use for targets.
    steps = {**steps, **alone} if model.loss is not None else {**alone, **steps}
    steps["(inputs, targets, weights)"] = (x, y, Spec((batch_size,), "float32"))
    return steps


def _counter() -> _Counter:
    """Import what counts on Keras' backend; of the others' frameworks none is imported."""
    name = keras.backend.backend()
    if name == "tensorflow":
        from fm_mlflow.measure.flops import tensorflow_profile

        return tensorflow_profile
    if name == "jax":
        from fm_mlflow.measure.flops import jax_profile

        return jax_profile
    if name == "torch":
        from fm_mlflow.measure.flops import torch_profile

        return torch_profile
    raise FlopsError(f"Keras' backend is {name}", "take tensorflow, jax or torch")
