"""Measuring what a training costs in less time: what the figures are makes no difference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fm_mlflow.measure import latency, training
from fm_mlflow.measure.utilization import MatmulRate, measure_matmul_rate


@contextmanager
def less_time() -> Iterator[None]:
    """Time fewer calls, and products of smaller matrices."""
    repeat = latency._repeat

    def rate(dtype: str) -> MatmulRate:
        return measure_matmul_rate(seconds=0.02, dtype=dtype)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            latency, "_repeat", lambda call, seconds, *counts: repeat(call, seconds / 20, *counts)
        )
        patch.setattr(training, "measure_matmul_rate", rate)
        yield


@pytest.fixture(autouse=True)
def quick_costs() -> Iterator[None]:
    """For all tests of a module that imports it."""
    with less_time():
        yield
