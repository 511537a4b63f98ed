"""Data sets as MLflow describes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np

from fm_mlflow.data.dataset import Subset

_MAX_DIGEST_LENGTH = 36


def describe_dataset(name: str, subset: Subset, source: str) -> dict[str, Any]:
    """Return MLflow's description of a data set as plain values.

    Args:
        name: Its name.
        subset: Its contents; only shape, type and digest are described.
        source: Folder or library that it came from.
    """
    inputs = subset.inputs
    if not subset.are_in_memory:  # of which MLflow looks at shape and type alone
        inputs = np.broadcast_to(np.zeros((), inputs.dtype), inputs.shape)
    return describe_arrays(name, inputs, subset.targets, short_digest(subset.digest), source)


def describe_arrays(
    name: str, inputs: Any, targets: Any, digest: str, source: str
) -> dict[str, Any]:
    """Return MLflow's description of arrays, or of mappings of arrays, as plain values."""
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.sources import (  # type: ignore[attr-defined]  # made at import time
        LocalArtifactDatasetSource,
    )

    path = Path(source)
    dataset = mlflow.data.from_numpy(  # type: ignore[attr-defined]  # set at import time
        inputs,
        targets=targets,
        source=LocalArtifactDatasetSource(str(path.resolve()))
        if path.is_dir() or (path.is_absolute() and path.is_file())
        else CodeDatasetSource(tags={"source": source}),
        name=name,
        digest=digest,
    )
    return dict(dataset.to_dict())


def short_digest(digest: str) -> str:
    """Return as much of a digest as MLflow takes."""
    return digest[:_MAX_DIGEST_LENGTH]
