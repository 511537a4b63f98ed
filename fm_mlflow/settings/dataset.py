"""The setting `dataset`: a built-in data set, or a file or folder of the user's own."""

from __future__ import annotations

from typing import Any

from fm_mlflow.errors import InputError

BUILTIN = ("fashion_mnist", "digits", "idx")
FROM_PYTHON = "from_python"
"""What data are called that the Python function `train` was given."""

_WITHOUT_FOLDER = {"digits": "comes with scikit-learn", FROM_PYTHON: "is what `data` holds"}
NPZ = ".npz"
ACCEPTED = (
    f"{', '.join(BUILTIN)}, a file of arrays (path/to/file.npz), or a folder of images by class "
    "(path/to/images/)"
)


def is_own(dataset: str) -> bool:
    """Tell whether a data set is a file or a folder of the user's."""
    return dataset not in (*BUILTIN, FROM_PYTHON)


def last_part(dataset: str) -> str:
    """Return the name of a data set that may be given by its path, as `mlflow run` logs it."""
    return dataset.rstrip("/").rpartition("/")[2]


def located(settings: dict[str, Any]) -> dict[str, Any]:
    """Split the path of a user's data set into its name and the folder that it is in.

    The name shapes the run, and is the same on each machine; the folder is its `data_dir`.

    Args:
        settings: As they are given; without a path they stay what they are.

    Raises:
        InputError: It can be neither a built-in data set nor a path; or its folder is given twice.
    """
    dataset, folder = settings.get("dataset"), settings.get("data_dir") or ""
    if hasattr(dataset, "__fspath__"):
        dataset = str(dataset)
    if not isinstance(dataset, str):
        return settings
    if dataset == "idx" and not folder:
        raise InputError("data_dir", folder, "the folder of the four files of 'idx'")
    if dataset in _WITHOUT_FOLDER and folder:
        accepted = f"nothing: {dataset!r} {_WITHOUT_FOLDER[dataset]}"
        raise InputError("data_dir", folder, accepted)
    if not is_own(dataset):
        return settings
    is_path = "/" in dataset
    if not dataset or not (is_path or folder or dataset.endswith(NPZ)):  # a misspelt name, say
        raise InputError("dataset", dataset, ACCEPTED, BUILTIN)
    if is_path and folder:
        accepted = f"nothing beside a path: {dataset} says where the data are"
        raise InputError("data_dir", folder, accepted)
    path, name = dataset.rstrip("/"), last_part(dataset)
    if name in ("", ".", "..") or not is_own(name):
        accepted = f"a file or folder with a name of its own; {ACCEPTED}"
        raise InputError("dataset", dataset, accepted)
    before = path[: -len(name)]
    return {**settings, "dataset": name, "data_dir": folder or before.rstrip("/") or before or "."}
