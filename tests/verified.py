"""Verifying a model in this process: the fresh one of `register` spends 6 s on its imports."""

from __future__ import annotations

from pathlib import Path

import pytest

from fm_mlflow.process.confined import ConfinedError
from fm_mlflow.registration import checks
from fm_mlflow.registration.fresh_process import measure
from fm_mlflow.tracking.model_files import ModelFiles
from tests.quick_costs import less_time

_MESSAGES: dict[tuple[str, bytes, int], bytes] = {}


def run_in_this_process(_program: str, arguments: list[str], *_: object) -> bytes:
    """Do what `run_confined` does for a model that is no danger; measure the same files once."""
    model, batch_size, *files = arguments
    images = [Path(file) for file in files]
    contents = b"".join(file.read_bytes() for file in images)
    key = ModelFiles.of(Path(model)).digest, contents, int(batch_size)
    if key not in _MESSAGES:
        try:
            with less_time():
                _MESSAGES[key] = measure(Path(model), int(batch_size), *images)
        except Exception as error:
            raise ConfinedError(f"{type(error).__name__}: {error}") from error
    return _MESSAGES[key]


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify models in this process."""
    monkeypatch.setattr(checks, "run_confined", run_in_this_process)
