"""What the tests of the count share."""

from __future__ import annotations

import pytest


@pytest.fixture
def keras_flops_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the work of keras-flops, as for a model that is too large for it."""
    monkeypatch.setattr("fm_mlflow.measure.flops.tensorflow_profile._MOST_WITNESSED_MIB", -1)
