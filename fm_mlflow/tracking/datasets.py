"""Data sets as MLflow describes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow

from fm_mlflow.data.dataset import Subset

_MAX_DIGEST_LENGTH = 36


def describe_dataset(name: str, subset: Subset, source: str) -> dict[str, Any]:
    """Return MLflow's description of a data set as plain values.

    Args:
        name: Its name.
        subset: Its contents; only shape, type and digest are described.
        source: Folder or library that it came from.
    """
    dataset = mlflow.data.from_numpy(  # type: ignore[attr-defined]  # set at import time
        subset.images,
        targets=subset.labels,
        source=_dataset_source(source),
        name=name,
        digest=short_digest(subset),
    )
    return dict(dataset.to_dict())


def short_digest(subset: Subset) -> str:
    """Return as much of a digest as MLflow takes."""
    return subset.digest[:_MAX_DIGEST_LENGTH]


def _dataset_source(source: str) -> Any:
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.sources import (  # type: ignore[attr-defined]  # made at import time
        LocalArtifactDatasetSource,
    )

    if Path(source).is_dir():
        return LocalArtifactDatasetSource(str(Path(source).resolve()))
    return CodeDatasetSource(tags={"source": source})
