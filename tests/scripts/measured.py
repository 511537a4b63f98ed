"""What a run's `measurements.json` holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow

from tests.stores import Store


def measured(store: Store, run: mlflow.entities.Run) -> dict[str, Any]:
    path = store.client.download_artifacts(run.info.run_id, "measurements.json")
    found = json.loads(Path(path).read_text())["measurements"]
    return {each["name"]: each for each in found}
