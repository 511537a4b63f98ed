"""Checkpoints that are damaged in all ways: the one before is used, and nothing escapes."""

from __future__ import annotations

import random
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks import damaged_checkpoints
from fm_mlflow.training.checkpoint import Checkpoint, Progress, newest

THOROUGH = pytest.mark.thorough


def make(epoch: int) -> Checkpoint:
    name, keys, *rest = np.random.get_state(legacy=True)
    state = {"python": random.getstate(), "numpy": [name, np.asarray(keys).tolist(), *rest]}
    values = [
        np.full((28, 10), epoch, np.float32),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.asarray(epoch),
        np.zeros((0, 3), np.float16),
    ]
    progress = Progress(epoch, {"loss": [float("nan")] * epoch}, 1.0, 1.0)
    return Checkpoint({"epochs": 9}, "digest", progress, values[:3], values[3:], state)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    make(3).write(folder / "odd.npz")
    make(4).write(folder / "even.npz")
    return folder


def check(found: Checkpoint | None) -> int:
    """Return the epoch of a checkpoint that is as it was written."""
    assert found is not None
    expected = make(found.progress.epoch)
    for one, other in (
        (found.variables, expected.variables),
        (found.optimizer, expected.optimizer),
    ):
        for mine, theirs in zip(one, other, strict=True):
            assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
            np.testing.assert_array_equal(mine, theirs)
    found.restore_random_state()
    return found.progress.epoch


def test_the_newest_is_used(files: Path) -> None:
    assert check(newest([files])) == 4


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=THOROUGH) for n in (1, 2, 3))])
@pytest.mark.parametrize("kind", damaged_checkpoints.KINDS)
def test_damage_leads_to_the_one_before(
    kind: str,
    seed: int,
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, size in (("BOMB_BYTES", [10**7]), ("ENTRIES", [1000, 10_000]), ("LISTS", 1000)):
        monkeypatch.setattr(damaged_checkpoints, name, size)
    monkeypatch.chdir(tmp_path)
    for name in ("odd.npz", "even.npz"):
        shutil.copy(files / name, tmp_path)
    damaged_checkpoints.KINDS[kind](random.Random(seed), tmp_path / "even.npz")
    epoch = check(newest([tmp_path]))
    if epoch == 4:  # what was damaged is not read
        assert kind in ("flip_in_directory", "hole", "many_entries", "odd_meta", "other_arrays")
    elif (tmp_path / "even.npz").exists():
        assert "even.npz is damaged and left out: " in caplog.text


def test_when_none_is_left_one_line_says_so(
    files: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert newest([tmp_path]) is None
    assert caplog.messages == []
    (tmp_path / "odd.npz").write_bytes(b"damaged")
    assert newest([tmp_path]) is None
    *_, last = caplog.messages
    assert last == "no checkpoint is left; what is resumed starts at its first epoch"


def test_what_is_declared_is_not_allocated(files: Path, tmp_path: Path) -> None:
    """Packed values that are larger than the file, and values that lie on one another."""
    with zipfile.ZipFile(files / "even.npz") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    for method, says in ((zipfile.ZIP_DEFLATED, "compressed or encrypted"), (0, "is of object")):
        with zipfile.ZipFile(tmp_path / "even.npz", "w", method) as archive:
            for name, data in entries.items():
                archive.writestr(name, data.replace(b"'<f4'", b"'|O' "))
        with pytest.raises(ValueError, match=says):
            Checkpoint.read(tmp_path / "even.npz")
