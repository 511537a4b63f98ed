"""The machine's matrix-product rate, and the share of it that a training used."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np
import pytest

from fm_mlflow import keys
from fm_mlflow.measure import measurement
from fm_mlflow.measure.backends import backend
from fm_mlflow.measure.machine import describe_machine
from fm_mlflow.measure.utilization import MatmulRate, measure_matmul_rate, mfu_percent


def test_rate_is_that_of_numpy_by_order_of_magnitude() -> None:
    rate = measure_matmul_rate(seconds=0.2)
    assert rate.side >= 512
    assert rate.samples >= 6
    assert rate.interval is not None
    assert rate.interval[0] <= rate.median <= rate.interval[1] <= rate.gflops
    left = np.ones((768, 768), np.float32)
    began = time.perf_counter()
    for _ in range(5):
        left @ left
    numpy_gflops = 5 * 2 * 768**3 / (time.perf_counter() - began) / 1e9
    # A busy machine slows either of them; a wrong unit is a thousand times as much or as little.
    assert numpy_gflops / 100 < rate.gflops < numpy_gflops * 100


def test_disturbed_products_do_not_lower_what_the_machine_can_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = iter(range(1000))

    def product(_side: int, _dtype: str) -> Callable[[], object]:
        # Two of three wait for somebody else.
        return lambda: time.sleep(0.05 if next(calls) % 3 else 0.005)

    monkeypatch.setattr(backend(), "square_product", product)
    rate = measure_matmul_rate(seconds=0.01)
    best = 2 * rate.side**3 / 0.005 / 1e9
    assert best / 5 < rate.gflops <= best
    assert rate.gflops > 2 * rate.median


def test_utilization_by_hand() -> None:
    rate = MatmulRate(100, side=1024, samples=12, spread=9.0, median=90, interval=(80, 95))
    # 1,000,000 FLOPs an image x 20,000 images/s = 20 GFLOP/s of 100.
    found = mfu_percent(1_000_000, 20_000, rate)
    assert found.name == keys.MFU
    assert found.unit == "%"
    assert found.value == pytest.approx(20)
    assert found.details["matmul_gflops_per_second"] == 100
    assert found.details["matmul_median"] == 90
    assert "1024 x 1024" in found.method
    json.loads(measurement.to_json([found], {}))


def test_more_than_the_machine_can_do_is_not_measured() -> None:
    found = mfu_percent(1_000_000, 120_000, MatmulRate(100, 1024, 12, 2.0, 98, None))
    assert found.value is None
    assert found.reason is not None
    assert "120 GFLOP/s, more than the 100" in found.reason


def test_machine_knows_tensorflows_threads() -> None:
    machine = describe_machine()
    assert machine.intra_op_threads is not None
    assert machine.gpus is not None
    assert "within" in machine.facts()["threads"]
