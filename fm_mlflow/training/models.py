"""Builds the compiled Keras model that a name stands for, and checks it against the data."""

from __future__ import annotations

import logging
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

from fm_mlflow.config import TrainConfig
from fm_mlflow.data.dataset import Dataset, Subset
from fm_mlflow.data.model_io import are_probabilities, to_inputs, to_probabilities
from fm_mlflow.fitting import Examples, MetricNames
from fm_mlflow.training.compilation import check_metrics, loss_takes, params_of
from fm_mlflow.training.output_kind import OutputKind, output_kind
from fm_mlflow.training.user_source import (
    UnfitError,
    UserSource,
    accepting,
    find_function,
    refused_as,
    source_of,
)

_log = logging.getLogger(__name__)

_EXAMPLES = 2
_WHOLE_NUMBERS = ("uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
_CHANNELS = "channels_last"  # independent of the user's keras.json


@dataclass(frozen=True)
class BuiltModel:
    """A compiled model and how the data reach it.

    Attributes:
        model: Compiled and built; one input of shape (n, *input_shape), one output (n, classes).
        input_shape: (height, width) or (height, width, 1).
        input_type: `float32`, for images of 0 to 1, or a type of whole numbers, for 0 to 255.
        gives_logits: Its outputs are not probabilities; a softmax makes them so.
        params: What the run logs of it: optimizer, loss and, unless scheduled, learning rate.
        was_compiled: Its author compiled it: optimizer, loss and learning rate are the author's.
        is_own: It is a user's own, no built-in one.
        source: What is needed to load it elsewhere.
        metric_names: What its metrics are called in the store.
    """

    model: keras.Model
    input_shape: tuple[int, ...]
    input_type: str
    gives_logits: bool
    params: dict[str, Any]
    was_compiled: bool
    is_own: bool
    source: UserSource
    metric_names: MetricNames

    def inputs(self, subset: Subset) -> NDArray[Any]:
        """Images as the model takes them (`data.model_io`), shape (n, *input_shape)."""
        return to_inputs(subset.images, self.input_shape, self.input_type)

    def examples(self, subset: Subset) -> Examples:
        """Images and labels as the training step takes them: 8 bits, which it scales itself.

        Unless the model takes whole numbers: these come as they are.
        """
        labels = subset.labels.astype(np.int32)
        if self.input_type != "float32":
            return Examples(self.inputs(subset), labels)
        images = subset.images.reshape(len(subset), *self.input_shape)
        return Examples(images, labels, divisor=255)

    def probabilities(self, inputs: NDArray[Any], batch_size: int) -> NDArray[Any]:
        """Predict: probabilities of shape (n, classes), float32 or float64."""
        outputs = np.asarray(self.model.predict(inputs, batch_size=batch_size, verbose=0))
        return to_probabilities(outputs, self.gives_logits)


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
        is_own = function is not None or config.model not in BUILDERS
        if not is_own:
            model = BUILDERS[config.model](dataset.image_shape, len(dataset.class_names))
        else:
            function = function or find_function(config.model)
            model = _call(function)
            source = source_of(function)
        input_shape = _check_input(model, dataset.image_shape)
        input_type = _check_input_type(model)
        inputs = to_inputs(dataset.train.head(_EXAMPLES).images, input_shape, input_type)
        outputs = _check_output(model, inputs, dataset)
        kind, taken = output_kind(model, inputs), None
        was_compiled = bool(model.compiled)
        if was_compiled:
            some = np.resize(inputs, (len(dataset.class_names), *input_shape))
            taken = loss_takes(model, some)
        gives_logits = _gives_logits(model, outputs, kind, taken)
        if was_compiled:
            params = params_of(model)
            labels = dataset.train.labels[: len(outputs)].astype(np.int32)
            check_metrics(model, outputs, labels, names)
        else:
            params = _compile(model, config, gives_logits)
        _check_saving(model)
    return BuiltModel(
        model=model,
        input_shape=input_shape,
        input_type=input_type,
        gives_logits=gives_logits,
        params=params,
        was_compiled=was_compiled,
        is_own=is_own,
        source=source,
        metric_names=names,
    )


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


def _check_input_type(model: keras.Model) -> str:
    """Return the type in which the model gets images: its own whole numbers, or float32."""
    inputs = getattr(model, "inputs", None)
    declared = keras.backend.standardize_dtype(inputs[0].dtype) if inputs else "float32"
    if "float" in declared:
        return "float32"  # Keras casts it
    if declared in _WHOLE_NUMBERS:
        return declared
    raise UnfitError(
        f"an input of grey levels: floating-point (0 to 1), or whole numbers (0 to 255) of type "
        f"{', '.join(_WHOLE_NUMBERS)}; the model takes {declared}"
    )


def _check_output(model: keras.Model, inputs: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    """Call the model on a few real images: its outputs, shape (n, classes)."""
    classes = len(dataset.class_names)
    with accepting(f"a model that takes images of shape {inputs.shape[1:]}"):
        outputs = model(inputs, training=False)
    shape = getattr(outputs, "shape", None)
    if shape is None or tuple(shape) != (len(inputs), classes):
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


def _gives_logits(
    model: keras.Model, outputs: NDArray[Any], kind: OutputKind | None, taken: OutputKind | None
) -> bool:
    """Tell whether a model gives logits, by its operations, else its loss, else its outputs."""
    if kind is OutputKind.SIGMOID:
        raise UnfitError(
            f"probabilities of classes that exclude each other, by a softmax, or logits; the "
            f"model gives {kind.value}, by a sigmoid"
        )
    if kind is None and taken is not OutputKind.LOGITS:
        seen = OutputKind.PROBABILITIES if are_probabilities(outputs) else OutputKind.LOGITS
        if taken is None:
            _log.warning(
                "the operations of %s do not tell whether it gives probabilities or logits; "
                "its outputs for %d images are %s",
                *(model.name, len(outputs), seen.value),
            )
        kind = seen
    kind = kind or OutputKind.LOGITS
    if taken not in (None, kind):
        raise UnfitError(
            f"a model whose loss takes what it gives; it gives {kind.value}, its loss expects "
            f"{taken.value} (from_logits)"
        )
    return kind is OutputKind.LOGITS


def _check_saving(model: keras.Model) -> None:
    """Save and load the model once, before time is spent on one that cannot be loaded."""
    with (
        tempfile.TemporaryDirectory(prefix="fm_mlflow-") as folder,
        accepting("a model that Keras can save and load again"),
    ):
        path = Path(folder) / "model.keras"
        model.save(path)
        keras.saving.load_model(path, compile=False)
