"""Choose models by what they cost as well as by what they score, on MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fm_mlflow.process.lazy import lazy_names

if TYPE_CHECKING:
    from fm_mlflow.commands.benchmark import benchmark as benchmark
    from fm_mlflow.commands.compare import compare as compare
    from fm_mlflow.commands.doctor import doctor as doctor
    from fm_mlflow.commands.measure_model import measure_model as measure_model
    from fm_mlflow.commands.predict import predict as predict
    from fm_mlflow.commands.reconcile import reconcile as reconcile
    from fm_mlflow.commands.register import (
        list_versions as list_versions,
        register as register,
        rollback as rollback,
    )
    from fm_mlflow.commands.resume import resume as resume
    from fm_mlflow.commands.runs import runs as runs
    from fm_mlflow.commands.sweep import sweep as sweep
    from fm_mlflow.commands.sync import sync as sync
    from fm_mlflow.commands.track import track as track
    from fm_mlflow.commands.train import train as train
    from fm_mlflow.errors import (
        ComparisonError as ComparisonError,
        DataError as DataError,
        FmMlflowError as FmMlflowError,
        InputError as InputError,
        Interrupted as Interrupted,
        ModelError as ModelError,
        TrackingError as TrackingError,
        TrainingError as TrainingError,
    )
    from fm_mlflow.results.benchmark import (
        BenchmarkError as BenchmarkError,
        BenchmarkResult as BenchmarkResult,
        BenchmarkTraining as BenchmarkTraining,
    )
    from fm_mlflow.results.compare import CompareResult as CompareResult
    from fm_mlflow.results.doctor import DoctorResult as DoctorResult
    from fm_mlflow.results.measure import Measurements as Measurements
    from fm_mlflow.results.predict import PredictResult as PredictResult
    from fm_mlflow.results.recovery import (
        ReconcileResult as ReconcileResult,
        SyncResult as SyncResult,
    )
    from fm_mlflow.results.register import GateError as GateError, Registration as Registration
    from fm_mlflow.results.sweep import (
        Finalist as Finalist,
        SweepResult as SweepResult,
        SweepTrial as SweepTrial,
    )
    from fm_mlflow.results.train import TrainResult as TrainResult
    from fm_mlflow.scripts.cost_callback import CostCallback as CostCallback
    from fm_mlflow.settings.config import (
        BenchmarkConfig as BenchmarkConfig,
        TrainConfig as TrainConfig,
    )
    from fm_mlflow.settings.registered import (
        PredictConfig as PredictConfig,
        RegisterConfig as RegisterConfig,
    )
    from fm_mlflow.settings.selection import CompareConfig as CompareConfig
    from fm_mlflow.settings.space import Each as Each, Float as Float, Int as Int, OneOf as OneOf
    from fm_mlflow.settings.sweep import SweepConfig as SweepConfig

__version__ = "0.1.0"

# Where the public names live; imported on first use, so that `import fm_mlflow` costs nothing.
_NAMES = {
    "settings.config": "BenchmarkConfig TrainConfig",
    "settings.registered": "PredictConfig RegisterConfig",
    "errors": "ComparisonError DataError FmMlflowError InputError Interrupted ModelError "
    "TrackingError TrainingError",
    "results.benchmark": "BenchmarkError BenchmarkResult BenchmarkTraining",
    "results.compare": "CompareResult",
    "results.doctor": "DoctorResult",
    "results.measure": "Measurements",
    "results.predict": "PredictResult",
    "results.recovery": "ReconcileResult SyncResult",
    "results.register": "GateError Registration",
    "results.sweep": "Finalist SweepResult SweepTrial",
    "results.train": "TrainResult",
    "settings.selection": "CompareConfig",
    "settings.space": "Each Float Int OneOf",
    "settings.sweep": "SweepConfig",
    "commands.benchmark": "benchmark",
    "commands.compare": "compare",
    "commands.doctor": "doctor",
    "commands.measure_model": "measure_model",
    "commands.predict": "predict",
    "commands.reconcile": "reconcile",
    "commands.register": "list_versions register rollback",
    "commands.resume": "resume",
    "commands.runs": "runs",
    "commands.sweep": "sweep",
    "commands.sync": "sync",
    "commands.track": "track",
    "commands.train": "train",
    "scripts.cost_callback": "CostCallback",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}

__getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
