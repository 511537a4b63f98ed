"""A Keras model in the files of an MLflow model, before any store knows of it."""

from __future__ import annotations

import importlib
import io
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import yaml
from mlflow.entities import LoggedModel

from fm_mlflow.data.model_io import (
    IMAGES,
    INPUTS,
    LOGITS,
    NUMBERS,
    OUTPUTS,
    PROBABILITIES,
)
from fm_mlflow.process.atomic_file import atomic_file
from fm_mlflow.process.quiet import ignoring_deprecations
from fm_mlflow.process.temporary import temporary_folder

if TYPE_CHECKING:
    from mlflow.models import Model

MODEL_FILE = "MLmodel"
"""The file that describes a saved model."""


def save_model(
    model: Any,
    folder: Path,
    *,
    input_example: Any,
    output_example: Any,
    class_names: tuple[str, ...],
    gives_logits: bool | None,
    takes_images: bool = False,
    code_folder: Path,
    code_files: tuple[Path, ...],
    requirements: tuple[str, ...],
) -> int | None:
    """Save a trained Keras model, with its optimizer state, as an MLflow model.

    Args:
        model: The Keras model.
        folder: An empty folder.
        input_example: A few inputs, shape (n, *input_shape), of the type that the model takes.
        output_example: The model's outputs for them, shape (n, classes) or (n, ...) of numbers.
        class_names: Travel with the model as metadata, in label order; none of numbers.
        gives_logits: Likewise; its outputs are logits, no probabilities. None of no classifier.
        takes_images: Likewise; its inputs are grey levels, scaled, no numbers of other kinds.
        code_folder: The folder that a user's own modules are imported from.
        code_files: Their source files that loading needs, relative to it.
        requirements: Packages that these need, as pip takes them.

    Returns:
        The bytes of all its files together, as MLflow counts them; None where it does not.
    """
    # Local, because they import TensorFlow: comparing and registering must not.
    with warnings.catch_warnings():  # which MLflow's modules give when they are imported
        warnings.simplefilter("ignore")
        importlib.import_module("mlflow.pyfunc")
        from mlflow.models import infer_signature

    metadata: dict[str, Any] = {"class_names": list(class_names)}
    metadata[INPUTS] = IMAGES if takes_images else NUMBERS
    if gives_logits is not None:
        metadata[OUTPUTS] = LOGITS if gives_logits else PROBABILITIES
    elif not class_names:
        metadata[OUTPUTS] = NUMBERS
    # By module, because TensorFlow's distribution goes by several names (tensorflow-cpu, …).
    modules = map(importlib.import_module, ("mlflow", "tensorflow", "keras", "numpy"))
    installed = [f"{module.__name__}=={module.__version__}" for module in modules]
    # MLflow tries the example, and Keras draws a progress bar on stdout for that.
    with (
        ignoring_deprecations(),
        redirect_stdout(io.StringIO()),
        _its_own_custom_objects(model),
        _versions_by_name(),
        _copies(code_folder, code_files) as code_paths,
    ):
        mlflow.tensorflow.save_model(
            model,
            path=str(folder),
            signature=infer_signature(_readable(input_example), _readable(output_example)),
            input_example=input_example,
            # MLflow would take 7 s to guess what loading needs.
            pip_requirements=[*installed, *requirements],
            metadata=metadata,
            code_paths=code_paths or None,
        )
    for cache in folder.rglob("__pycache__"):
        shutil.rmtree(cache, ignore_errors=True)
    size: int | None = _model_in(folder).model_size_bytes
    return size


@contextmanager
def _versions_by_name() -> Iterator[None]:
    """Let MLflow look up whether a requirement is installed by its name alone.

    It would list the files of all packages first, half a second, to know the modules of each.
    """
    module: Any = importlib.import_module("mlflow.utils.requirements_utils")
    if getattr(module, "_MODULES_TO_PACKAGES", ()) is not None:
        yield  # it knows them already, or is another version
        return
    module._MODULES_TO_PACKAGES = {}
    try:
        yield
    finally:
        module._MODULES_TO_PACKAGES = None


def _readable(example: Any) -> Any:
    """Return arrays, or a mapping of arrays, without bfloat16: MLflow can write and not read it."""
    if isinstance(example, Mapping):
        return {name: _readable(part) for name, part in example.items()}
    if getattr(example, "dtype", None) is not None and example.dtype.kind not in "fiubSUO":
        return example.astype(np.float32)
    return example


@contextmanager
def _copies(folder: Path, files: tuple[Path, ...]) -> Iterator[list[str]]:
    """Copy files into a folder of their own: of a package, MLflow would take all that is in it."""
    with temporary_folder() as place:
        for file in files:
            copy = place / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / file, copy)
        yield sorted({str(place / file.parts[0]) for file in files})


def sign_model(folder: Path, logged: LoggedModel, run_id: str) -> None:
    """Write into a saved model which logged model of which run it is."""
    model = _model_in(folder)
    if model.model_id != logged.model_id:
        model.model_id = model.model_uuid = logged.model_id
        model.artifact_path, model.run_id = logged.artifact_location, run_id
        # It lies in a journal: a process that is killed meanwhile leaves the one before.
        with atomic_file(folder / MODEL_FILE, beside=folder) as temporary:
            model.save(str(temporary))


def _model_in(folder: Path) -> Model:
    """Read what MLflow wrote; its own reader would take a folder `x%20y` for `x y`."""
    from mlflow.models import Model

    return Model.from_dict(yaml.safe_load((folder / MODEL_FILE).read_text(encoding="utf-8")))


@contextmanager
def _its_own_custom_objects(model: Any) -> Iterator[None]:
    """Hide from MLflow what other models of this process registered with Keras.

    MLflow pickles every registered object beside the model: loading would need all their modules.
    """
    import keras

    try:
        config = model.to_json()
    except (NotImplementedError, TypeError, ValueError):
        yield  # a model without a configuration may need any of them
        return
    registered = keras.saving.get_custom_objects()
    strangers = {name: each for name, each in registered.items() if name not in config}
    for name in strangers:
        del registered[name]
    try:
        yield
    finally:
        registered.update(strangers)
