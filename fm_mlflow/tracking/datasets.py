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
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.sources import (  # type: ignore[attr-defined]  # made at import time
        LocalArtifactDatasetSource,
    )

    path = Path(source)
    dataset = mlflow.data.from_numpy(  # type: ignore[attr-defined]  # set at import time
        subset.images,
        targets=subset.labels,
        source=LocalArtifactDatasetSource(str(path.resolve()))
        if path.is_dir()
        else CodeDatasetSource(tags={"source": source}),
        name=name,
        digest=short_digest(subset),
    )
    return dict(dataset.to_dict())


def short_digest(subset: Subset) -> str:
    """Return as much of a digest as MLflow takes."""
    return subset.digest[:_MAX_DIGEST_LENGTH]
