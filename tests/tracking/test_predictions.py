"""Predictions of numbers and of classes, honest and made to hurt."""

from __future__ import annotations

import math
import tracemalloc
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fm_mlflow.analysis.objective import Quantity
from fm_mlflow.tracking.predictions import Wanted, read_predictions
from tests.hostile_files import LABEL, PROBABILITY, Case, npz

RANDOM = np.random.default_rng(0)
TARGET = RANDOM.normal(5, 2, 300)
GIVEN = TARGET + RANDOM.normal(0, 1, 300)
NUMBERS = ("target", "prediction")
_MOST_BYTES = 20 * 1024**2


def wanted(quantity: Quantity | None, logged: float = math.nan) -> Wanted:
    return Wanted(1000, 20_000_000, quantity, logged)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "test.npz"


@pytest.mark.parametrize("shape", [(300,), (300, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_errors_are_those_of_each_example(file: Path, shape: tuple[int], dtype: type) -> None:
    target: NDArray[np.float64] = TARGET.astype(dtype)
    file.write_bytes(npz(target, GIVEN.reshape(shape), names=NUMBERS))
    predictions, errors = read_predictions(file, wanted("absolute error"))
    assert predictions is None
    assert errors is not None
    assert errors.values == pytest.approx(np.abs(GIVEN - target))
    _, squared = read_predictions(file, wanted("squared error"))
    assert squared is not None
    assert squared.values == pytest.approx((GIVEN - target) ** 2)
    assert squared.truth == errors.truth


def test_several_numbers_of_an_example_count_by_their_mean(file: Path) -> None:
    target, given = RANDOM.integers(0, 9, (50, 3)), RANDOM.normal(4, 2, (50, 3))
    file.write_bytes(npz(target[:, None], given[:, :, None], names=NUMBERS))
    _, errors = read_predictions(file, wanted("absolute error"))
    assert errors is not None
    assert errors.values == pytest.approx(np.abs(given - target).mean(axis=1))


def test_rows_of_unlike_length_are_read_together(file: Path) -> None:
    target = np.arange(900, dtype=np.uint8).repeat(800).reshape(900, 800)
    file.write_bytes(npz(target, target.astype(np.float64) + 1, names=NUMBERS))
    _, errors = read_predictions(file, wanted("squared error"))
    assert errors is not None
    assert errors.values.tolist() == [1.0] * 900


@pytest.mark.parametrize("quantity", ["correct", "cross-entropy", None])
def test_numbers_have_no_classes(file: Path, quantity: Quantity | None) -> None:
    file.write_bytes(npz(TARGET, GIVEN, names=NUMBERS))
    assert read_predictions(file, wanted(quantity)) == (None, None)


@pytest.mark.parametrize("is_cut", [True, False])
def test_a_loss_is_that_of_the_true_class(file: Path, is_cut: bool) -> None:
    probability = RANDOM.dirichlet(np.ones(10), 30)
    probability[0] = 1e-12 / 9
    probability[0, 1] = 1 - 1e-12  # its true class is 0
    file.write_bytes(npz(LABEL, probability))
    true = probability[np.arange(30), LABEL]
    losses = -np.log(np.clip(true, 1e-7, 1 - 1e-7) if is_cut else true)
    predictions, errors = read_predictions(file, wanted("cross-entropy", losses.mean()))
    assert predictions is not None
    assert errors is not None
    assert errors.values == pytest.approx(losses)
    _, nothing = read_predictions(file, wanted("correct"))
    assert nothing is None


def test_outputs_that_are_no_probabilities_have_no_losses(file: Path) -> None:
    file.write_bytes(npz(LABEL, 5 * PROBABILITY - 1))
    predictions, errors = read_predictions(file, wanted("cross-entropy", 1.0))
    assert predictions is not None
    assert errors is None


WIDE = np.zeros((2, 100_001), np.uint8)
CASES: dict[str, Case] = {
    "of other lengths": lambda: npz(TARGET[1:], GIVEN, names=NUMBERS),
    "a number more": lambda: npz(TARGET, np.stack([GIVEN, GIVEN], 1), names=NUMBERS),
    "no axes": lambda: npz(np.float64(1), np.float64(1), names=NUMBERS),
    "empty": lambda: npz(TARGET[:0], GIVEN[:0], names=NUMBERS),
    "no numbers": lambda: npz(TARGET[:, None][:, :0], GIVEN[:, None][:, :0], names=NUMBERS),
    "too many examples": lambda: npz(np.zeros(2000), np.zeros(2000), names=NUMBERS),
    "too many numbers": lambda: npz(WIDE, WIDE, names=NUMBERS),
    "NaN": lambda: npz(TARGET, GIVEN * math.nan, names=NUMBERS),
    "infinite": lambda: npz(TARGET, GIVEN * math.inf, names=NUMBERS),
    "too large": lambda: npz(TARGET, GIVEN * 1e40, names=NUMBERS),
    "infinite in both": lambda: npz(TARGET * math.inf, GIVEN * math.inf, names=NUMBERS),
    "complex": lambda: npz(TARGET, GIVEN * 1j, names=NUMBERS),
    "words": lambda: npz(TARGET, GIVEN.astype(str), names=NUMBERS),
    "dates": lambda: npz(TARGET, GIVEN.astype("M8[s]"), names=NUMBERS),
    "a target alone": lambda: npz(TARGET, GIVEN, names=("target", "probability")),
    "a bomb": cache(
        lambda: npz(
            np.zeros((1000, 900), np.uint8), np.zeros((20_000, 2000), np.uint8), names=NUMBERS
        )
    ),
}


@pytest.mark.parametrize("make", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("quantity", ["squared error", "correct"])
def test_what_is_no_such_file_is_refused(file: Path, make: Case, quantity: Quantity) -> None:
    file.write_bytes(make())
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"\w+"):
            read_predictions(file, wanted(quantity))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < _MOST_BYTES
