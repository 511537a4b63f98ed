"""Figures of a run that several processes trained."""

from __future__ import annotations

from fm_mlflow import keys
from fm_mlflow.measure.measurement import Measurement
from fm_mlflow.training.run_contents import of_parts

COSTS = [
    Measurement.single(keys.ENERGY_TRAINING, 120.5, "counters"),
    Measurement.single(keys.ENERGY_INFERENCE, 0.5, "counters"),
    Measurement.missing(keys.ENERGY_GPU_TRAINING, "counters", "there are none"),
    Measurement.single(keys.MEMORY_PEAK, 900.0, "VmHWM"),
]


def test_a_part_of_the_joules_is_not_logged_as_all_of_them() -> None:
    training, inference, gpu, memory = of_parts(COSTS, 3)
    assert training.value is None
    assert training.reason is not None
    assert "3 processes trained the run" in training.reason
    assert "120.5 J" in training.reason
    assert inference == COSTS[1]
    assert gpu == COSTS[2]
    assert (memory.value, memory.method.startswith("VmHWM; of the last of 3")) == (900.0, True)


def test_of_one_process_everything_stands() -> None:
    assert of_parts(COSTS, 1) == COSTS
