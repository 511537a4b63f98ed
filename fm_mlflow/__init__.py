"""Choose models by what they cost as well as by what they score, on MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fm_mlflow.lazy import lazy_names

if TYPE_CHECKING:
    from fm_mlflow.benchmarking import benchmark
    from fm_mlflow.comparing import compare
    from fm_mlflow.config import (
        BenchmarkConfig,
        CompareConfig,
        PredictConfig,
        RegisterConfig,
        TrainConfig,
    )
    from fm_mlflow.errors import (
        BenchmarkError,
        ComparisonError,
        DataError,
        FmMlflowError,
        GateError,
        InputError,
        Interrupted,
        ModelError,
        TrackingError,
        TrainingError,
    )
    from fm_mlflow.predicting import predict
    from fm_mlflow.reconciling import ReconcileResult, reconcile
    from fm_mlflow.registering import list_versions, register, rollback
    from fm_mlflow.registration import Registration
    from fm_mlflow.results import (
        BenchmarkResult,
        BenchmarkTraining,
        CompareResult,
        PredictResult,
        TrainResult,
    )
    from fm_mlflow.resuming import resume
    from fm_mlflow.syncing import SyncResult, sync
    from fm_mlflow.training import train

__version__ = "0.1.0"

# Where each public name lives; imported on first use, so that `import fm_mlflow` costs nothing.
_HOMES = {
    "BenchmarkConfig": "config",
    "BenchmarkError": "errors",
    "BenchmarkResult": "results",
    "BenchmarkTraining": "results",
    "CompareConfig": "config",
    "CompareResult": "results",
    "ComparisonError": "errors",
    "DataError": "errors",
    "FmMlflowError": "errors",
    "GateError": "errors",
    "InputError": "errors",
    "Interrupted": "errors",
    "ModelError": "errors",
    "PredictConfig": "config",
    "PredictResult": "results",
    "RegisterConfig": "config",
    "Registration": "registration",
    "ReconcileResult": "reconciling",
    "SyncResult": "syncing",
    "TrackingError": "errors",
    "TrainConfig": "config",
    "TrainResult": "results",
    "TrainingError": "errors",
    "benchmark": "benchmarking",
    "compare": "comparing",
    "list_versions": "registering",
    "predict": "predicting",
    "register": "registering",
    "rollback": "registering",
    "reconcile": "reconciling",
    "resume": "resuming",
    "sync": "syncing",
    "train": "training",
}

__all__ = [
    "BenchmarkConfig",
    "BenchmarkError",
    "BenchmarkResult",
    "BenchmarkTraining",
    "CompareConfig",
    "CompareResult",
    "ComparisonError",
    "DataError",
    "FmMlflowError",
    "GateError",
    "InputError",
    "Interrupted",
    "ModelError",
    "PredictConfig",
    "PredictResult",
    "ReconcileResult",
    "RegisterConfig",
    "Registration",
    "SyncResult",
    "TrackingError",
    "TrainConfig",
    "TrainResult",
    "TrainingError",
    "benchmark",
    "compare",
    "list_versions",
    "predict",
    "reconcile",
    "register",
    "resume",
    "rollback",
    "sync",
    "train",
]


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
