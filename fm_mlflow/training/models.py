"""Builds the compiled Keras model that a name stands for, and checks it against the data."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fm_mlflow.data.dataset import Dataset, Subset
from fm_mlflow.data.model_io import are_probabilities, to_inputs, to_probabilities
from fm_mlflow.fitting import Evaluate, Examples, MetricNames
from fm_mlflow.fitting.keras_fit import Batches
from fm_mlflow.process.temporary import temporary_folder
from fm_mlflow.settings.config import TrainConfig
from fm_mlflow.settings.model_reference import ModelReference
from fm_mlflow.training.builtin_models import BUILDERS
from fm_mlflow.training.compilation import check_metrics, loss_takes, params_of
from fm_mlflow.training.model_arguments import argument_texts, typed_arguments
from fm_mlflow.training.output_kind import OutputKind, output_kind
from fm_mlflow.training.precision import built_with, check_precision
from fm_mlflow.training.task import check_numbers, predicts_numbers
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
_OF_CLASSES = (
    "a model of your own (module:function) that is compiled with a loss for numbers, such as "
    "mean_squared_error: the targets are {}, no class numbers from 0"
)
_WHOLE_NUMBERS = ("uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


@dataclass(frozen=True)
class BuiltModel:
    """A compiled model and how the data reach it.

    Attributes:
        model: Compiled and built; one input of shape (n, *input_shape), one output: (n, classes),
            or as many numbers as the targets have.
        input_shape: Of one example: (height, width), (features,).
        input_type: `float32` or a type of whole numbers: in what type it gets its inputs.
        class_names: In label order; empty where it predicts numbers.
        gives_logits: Its outputs are not probabilities; a softmax makes them so. None of numbers.
        params: What the run logs of it: optimizer, loss and, unless scheduled, learning rate.
        was_compiled: Its author compiled it: optimizer, loss and learning rate are the author's.
        source: What is needed to load it elsewhere.
        metric_names: What its metrics are called in the store.
        arguments: As text, what its function was called with, defaults included.
    """

    model: keras.Model
    input_shape: tuple[int, ...]
    input_type: str
    class_names: tuple[str, ...]
    gives_logits: bool | None
    params: dict[str, Any]
    was_compiled: bool
    source: UserSource
    metric_names: MetricNames
    arguments: dict[str, str] = field(default_factory=dict)

    def inputs(self, subset: Subset) -> NDArray[Any]:
        """Inputs as the model takes them (`data.model_io`), in memory, shape (n, *input_shape)."""
        return to_inputs(self._rows(subset), self.input_shape, self.input_type)

    def targets(self, subset: Subset) -> NDArray[Any]:
        """Targets as the loss takes them: class numbers, int32; or numbers."""
        return subset.targets.astype(np.int32) if self.class_names else subset.targets

    def examples(self, subset: Subset) -> Examples:
        """Inputs and targets as the training step takes them.

        Images in 8 bits, and what is not in memory, in the type that they have: the step converts
        them itself.
        """
        rows, targets = self._rows(subset), self.targets(subset)
        takes_floats = self.input_type == "float32"
        if subset.are_in_memory and not (takes_floats and subset.are_images):
            return Examples(self.inputs(subset), targets)
        if isinstance(rows, np.ndarray):
            rows = rows.reshape(len(subset), *self.input_shape)
        divisor = 255 if subset.are_images else 1
        is_as_it_is = rows.dtype == np.float32 or not takes_floats
        return Examples(rows, targets, divisor=None if is_as_it_is else divisor)

    def predict_and_evaluate(
        self, subset: Subset, batch_size: int, evaluate: Evaluate | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Return probabilities of shape (n, classes), or numbers; and what Keras evaluates.

        What is not in memory is read a batch at a time. `evaluate`, if a fit has left it, spares
        Keras from tracing the model's `test_step` once more.
        """
        if subset.are_in_memory:
            x, y, size = self.inputs(subset), self.targets(subset), batch_size
            outputs = self.model.predict(x, batch_size=size, verbose=0)
            if evaluate is not None:
                evaluated = evaluate(self.examples(subset))
            else:
                evaluated = self.model.evaluate(x, y, batch_size=size, verbose=0, return_dict=True)
        else:
            batches = Batches(self.examples(subset), batch_size)
            outputs = self.model.predict(batches, verbose=0)
            evaluated = self.model.evaluate(batches, verbose=0, return_dict=True)
        return to_probabilities(np.asarray(outputs), bool(self.gives_logits)), dict(evaluated)

    def _rows(self, subset: Subset) -> Any:
        rows = subset.inputs
        return rows.sized(self.input_shape) if hasattr(rows, "sized") else rows


def build_model(
    config: TrainConfig, dataset: Dataset, function: Callable[..., keras.Model] | None = None
) -> BuiltModel:
    """Build, check and (unless its author did) compile the model that `config.model` names.

    The random state is set from `config.seed` first, so that the weights repeat.

    Args:
        config: The run's settings.
        dataset: What the model must fit: shape of an example, classes or numbers.
        function: The function that `config.model` names, where the caller has it already.

    Raises:
        ModelError: The function cannot be found or fails, it does not return a Keras model, or the
            model's input, output or loss does not fit the data.
    """
    keras.utils.set_random_seed(config.seed)
    # Kernels repeat bit for bit on a CPU; on a GPU only in this mode.
    if tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()
    source, classes = UserSource(), dataset.numbered_classes()
    with refused_as(config.model), built_with(config.precision):
        reference = ModelReference.parse(config.model)
        if function is None and reference.name in BUILDERS:
            if not classes:
                raise UnfitError(_OF_CLASSES.format(dataset.train.targets.dtype))
            build = BUILDERS[reference.name]
            arguments = typed_arguments(build, reference.arguments)
            model = build(dataset.example_shape, len(classes), **arguments)
        else:
            function = function or find_function(reference.name)
            arguments = typed_arguments(function, reference.arguments)
            model = _call(function, arguments)
            source = source_of(function)
        check_precision(model, config.precision)
        input_shape = _check_input(model, dataset.test)
        input_type = _check_input_type(model, dataset)
        some = dataset.train.head(_EXAMPLES)
        rows = some.inputs.sized(input_shape) if hasattr(some.inputs, "sized") else some.inputs
        inputs = to_inputs(rows, input_shape, input_type)
        outputs = _call_on(model, inputs)
        was_compiled = bool(model.compiled)
        if predicts_numbers(model, outputs.shape[1:], dataset):
            classes, gives_logits, labels = (), None, some.targets
            check_numbers(model, inputs, outputs, labels)
        else:
            gives_logits = _check_classes(model, inputs, outputs, len(classes))
            labels = some.targets.astype(np.int32)
        names = MetricNames(classes)
        if was_compiled:
            params = params_of(model)
            check_metrics(model, outputs, labels, names)
        else:
            params = _compile(model, config, bool(gives_logits))
        if reference.name not in BUILDERS:
            _check_saving(model)
    return BuiltModel(
        model=model,
        input_shape=input_shape,
        input_type=input_type,
        class_names=classes,
        gives_logits=gives_logits,
        params=params,
        was_compiled=was_compiled,
        source=source,
        metric_names=names,
        arguments=argument_texts(arguments),
    )


def _call(function: Callable[..., Any], arguments: Mapping[str, Any]) -> keras.Model:
    with accepting("a function that returns a Keras model"):
        model = function(**arguments)
    if not isinstance(model, keras.Model):
        kind = type(model).__name__
        raise UnfitError(f"a function that returns a Keras model; it returned {kind}")
    return model


def _check_input(model: keras.Model, subset: Subset) -> tuple[int, ...]:
    """Return the one shape of an example that the model takes and the data can give."""
    own = tuple(map(int, subset.inputs.shape[1:]))
    channel = (*own, 1)
    try:
        declared = model.input_shape
    except AttributeError:
        # A subclassed model says nothing before its first call.
        return channel if subset.are_images and len(own) == 2 else own
    if isinstance(declared, tuple) and hasattr(subset.inputs, "sized"):
        sized = subset.inputs.sized(declared[1:])
        if sized is not None:
            return tuple(sized.shape[1:])
    shapes = [own, own[:-1] if own[-1] == 1 and len(own) > 1 else channel]
    for shape in shapes:
        if (
            isinstance(declared, tuple)
            and len(declared) == len(shape) + 1
            and all(have in (None, want) for have, want in zip(declared[1:], shape, strict=True))
        ):
            return shape
    first, second = ((None, *shape) for shape in shapes)
    raise UnfitError(f"one input of shape {first} or {second}; the model takes {declared}")


def _check_input_type(model: keras.Model, dataset: Dataset) -> str:
    """Return the type in which the model gets its inputs: its own whole numbers, or float32."""
    inputs = getattr(model, "inputs", None)
    declared = keras.backend.standardize_dtype(inputs[0].dtype) if inputs else "float32"
    if "float" in declared:
        return "float32"  # Keras casts it
    if declared not in _WHOLE_NUMBERS:
        raise UnfitError(
            f"an input of grey levels: floating-point (0 to 1), or whole numbers (0 to 255) of "
            f"type {', '.join(_WHOLE_NUMBERS)}; the model takes {declared}"
        )
    for rows in (dataset.train.inputs, dataset.test.inputs):
        if np.can_cast(rows.dtype, declared):
            continue
        limits = np.iinfo(declared)
        if rows.dtype.kind not in "iu" or rows.min() < limits.min or rows.max() > limits.max:
            kind = f"{rows.dtype} from {rows.min()} to {rows.max()}"
            raise UnfitError(f"an input that takes the data: {kind}; the model takes {declared}")
    return declared


def _call_on(model: keras.Model, inputs: NDArray[Any]) -> NDArray[Any]:
    """Call the model on a few real examples: its outputs."""
    with accepting(f"a model that takes examples of shape {inputs.shape[1:]}"):
        outputs = model(inputs, training=False)
    shape = getattr(outputs, "shape", None)
    if shape is None or len(shape) == 0 or shape[0] != len(inputs):
        raise UnfitError(f"one output for each example; the model gives {type(outputs).__name__}")
    return np.asarray(keras.ops.convert_to_numpy(outputs))


def _check_classes(
    model: keras.Model, inputs: NDArray[Any], outputs: NDArray[Any], classes: int
) -> bool:
    """Check a classifier's outputs and loss; tell whether it gives logits."""
    if outputs.shape != (len(inputs), classes):
        got = outputs.shape[1:]
        hint = " (a softmax of 2 units instead of one sigmoid)" if got == (1,) else ""
        raise UnfitError(f"one output of shape (None, {classes}){hint}; the model gives {got}")
    kind, taken = output_kind(model, inputs), None
    if model.compiled:
        taken = loss_takes(model, np.resize(inputs, (classes, *inputs.shape[1:])))
    return _gives_logits(model, outputs, kind, taken)


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
        temporary_folder() as folder,
        accepting("a model that Keras can save and load again"),
    ):
        path = folder / "model.keras"
        model.save(path)
        keras.saving.load_model(path, compile=False)
