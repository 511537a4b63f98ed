"""The costs that a comparison weighs accuracy against, and what each depends on."""

from __future__ import annotations

from dataclasses import dataclass

from fm_mlflow import keys
from fm_mlflow.keys import Key


@dataclass(frozen=True)
class Cost:
    """One cost.

    Attributes:
        key: Logged name, unit and meaning.
        title: What a reader calls it.
        counted: It follows from model and settings alone: no run-to-run noise, any machine.
        option: Name of the setting that bounds it.
    """

    key: Key
    title: str
    counted: bool
    option: str


COSTS = (
    Cost(keys.FLOPS_TRAINING, "FLOPs to train on an image", True, "max_training_flops"),
    Cost(keys.FLOPS_INFERENCE, "FLOPs to predict an image", True, "max_flops"),
    Cost(keys.PARAMETERS_TRAINABLE, "trainable parameters", True, "max_parameters"),
    Cost(keys.MEMORY_PEAK, "peak memory", False, "max_peak_rss_mib"),
    Cost(keys.SIZE_INFERENCE, "size to predict", True, "max_size_mib"),
    Cost(keys.LATENCY_P50, "latency (median)", False, "max_latency_ms"),
    Cost(keys.FIT_SECONDS, "fit time", False, "max_fit_seconds"),
)

_TITLES: dict[str, str] = {cost.key: cost.title for cost in COSTS}


def cost_title(metric: str) -> str:
    """Return what a reader calls a cost; another metric by its logged name."""
    return _TITLES.get(metric, metric)


LOWER_IS_BETTER = frozenset({cost.key for cost in COSTS} | {keys.TEST_LOSS})
"""Metrics in which less is better; in every other more is."""
