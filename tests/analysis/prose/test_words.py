"""How figures read."""

from __future__ import annotations

import pytest

from fm_mlflow import keys
from fm_mlflow.analysis.prose.words import figure, nearly_equal, number
from fm_mlflow.escaping import shortened


@pytest.mark.parametrize(
    ("value", "like", "text"),
    [
        (646_958_773_499.0, None, "647 G"),
        (136_289_966_931.0, 646_958_773_499.0, "136 G"),
        (1_244_149_800_000.0, None, "1.24 T"),
        (52_855_813_077.0, 1_244_149_800_000.0, "0.05 T"),
        (2e22, None, "20,000 E"),
        (999_999_999.0, None, "999,999,999"),
        (0.0, None, "0"),
    ],
)
def test_flops_of_a_fit_are_rounded(value: float, like: float | None, text: str) -> None:
    assert number(keys.FLOPS_TRAINING_TOTAL, value, like) == text


def test_flops_of_a_fit_have_a_unit() -> None:
    assert figure(keys.FLOPS_TRAINING_TOTAL, 647e9) == "647 G FLOPs"


def test_flops_of_an_image_are_exact_counts() -> None:
    assert figure(keys.FLOPS_INFERENCE, 4_100_000_001.0) == "4,100,000,001"


@pytest.mark.parametrize(
    ("more", "less", "nearly"),
    [(1004.0, 1000.0, True), (1006.0, 1000.0, False), (0.0, 0.0, True), (1.0, 0.0, False)],
)
def test_what_reads_as_once_as_much_is_nearly_equal(more: float, less: float, nearly: bool) -> None:
    assert nearly_equal(more, less) == nearly


def test_a_shortened_text_keeps_both_ends() -> None:
    assert shortened("0123456789", 10) == "0123456789"
    assert shortened("0123456789a", 10) == "012345…89a"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        (keys.SIZE_H5, 0.0031, "0.0031 MiB"),
        (keys.SIZE_H5, 0.0229, "0.023 MiB"),
        (keys.SIZE_H5, 2.718, "2.72 MiB"),
        (keys.SIZE_H5, 0.0, "0.00 MiB"),
        (keys.MEMORY_PEAK, 1255.2, "1,255 MiB"),
        (keys.MFU, 0.043, "0.043 %"),
        (keys.MFU, 3.21, "3.2 %"),
        (keys.MFU, 32.2, "32 %"),
        (keys.THROUGHPUT_TRAINING, 0.5, "0.50 images/s"),
        (keys.THROUGHPUT_TRAINING, 25_006.0, "25,006 images/s"),
    ],
)
def test_small_figures_keep_their_digits(name: str, value: float, text: str) -> None:
    assert figure(name, value) == text
