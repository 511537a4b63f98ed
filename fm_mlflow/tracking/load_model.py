"""Logged models as whoever uses them loads them: through `mlflow.pyfunc`."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import mlflow
import numpy as np
from mlflow.pyfunc import PyFuncModel
from mlflow.tracking import MlflowClient
from numpy.typing import NDArray

from fm_mlflow.data.model_io import IMAGES, INPUTS, NUMBERS, OUTPUTS
from fm_mlflow.errors import FmMlflowError, InputError
from fm_mlflow.process.redaction import one_line
from fm_mlflow.process.temporary import temporary_prefix
from fm_mlflow.tracking.find_runs import model_uri
from fm_mlflow.tracking.model_files import check_fetched, fetch_model
from fm_mlflow.tracking.predictions import MOST_CLASSES
from fm_mlflow.tracking.run_details import gives_logits
from fm_mlflow.tracking.store import check_reachable
from fm_mlflow.tracking.uris import check_literal

_RUN_ID = re.compile("[0-9a-f]{32}")

_AXES_OF_IMAGES = (2, 3)

Predict = Callable[[NDArray[Any]], NDArray[Any]]
"""Inputs to outputs of shape (n, classes)."""


class Input(NamedTuple):
    """An input of a model: its name, the shape of an example, the type."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class LoadedModel:
    """A model that predicts.

    Attributes:
        pyfunc: As MLflow loads it.
        uri: Where it came from.
        inputs: Of each input the name, the shape of an example (-1 where it is open) and the type,
            as its signature says.
        output_shape: Of the output for one example, likewise; None of several outputs.
        takes_images: Whether its inputs are images; else numbers that it takes as they are.
        is_binary: Whether its one output is of the second of two classes.
        gives_logits: Whether its outputs are logits; None where the model does not say.
        classes: Number of them; 0 where it predicts numbers.
        class_names: In label order; numbers where the model has none; empty likewise.
        run_id: The run that trained it; None where the model does not say.
        files: Its downloaded files, which are removed with it; None where it was a folder.
    """

    pyfunc: PyFuncModel
    uri: str
    inputs: tuple[Input, ...]
    output_shape: tuple[int, ...] | None
    takes_images: bool
    is_binary: bool
    gives_logits: bool | None
    classes: int
    class_names: tuple[str, ...]
    run_id: str | None
    files: TemporaryDirectory[str] | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of an example of its only input."""
        return self.inputs[0].shape

    @property
    def input_type(self) -> np.dtype[Any]:
        """Of its only input."""
        return self.inputs[0].dtype

    @property
    def keras_model(self) -> Any | None:
        """The Keras model within, None where it is none."""
        flavor = self.pyfunc.metadata.flavors.get("tensorflow") or {}
        is_keras = flavor.get("model_type") == "keras"
        return self.pyfunc.get_raw_model() if is_keras else None  # type: ignore[no-untyped-call]

    def predict(self, inputs: Any) -> NDArray[Any]:
        """Predict through MLflow: outputs of shape (n, classes), as the model gives them.

        Args:
            inputs: An array; of several inputs a dictionary of them.
        """
        (outputs,) = self.predict_all(inputs)
        return outputs

    def predict_all(self, inputs: Any) -> list[NDArray[Any]]:
        """Predict through MLflow: every output."""
        with redirect_stdout(io.StringIO()):  # Keras draws a progress bar
            outputs = self.pyfunc.predict(inputs)
        if isinstance(outputs, dict):
            return [np.asarray(each) for each in outputs.values()]
        return [np.asarray(outputs)]

    def predictor(self, batch: int) -> Predict:
        """Return the fastest call that gives the model's outputs, so many inputs at a time."""
        model = self.keras_model
        if model is None:
            return self.predict
        import tensorflow as tf

        # `model.predict` sets up a data pipeline at each call and gives the same.
        traced = tf.function(lambda inputs: model(inputs, training=False), reduce_retracing=True)

        def call(inputs: NDArray[Any]) -> NDArray[Any]:
            starts = range(0, len(inputs), batch)
            parts = [traced(tf.constant(inputs[at : at + batch])).numpy() for at in starts]
            return np.concatenate(parts)

        return call

    def input_example(self) -> Any:
        """Return the input example that was logged with the model, if any; several by name."""
        folder = self.files.name if self.files else self.uri
        example = self.pyfunc.metadata.load_input_example(folder)
        if example is None:
            return None
        if len(self.inputs) > 1:
            by_name: Any = example
            return {each.name: np.asarray(by_name[each.name], each.dtype) for each in self.inputs}
        return np.asarray(example, self.input_type)


def load_model(given: str, *, warn: bool = True) -> LoadedModel:
    """Load a model.

    Args:
        given: A URI as MLflow takes it, the id of a training run, or a folder.
        warn: Have MLflow warn of other versions than it was logged with, which takes half a second.

    Raises:
        InputError: There is no such model, or it does not take images and give classes.
        ModelChangedError: It is a version in the registry that says which files were verified, and
            has others; nothing of them was run.
        TrackingError: The store does not answer.
    """
    uri, files = given, None
    if Path(given).is_dir():
        check_literal("model", Path(given))
    try:
        if _RUN_ID.fullmatch(given):
            uri = model_uri(MlflowClient().get_run(given)) or ""
            if not uri:
                raise InputError("model", given, "a run with a logged model")
        if uri.lower().startswith("models:"):
            files = TemporaryDirectory(prefix=temporary_prefix())
            fetched = fetch_model(uri, Path(files.name))
            check_fetched(fetched)
            pyfunc = mlflow.pyfunc.load_model(str(fetched), suppress_warnings=not warn)
        else:
            pyfunc = mlflow.pyfunc.load_model(uri, suppress_warnings=not warn)
    except FmMlflowError:
        raise
    except Exception as error:  # Keras, a parser or the model's own code raise what they like
        check_reachable()
        accepted = f"a model's URI, or the id of a run, that can be loaded ({one_line(error)})"
        raise InputError("model", given, accepted) from error
    metadata = pyfunc.metadata.metadata or {}
    gives_numbers = metadata.get(OUTPUTS) == NUMBERS
    try:
        inputs, outputs = _signature(pyfunc.metadata.signature)
        (classes,) = (0,) if gives_numbers else outputs[0]
        if not gives_numbers and len(inputs) + len(outputs) > 2:
            raise ValueError(f"{len(inputs)} inputs and {len(outputs)} outputs")
    except (AttributeError, TypeError, ValueError) as error:
        accepted = (
            "a model whose signature is tensors in and out, and of classes one of each "
            f"({one_line(error)})"
        )
        raise InputError("model", given, accepted) from error
    if not (gives_numbers or 0 < classes <= MOST_CLASSES):
        accepted = f"a model of 1 to {MOST_CLASSES:,} classes; it has {classes:,}"
        raise InputError("model", given, accepted)
    logits = gives_logits({"metadata": pyfunc.metadata.metadata})
    is_binary = classes == 1 and logits is not None
    classes += is_binary
    names = metadata.get("class_names") or range(classes)
    if not isinstance(names, (list, tuple, range)) or len(names) != classes:
        accepted = f"a model whose class_names are a list of as many as it has classes, {classes}"
        raise InputError("model", given, accepted)
    return LoadedModel(
        pyfunc=pyfunc,
        uri=uri,
        inputs=inputs,
        output_shape=outputs[0] if len(outputs) == 1 else None,
        # A model of before there was a word of it: by its shape.
        takes_images=metadata.get(INPUTS, "") == IMAGES
        or (INPUTS not in metadata and len(inputs[0].shape) in _AXES_OF_IMAGES),
        is_binary=is_binary,
        gives_logits=logits,
        classes=classes,
        class_names=tuple(str(name) for name in names),
        run_id=pyfunc.metadata.run_id,
        files=files,
    )


def _signature(signature: Any) -> tuple[tuple[Input, ...], list[tuple[int, ...]]]:
    """Return the inputs, and the shape of each output for one example."""
    if signature is None or signature.outputs is None:
        raise ValueError("it has no signature")
    inputs = tuple(
        Input(str(each.name or ""), tuple(map(int, each.shape[1:])), np.dtype(each.type))
        for each in signature.inputs.inputs
    )
    outputs = [tuple(map(int, each.shape[1:])) for each in signature.outputs.inputs]
    if not inputs or not outputs:
        raise ValueError("its signature names no inputs or no outputs")
    return inputs, outputs
