"""The digest of data in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from fm_mlflow.data.array_digest import array_digest, arrays

NUMBERS = np.arange(6).reshape(2, 3)


def objects(*rows: Any) -> Any:
    """An array of objects, such as sequences of different lengths."""
    made = np.empty(len(rows), object)
    made[:] = rows
    return made


def test_the_digest_is_of_names_types_shapes_and_contents() -> None:
    same = [NUMBERS, pd.DataFrame(NUMBERS), NUMBERS.tolist(), np.asfortranarray(NUMBERS)]
    assert len({array_digest(each) for each in same}) == 1
    long = np.arange(5000)
    changed = long.copy()
    changed[2500] = 0  # NumPy prints the ends of a long array
    different = [
        NUMBERS,
        NUMBERS[:, ::-1],
        NUMBERS.astype("float32"),
        NUMBERS.reshape(3, 2),
        [NUMBERS, NUMBERS],
        {"a": NUMBERS},
        np.array(["2020-01-01"], "M8[D]"),
        ["a", "b"],
        ["ab", ""],
        objects(long, [1]),
        objects(changed, [1]),
    ]
    assert len({array_digest(each) for each in different}) == len(different)


def test_long_texts_are_not_padded() -> None:
    """As an array of text, this would take 40 GB."""
    assert array_digest(objects(*["a"] * 1000, "b" * 10_000_000))


def test_structures_are_arrays_by_name() -> None:
    assert isinstance(arrays([[1.0], [2.0]]), np.ndarray)
    found = arrays({"a": NUMBERS, "b": [NUMBERS, NUMBERS]})
    assert list(found) == ["a", "b/0", "b/1"]


@pytest.mark.parametrize("part", [3, object(), [[1], [1, 2]]])
def test_what_is_no_array_is_refused(part: Any) -> None:
    with pytest.raises(ValueError, match=r"no array with rows|inhomogeneous"):
        array_digest(part)
