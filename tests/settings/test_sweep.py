"""Settings of a sweep: rungs, bounds, and what is refused before anything starts."""

from __future__ import annotations

from typing import Any

import pytest

from fm_mlflow.errors import InputError
from fm_mlflow.settings.base import parse
from fm_mlflow.settings.sweep import SweepConfig, TrialsConfig
from tests.processes import command_in_this_process


@pytest.mark.parametrize(
    ("settings", "rungs"),
    [
        ({"epochs": 5}, (1, 2, 5)),
        ({"epochs": 4}, (1, 2, 4)),
        ({"epochs": 5, "min_epochs": 2}, (2, 5)),
        ({"epochs": 1}, (1,)),
        ({"epochs": 20, "min_epochs": 20}, (20,)),
        ({"epochs": 27}, (1, 2, 4, 8, 16, 27)),
    ],
)
def test_rungs_double(settings: dict[str, int], rungs: tuple[int, ...]) -> None:
    assert SweepConfig(**settings).rungs == rungs


def test_bounds_are_of_what_is_known_before_training() -> None:
    config = SweepConfig(max_flops=1e6, max_size_mib=2)
    assert config.bounds == {"flops/inference": 1e6, "size/inference_mib": 2}
    assert not SweepConfig(cost="memory/peak_rss_mib").is_warm


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"validation_split": 0}, "the test set selects nothing"),
        ({"metric": "test_accuracy"}, "a metric of the validation data"),
        ({"min_epochs": 6}, "up to --epochs: 5"),
        ({"space": "width"}, "name=low:high"),
        ({"model": "cnn?dense"}, "model.name=value"),
        ({"cost": "latency/p50_ms"}, "flops/inference, flops/training"),
        ({"trials": 0}, "a whole number from 1"),
    ],
)
def test_what_a_sweep_does_not_take_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse(SweepConfig, settings)


def test_the_command_refuses_the_test_set_with_exit_code_2() -> None:
    code, out, err = command_in_this_process("sweep", "--validation-split", "0")
    assert (code, out) == (2, "")
    assert err.startswith("fm-mlflow: validation_split: received 0")


def test_pieces_of_a_process_are_read() -> None:
    assert TrialsConfig(runs="a:1,b:12").pieces == {"a": 1, "b": 12}
    for runs in ("", "a", "a:x", "../a:1"):
        with pytest.raises(InputError):
            _ = TrialsConfig(runs=runs).pieces
