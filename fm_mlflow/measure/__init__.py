"""What a model costs: one file a cost, each returning measurements."""

from fm_mlflow.measure.measurement import Measurement

__all__ = ["Measurement"]
