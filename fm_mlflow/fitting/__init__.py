"""The training loop, behind one function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fm_mlflow.process.lazy import lazy_names

if TYPE_CHECKING:
    from fm_mlflow.fitting.compiled import (
        Ahead as Ahead,
        Evaluate as Evaluate,
        compile_ahead as compile_ahead,
    )
    from fm_mlflow.fitting.early_stop import Stop as Stop
    from fm_mlflow.fitting.examples import Examples as Examples, epoch_order as epoch_order
    from fm_mlflow.fitting.loop import FitResult as FitResult, fit as fit
    from fm_mlflow.fitting.metric_names import MetricNames as MetricNames
    from fm_mlflow.fitting.reporter import OnBatch as OnBatch, OnEpoch as OnEpoch

# Imported on first use: the loop needs TensorFlow, what a callback takes from here does not.
_HOMES = {
    "Ahead": "compiled",
    "Evaluate": "compiled",
    "Examples": "examples",
    "FitResult": "loop",
    "MetricNames": "metric_names",
    "OnBatch": "reporter",
    "OnEpoch": "reporter",
    "Stop": "early_stop",
    "compile_ahead": "compiled",
    "epoch_order": "examples",
    "fit": "loop",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
