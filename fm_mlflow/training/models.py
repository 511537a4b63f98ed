"""Builds the compiled Keras model that a name stands for, and checks it against the data."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray

from fm_mlflow import keys
from fm_mlflow.config import TrainConfig
from fm_mlflow.data.dataset import Dataset, Subset
from fm_mlflow.data.probabilities import are_probabilities
from fm_mlflow.fitting import Examples, MetricNames
from fm_mlflow.training.user_source import (
    UnfitError,
    UserSource,
    accepting,
    find_function,
    refused_as,
    source_of,
)

_CHANNELS = "channels_last"  # independent of the user's keras.json


@dataclass(frozen=True)
class BuiltModel:
    """A compiled model and how the data reach it.

    Attributes:
        model: Compiled and built; one input of shape (n, *input_shape), one output (n, classes).
        input_shape: (height, width) or (height, width, 1).
        gives_logits: Its outputs are not probabilities; a softmax makes them so.
        params: What the run logs of it: optimizer, loss and, unless scheduled, learning rate.
        was_compiled: Its author compiled it: optimizer, loss and learning rate are the author's.
        source: What is needed to load it elsewhere.
        metric_names: What its metrics are called in the store.
    """

    model: keras.Model
    input_shape: tuple[int, ...]
    gives_logits: bool
    params: dict[str, Any]
    was_compiled: bool
    source: UserSource
    metric_names: MetricNames

    def inputs(self, subset: Subset) -> NDArray[np.float32]:
        """Images as the model takes them: 0 to 1, shape (n, *input_shape)."""
        return subset.scaled.reshape(len(subset), *self.input_shape)

    def examples(self, subset: Subset) -> Examples:
        """Images and labels as the training step takes them: 8 bits, which it scales itself."""
        images = subset.images.reshape(len(subset), *self.input_shape)
        return Examples(images, subset.labels.astype(np.int32), divisor=255)

    def probabilities(self, inputs: NDArray[np.float32], batch_size: int) -> NDArray[np.float32]:
        """Predict: probabilities of shape (n, classes)."""
        outputs = self.model.predict(inputs, batch_size=batch_size, verbose=0)
        if self.gives_logits:
            outputs = keras.ops.softmax(outputs, axis=-1)
        return np.asarray(outputs)


def mlp(image_shape: tuple[int, int], classes: int) -> keras.Model:
    """Return the reference multilayer perceptron: 256 and 128 relu units, softmax."""
    return keras.Sequential(
        [
            keras.Input(image_shape),
            layers.Flatten(),
            layers.Dense(256, activation="relu"),
            layers.Dense(128, activation="relu"),
            layers.Dense(classes, activation="softmax"),
        ],
        name="mlp",
    )


def cnn(image_shape: tuple[int, int], classes: int) -> keras.Model:
    """Return the reference convolutional net: two 3x3 convolutions with pooling, 64 units."""
    return keras.Sequential(
        [
            keras.Input((*image_shape, 1)),
            layers.Conv2D(16, 3, activation="relu", data_format=_CHANNELS),
            layers.MaxPooling2D(2, data_format=_CHANNELS),
            layers.Conv2D(32, 3, activation="relu", data_format=_CHANNELS),
            layers.MaxPooling2D(2, data_format=_CHANNELS),
            layers.Flatten(data_format=_CHANNELS),
            layers.Dense(64, activation="relu"),
            layers.Dense(classes, activation="softmax"),
        ],
        name="cnn",
    )


BUILDERS: dict[str, Callable[[tuple[int, int], int], keras.Model]] = {"mlp": mlp, "cnn": cnn}


def build_model(
    config: TrainConfig, dataset: Dataset, function: Callable[[], keras.Model] | None = None
) -> BuiltModel:
    """Build, check and (unless its author did) compile the model that `config.model` names.

    The random state is set from `config.seed` first, so that the weights repeat.

    Args:
        config: The run's settings.
        dataset: What the model must fit: image shape and number of classes.
        function: The function that `config.model` names, where the caller has it already.

    Raises:
        ModelError: The function cannot be found or fails, it does not return a Keras model, or the
            model's input, output or loss does not fit the data.
    """
    keras.utils.set_random_seed(config.seed)
    # Kernels repeat bit for bit on a CPU; on a GPU only in this mode.
    if tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()
    source, names = UserSource(), MetricNames(dataset.class_names)
    with refused_as(config.model):
        if function is None and config.model in BUILDERS:
            model = BUILDERS[config.model](dataset.image_shape, len(dataset.class_names))
        else:
            function = function or find_function(config.model)
            model = _call(function)
            source = source_of(function)
        input_shape = _check_input(model, dataset.image_shape)
        outputs = _check_output(model, dataset, input_shape)
        gives_logits = not are_probabilities(outputs)
        was_compiled = bool(model.compiled)
        if was_compiled:
            params = _compiled_params(model)
            _check_loss(model, dataset, outputs, gives_logits)
            _check_metrics(model, dataset, outputs, names)
        else:
            params = _compile(model, config, gives_logits)
        _check_saving(model)
    return BuiltModel(model, input_shape, gives_logits, params, was_compiled, source, names)


def _call(function: Callable[[], Any]) -> keras.Model:
    with accepting("a function without arguments that returns a Keras model"):
        model = function()
    if not isinstance(model, keras.Model):
        kind = type(model).__name__
        raise UnfitError(f"a function that returns a Keras model; it returned {kind}")
    return model


def _check_input(model: keras.Model, image_shape: tuple[int, int]) -> tuple[int, ...]:
    """Return the one shape of an image that the model takes and the data can give."""
    channel = (*image_shape, 1)
    try:
        declared = model.input_shape
    except AttributeError:
        return channel  # a subclassed model says nothing before its first call
    for shape in (image_shape, channel):
        if (
            isinstance(declared, tuple)
            and len(declared) == len(shape) + 1
            and all(have in (None, want) for have, want in zip(declared[1:], shape, strict=True))
        ):
            return shape
    raise UnfitError(
        f"one input of shape {(None, *image_shape)} or {(None, *channel)}; "
        f"the model takes {declared}"
    )


def _check_output(
    model: keras.Model, dataset: Dataset, input_shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Call the model on two real images: its outputs, shape (2, classes)."""
    images = dataset.train.head(2)
    sample = images.scaled.reshape(len(images), *input_shape)
    classes = len(dataset.class_names)
    with accepting(f"a model that takes images of shape {input_shape}"):
        outputs = model(sample, training=False)
    shape = getattr(outputs, "shape", None)
    if shape is None or tuple(shape) != (len(sample), classes):
        got = tuple(shape[1:]) if shape is not None else type(outputs).__name__
        raise UnfitError(f"one output of shape (None, {classes}); the model gives {got}")
    return np.asarray(keras.ops.convert_to_numpy(outputs))


def _compile(model: keras.Model, config: TrainConfig, gives_logits: bool) -> dict[str, Any]:
    optimizer = keras.optimizers.get(config.optimizer)
    optimizer.learning_rate = config.learning_rate
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=gives_logits)
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    model.compile(optimizer=optimizer, loss=loss, metrics=[accuracy])
    return {
        "optimizer": config.optimizer,
        "loss": loss.name + (" (from logits)" if gives_logits else ""),
        "learning_rate": config.learning_rate,
    }


def _compiled_params(model: keras.Model) -> dict[str, Any]:
    """Return optimizer, loss and learning rate that the author compiled the model with."""
    # Mixed precision wraps the optimizer in one that scales the loss.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    loss = model.loss
    name = loss if isinstance(loss, str) else getattr(loss, "name", getattr(loss, "__name__", None))
    params = {"optimizer": optimizer.__class__.__name__.lower(), "loss": name or str(loss)}
    # Keras keeps the schedule itself under a private name; the config is its public form.
    rate = optimizer.get_config()["learning_rate"]
    if isinstance(rate, dict):
        params["optimizer"] += f" ({rate['class_name']})"
        return params
    # A float32 in Keras: 0.01 comes back as 0.009999999776.
    return {**params, "learning_rate": float(str(np.float32(rate)))}


def _check_loss(
    model: keras.Model, dataset: Dataset, outputs: NDArray[np.float32], gives_logits: bool
) -> None:
    """Compute the loss of two real images, so that an unfit loss shows before the run starts."""
    labels = dataset.train.labels[: len(outputs)].astype(np.int32)
    with accepting(
        "a model compiled with a loss for class numbers, such as sparse_categorical_crossentropy"
    ):
        model.compute_loss(y=labels, y_pred=keras.ops.convert_to_tensor(outputs), training=False)
    config = model.loss.get_config() if isinstance(model.loss, keras.losses.Loss) else {}
    expects_logits = config.get("from_logits", gives_logits)
    if model.loss == "sparse_categorical_crossentropy":
        expects_logits = False
    if expects_logits != gives_logits:
        kinds = {True: "logits", False: "probabilities"}
        raise UnfitError(
            f"a model whose loss takes what it gives; it gives {kinds[gives_logits]}, its loss "
            f"expects {kinds[expects_logits]} (from_logits)"
        )


def _check_metrics(
    model: keras.Model, dataset: Dataset, outputs: NDArray[np.float32], names: MetricNames
) -> None:
    """Compute the metrics of two real images, so that what they are called is told before the run.

    A model with a step of its own may leave its metrics alone: then its first epoch tells.
    """
    if any(
        getattr(type(model), name) is not getattr(keras.Model, name)
        for name in ("train_step", "test_step", "compute_metrics")
    ):
        return
    labels = dataset.train.labels[: len(outputs)].astype(np.int32)
    with accepting("a model compiled with metrics of class numbers and of its outputs"):
        results = model.compute_metrics(None, labels, keras.ops.convert_to_tensor(outputs))
        model.reset_metrics()
    own = [each.name for part in model.metrics for each in getattr(part, "metrics", [])]
    if keys.LOSS in own:
        raise UnfitError("a model without a metric named loss: it would hide the loss in Keras")
    names.logged(results)


def _check_saving(model: keras.Model) -> None:
    """Save and load the model once, before time is spent on one that cannot be loaded."""
    with (
        tempfile.TemporaryDirectory(prefix="fm_mlflow-") as folder,
        accepting("a model that Keras can save and load again"),
    ):
        path = Path(folder) / "model.keras"
        model.save(path)
        keras.saving.load_model(path, compile=False)
