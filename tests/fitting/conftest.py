"""What the tests of the training loop share."""

from __future__ import annotations

import os

import pytest

from fm_mlflow.process.quiet import OWN_THREADS


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let batches be split, whatever the machine and whoever started TensorFlow."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1}, raising=False)
    monkeypatch.setenv(OWN_THREADS, "1")
