"""Single checks of a verification; the whole of it is in tests/commands/test_register.py."""

from __future__ import annotations

import pytest

from fm_mlflow import keys
from fm_mlflow.registration.figures import Figures

COUNTED = "counted in the traced prediction"


@pytest.mark.parametrize(
    ("figure", "method", "passed"),
    [
        (5.0, COUNTED, True),
        (6.0, COUNTED, False),
        (6.0, None, False),
        (6.0, "profiled, one image, batch 1, keras-flops", None),
    ],
)
def test_flops_are_compared_where_they_were_counted_by_the_same_method(
    figure: float, method: str | None, passed: bool | None
) -> None:
    key = str(keys.FLOPS_INFERENCE)
    logged = {key: {"value": figure, "method": method}} if method else {}
    figures = Figures({key: figure}, {key: 5.0}, same_machine=True)
    check = figures.flops(logged, {key: {"value": 5.0, "method": COUNTED}})
    assert (check.logged, check.measured, check.passed) == (figure, 5.0, passed)
