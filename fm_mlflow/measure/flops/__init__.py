"""FLOPs, counted in the graphs that TensorFlow executes.

A profiler in four parts: `formulas` (the formula table), `engine` on `graph` (the walk), `table`
(results by layer, CSV) and `profile` (what a user calls). `registered` takes formulas of a user's
own. `keras_flops_compat` is a second witness of one prediction.
"""

from fm_mlflow.measure.flops.profile import profile_flops
from fm_mlflow.measure.flops.registered import register_formula
from fm_mlflow.measure.flops.result import FlopsProfile

__all__ = ["FlopsProfile", "profile_flops", "register_formula"]
