"""What the process that runs a logged model imports while nobody has given it one yet."""

from __future__ import annotations

from fm_mlflow.process.garbage import rare_garbage_collection
from fm_mlflow.process.lazy import SELDOM_USED, lazy_modules
from fm_mlflow.process.quiet import import_tensorflow


def prepare() -> None:
    """Import what `fresh_process` will need."""
    with rare_garbage_collection(), lazy_modules(*SELDOM_USED):
        import_tensorflow()
        import fm_mlflow.measure
        import fm_mlflow.tracking.load_model

    # Names that are imported on first use.
    _ = fm_mlflow.measure.measure_latency, fm_mlflow.measure.profile_flops
    _ = fm_mlflow.measure.model_sizes
