"""The training loop, behind one function."""

from fm_mlflow.fitting.early_stop import Stop
from fm_mlflow.fitting.examples import Examples, epoch_order
from fm_mlflow.fitting.loop import FitResult, fit
from fm_mlflow.fitting.metric_names import MetricNames
from fm_mlflow.fitting.reporter import OnBatch, OnEpoch

__all__ = [
    "Examples",
    "FitResult",
    "MetricNames",
    "OnBatch",
    "OnEpoch",
    "Stop",
    "epoch_order",
    "fit",
]
