"""What a model costs: one file a cost, each returning measurements."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fm_mlflow.measure.measurement import Measurement

if TYPE_CHECKING:
    from fm_mlflow.measure.flops import FlopsProfile, profile_flops

# Where each public name lives that needs TensorFlow; imported on first use.
_HOMES = {"FlopsProfile": "flops", "profile_flops": "flops"}

__all__ = ["FlopsProfile", "Measurement", "profile_flops"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
