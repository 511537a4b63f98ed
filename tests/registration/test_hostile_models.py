"""Models whose code lies, forges and destroys: it changes its own predictions, and no verdict.

What runs here in a model's place is a small program; a real model does the like in
tests/commands/test_register.py.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import psutil
import pytest

from fm_mlflow import keys
from fm_mlflow.data.dataset import Dataset
from fm_mlflow.registration import checks
from fm_mlflow.registration.checks import Verification, verify
from fm_mlflow.results.register import Check, GateError

# It claims all that its run had logged, and calls everything a 0.
LIAR = """
import atexit, os, sys
from pathlib import Path
import numpy as np
from fm_mlflow.registration.findings import Figure, Findings, to_bytes

model, batch_size, images = sys.argv[1:]
outputs = np.zeros((len(np.load(images)), 10), np.float32)
outputs[:, 0] = 1
found = sorted(path.name
    for path in Path(images).parents[1].rglob("*") if path.is_file())
findings = Findings(
    measurements={{"parameters/trainable": Figure(value=5, method="", reason=None, interval=None)}},
    threads="automatic", weights=2, weights_digest="ab" * 32, example=", ".join(found),
    penalty=0.0, loss_of_turns=None, type="float32")
message = to_bytes(findings, outputs)
{hostile}
os.write(1, message)
"""

NOTHING = ""
PATCHED = """
import hashlib, json, zipfile
json.loads = json.dumps = hashlib.sha256 = np.load = np.array_equal = lambda *a, **k: True
"""
DESTROYS = """
for folder in (Path(images).parent, Path(images).parents[1]):
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
"""
EVERY_DESCRIPTOR = """
for descriptor in range(1, 256):
    try:
        os.write(descriptor, message)
    except OSError:
        pass
"""
AT_EXIT = "atexit.register(os.write, 1, message)"


@pytest.fixture
def candidate(tmp_path: Path, digits: Dataset) -> Any:
    """A run that claims an accuracy that its model, here the liar, does not have."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "data").write_bytes(b"weights")
    predictions = tmp_path / "run.npz"
    probability = np.eye(10, dtype=np.float32)[digits.test.targets]
    np.savez(predictions, label=digits.test.targets, probability=probability)
    return SimpleNamespace(
        run=SimpleNamespace(
            run_id="r",
            metrics={keys.TEST_ACCURACY: 1.0, keys.PARAMETERS_TRAINABLE: 5.0},
            machine={},
            config={"batch_size": "64"},
        ),
        model_uri="models:/m-0",
        model_folder=tmp_path / "model",
        model_bytes=7,
        model_digest="cd" * 32,
        own_digest="cd" * 32,
        saved_digest="cd" * 32,
        input_shape=(28, 28),
        gives_logits=False,
        class_names=digits.class_names,
        predictions_file=predictions,
        measurements={},
        weights_digest="ab" * 32,
    )


def verified(
    candidate: Any, digits: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch, hostile: str
) -> Verification:
    program = folder / "liar.py"
    program.write_text(LIAR.format(hostile=hostile))
    monkeypatch.setattr(checks, "_PROGRAM", str(program))
    return verify(cast("Any", candidate), digits, folder, 60)


@pytest.mark.parametrize("hostile", [NOTHING, PATCHED, DESTROYS])
def test_the_verdict_is_of_its_predictions(
    candidate: Any,
    digits: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    hostile: str,
) -> None:
    found = verified(candidate, digits, tmp_path, monkeypatch, hostile)
    by_figure: dict[str, Check] = {check.figure: check for check in found.checks}
    accuracy = by_figure[keys.TEST_ACCURACY]
    assert (accuracy.measured, accuracy.passed) == (np.mean(digits.test.targets == 0), False)
    assert by_figure[keys.PREDICTIONS_FILE].passed is False
    assert by_figure[keys.PREDICTIONS_FILE].measured == "up to 1 apart"
    # What is taken from its process is said to be.
    assert {check.figure for check in found.checks if check.by == "us"} >= {
        *(keys.TEST_ACCURACY, keys.TEST_LOSS, keys.PREDICTIONS_FILE, keys.SIZE_MLFLOW_MODEL),
        *("model files", "class names"),
    }
    assert {check.figure for check in found.checks if check.by == "model" and check.passed} == {
        *(keys.PARAMETERS_TRAINABLE, "weights digest"),
    }
    # It had the model and the images, and no labels.
    assert by_figure["signature"].measured == "data, images.npy, liar.py"


@pytest.mark.parametrize("hostile", [EVERY_DESCRIPTOR, AT_EXIT])
def test_more_than_one_message_is_none(
    candidate: Any,
    digits: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    hostile: str,
) -> None:
    with pytest.raises(GateError, match="cannot be loaded and run by a fresh process: it sent"):
        verified(candidate, digits, tmp_path, monkeypatch, hostile)


def test_files_that_its_training_did_not_save_are_not_run(
    candidate: Any, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate.own_digest = "ef" * 32
    message = "models:/m-0 are not those that its training saved: digest efefefefefef, it saved cd"
    with pytest.raises(GateError, match=message):
        verified(candidate, digits, tmp_path, monkeypatch, NOTHING)
    assert not (tmp_path / "verification").exists()


def test_the_option_that_gives_it_more_time_is_named(
    candidate: Any, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow.py").write_text("import time; time.sleep(600)")
    monkeypatch.setattr(checks, "_PROGRAM", str(tmp_path / "slow.py"))
    with pytest.raises(GateError, match=r"it did not end within 0.5 s \(--verify-timeout\)"):
        verify(candidate, digits, tmp_path, 0.5)


@pytest.mark.parametrize("peak", [float("inf"), -1e30, 1e30, 100.0])
def test_a_run_does_not_lift_the_limit_of_memory(
    candidate: Any,
    digits: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    peak: float,
) -> None:
    given: list[Any] = []

    def refuse(*arguments: Any) -> bytes:
        given.extend(arguments)
        return b""

    monkeypatch.setattr(checks, "run_confined", refuse)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=2**33))
    candidate.run.metrics[keys.MEMORY_PEAK] = peak
    with pytest.raises(GateError, match="it sent no findings"):
        verify(candidate, digits, tmp_path, 60)
    expected = {100.0: 2**32 + 28 + 200 * 2**20, -1e30: 2**32 + 28}.get(peak, 2**33)
    assert (given[3].seconds, given[3].memory) == (60, expected)
