"""Test images come from where the run had them, and only if they are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.entities import Dataset as LoggedDataset, DatasetInput, InputTag
from PIL import Image

from fm_mlflow import keys
from fm_mlflow.analysis.comparison import WrongExample
from fm_mlflow.data import fashion_mnist
from fm_mlflow.data.dataset import Dataset, Subset, load_dataset
from fm_mlflow.tracking.datasets import describe_dataset
from fm_mlflow.tracking.test_images import NoImagesError, load_test_images
from tests.stores import Store


def logged(store: Store, name: str, subset: Subset, source: str) -> str:
    """Return a run that says that it was tested on these examples."""
    run = store.client.create_run("0")
    dataset: Any = LoggedDataset.from_dictionary(describe_dataset(name, subset, source))
    tag = InputTag(keys.MLFLOW_DATASET_CONTEXT, "test")
    store.client.log_inputs(run.info.run_id, datasets=[DatasetInput(dataset, [tag])])
    return str(run.info.run_id)


def at(subset: Subset, *positions: int) -> list[WrongExample]:
    return [WrongExample(place, int(subset.targets[place]), ()) for place in positions]


def why_not(run_id: str, name: str, examples: list[WrongExample]) -> str:
    with pytest.raises(NoImagesError) as caught:
        load_test_images(run_id, name, examples)
    return str(caught.value)


def test_built_in_images(store: Store, digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = logged(store, "digits", digits.test, "scikit-learn")
    found = load_test_images(run_id, "digits", at(digits.test, 5, 300))
    assert list(found) == [5, 300]
    np.testing.assert_array_equal(found[300], digits.test.inputs[300])
    wrong_class = [WrongExample(5, int(digits.test.targets[5]) + 1, ())]
    assert "not the one" in why_not(run_id, "digits", wrong_class)
    beyond = [WrongExample(360, 0, ())]
    assert "not the one" in why_not(run_id, "digits", beyond)
    # Others' predictions on Fashion-MNIST say that they are of digits; nothing is downloaded.
    assert "not the one" in why_not(run_id, "fashion_mnist", at(digits.test, 5))
    monkeypatch.setattr(fashion_mnist, "find_folder", lambda _: None)
    assert "none is downloaded" in why_not(run_id, "fashion_mnist", at(digits.test, 5))


def test_fashion_mnist(store: Store, fashion_mnist_folder: Path) -> None:
    arrays = fashion_mnist.load_test_files()
    assert arrays is not None
    test = Subset(*arrays)
    run_id = logged(store, "fashion_mnist", test, str(fashion_mnist_folder))
    found = load_test_images(run_id, "fashion_mnist", at(test, 9999))
    np.testing.assert_array_equal(found[9999], arrays[0][9999])


def test_a_file_of_arrays(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (30, 9, 8, 3), np.uint8), np.arange(30) % 3
    np.savez(path, x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])
    test = load_dataset("own.npz", str(tmp_path)).test
    run_id = logged(store, "own.npz", test, str(path))
    found = load_test_images(run_id, "own.npz", at(test, 2))
    np.testing.assert_array_equal(found[2], x[22])
    assert "only the program" in why_not(run_id, "others.npz", at(test, 2))
    np.savez(path, x_train=x[:20], y_train=y[:20], x_test=255 - x[20:], y_test=y[20:])
    assert "not the one" in why_not(run_id, "own.npz", at(test, 2))
    path.write_bytes(b"PK\x03\x04 no arrays")
    assert "not on this machine" in why_not(run_id, "own.npz", at(test, 2))
    path.unlink()
    assert "not on this machine" in why_not(run_id, "own.npz", at(test, 2))
    path.touch()
    path.open("r+b").truncate(129 * 1024**2)
    assert "more than 128 MiB" in why_not(run_id, "own.npz", at(test, 2))


def test_numbers_are_no_images(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    x, y = np.ones((10, 4), np.float32), np.arange(10) % 2
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    test = load_dataset("table.npz", str(tmp_path)).test
    run_id = logged(store, "table.npz", test, str(path))
    assert "grey levels or colours" in why_not(run_id, "table.npz", at(test, 0))


def test_a_folder_of_images(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            image = random.integers(0, 256, (12, 10, 3), np.uint8)
            Image.fromarray(image).save(folder / name / f"{number}.png")
    test = load_dataset("photos", str(tmp_path)).test
    run_id = logged(store, "photos", test, str(folder))
    found = load_test_images(run_id, "photos", at(test, 1))
    assert found[1].shape == (12, 10, 3)
    np.testing.assert_array_equal(found[1], test.inputs[np.array([1])][0])


def test_a_run_that_logged_no_test_set(store: Store, digits: Dataset) -> None:
    run_id = str(store.client.create_run("0").info.run_id)
    assert "does not say" in why_not(run_id, "digits", at(digits.test, 1))
    assert "does not say" in why_not("0" * 32, "digits", at(digits.test, 1))
