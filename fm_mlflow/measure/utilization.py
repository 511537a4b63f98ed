"""How much of what this machine can do a training used."""

from __future__ import annotations

import itertools
import statistics
import timeit
from collections.abc import Callable
from dataclasses import dataclass

from fm_mlflow import keys
from fm_mlflow.measure.backends import backend
from fm_mlflow.measure.measurement import Measurement
from fm_mlflow.measure.quantiles import sample_quantile

_SIDES = (512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288)
_PRODUCTS = 12
_TRIALS = 3
_SHARE = 0.6


@dataclass(frozen=True)
class MatmulRate:
    """What this machine's matrix product gives, multiply and add counted as 2.

    Attributes:
        gflops: 1e9 floating-point operations a second: the best of the products. Other work only
            makes a product slower, so that the best is nearest to what the machine can do.
        side: Rows and columns of the square matrices.
        samples: How many products were timed.
        spread: Standard deviation of their rates, in GFLOP/s.
        median: Of the rates, in GFLOP/s.
        interval: 95% interval of the median by order statistics, in GFLOP/s.
        library: Whose product it is.
        dtype: Of the matrices.
    """

    gflops: float
    side: int
    samples: int
    spread: float
    median: float
    interval: tuple[float, float] | None
    library: str = "TensorFlow"
    dtype: str = "float32"


def measure_matmul_rate(seconds: float = 0.5, dtype: str = "float32") -> MatmulRate:
    """Time the product of two square matrices, by Keras' backend on its default device.

    Args:
        seconds: About how long it may take in all; decides how large the matrices are, so that
            small ones on a fast machine do not measure the call.
        dtype: Of the matrices: what the model computes in.
    """
    rates: list[float] = []
    for side, larger in itertools.zip_longest(_SIDES, _SIDES[1:]):
        multiply = backend().square_product(side, dtype)
        rates = _rates(multiply, side, _TRIALS)
        if not larger or _PRODUCTS * 2 * larger**3 / (max(rates) * 1e9) > seconds * _SHARE:
            break
    rates += _rates(multiply, side, _PRODUCTS - _TRIALS)
    median, interval = sample_quantile(rates, 0.5)
    spread = statistics.stdev(rates)
    library = backend().TITLE
    return MatmulRate(max(rates), side, len(rates), spread, median, interval, library, dtype)


def mfu_percent(
    training_core_flops_per_image: float, images_per_second: float, rate: MatmulRate
) -> Measurement:
    """Compute `utilization/mfu_percent`: the share of the matrix-product rate that training used.

    Args:
        training_core_flops_per_image: `flops/training_core`: matrix products and convolutions.
        images_per_second: `throughput/training_per_second`.
        rate: Of this machine, measured in the same run.

    Returns:
        In percent of the best product; `details` has the rates in GFLOP/s, the matrices' side, and
        their spread. Missing above 100%, which says that something else used the machine all the
        while that the rate was measured.
    """
    key = keys.MFU
    core = training_core_flops_per_image * images_per_second / 1e9
    percent = 100 * core / rate.gflops
    reason = (
        f"the training made {core:.0f} GFLOP/s, more than the {rate.gflops:.0f} of the product: "
        "something else used the machine meanwhile"
    )
    return Measurement(
        str(key),
        percent if percent <= 100 else None,
        key.unit,
        f"flops/training_core x {keys.THROUGHPUT_TRAINING} / rate of {rate.library}'s {rate.dtype} "
        f"product of {rate.side} x {rate.side} matrices, the best of {rate.samples} in this run",
        reason=None if percent <= 100 else reason,
        details={
            "training_core_gflops_per_second": core,
            "matmul_gflops_per_second": rate.gflops,
            "matmul_side": rate.side,
            "matmul_samples": rate.samples,
            "matmul_spread": rate.spread,
            "matmul_median": rate.median,
            "matmul_interval": rate.interval,
        },
    )


def _rates(multiply: Callable[[], object], side: int, products: int) -> list[float]:
    """Return the rate of each product in GFLOP/s."""
    seconds = timeit.repeat(multiply, number=1, repeat=products)
    return [2 * side**3 / each / 1e9 for each in seconds]
