"""Data of a user's own: arrays in a file, images in a folder, both made by anybody."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fm_mlflow.data.dataset import Dataset, load_dataset
from fm_mlflow.errors import DataError, FmMlflowError, InputError
from tests.own_data import images, parts, table


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def npy(array: Any, **header: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), allow_pickle=True, **header)
    return file.getvalue()


def test_arrays_of_a_file(tmp_path: Path) -> None:
    arrays = table()
    columns = {**arrays, "x_train": np.asfortranarray(arrays["x_train"])}
    columns["y_test"] = arrays["y_test"][:, None].astype(">f8")
    dataset = load_dataset(str(saved(tmp_path / "prices.npz", **columns)))
    assert (dataset.name, dataset.source) == ("prices.npz", str(tmp_path / "prices.npz"))
    assert dataset.example_shape == (5,)
    assert dataset.class_names == dataset.numbered_classes() == ()
    np.testing.assert_array_equal(dataset.train.inputs, arrays["x_train"])
    np.testing.assert_array_equal(dataset.test.targets, arrays["y_test"])
    # The same by any file, order of storage or split; other types are other contents.
    packed = tmp_path / "packed.npz"
    np.savez_compressed(packed, **arrays)
    assert load_dataset(str(packed)).hold_out(0.5).digest == dataset.digest
    narrow = {name: array.astype(np.float32) for name, array in arrays.items()}
    assert load_dataset(data=narrow, name="from_python").digest != dataset.digest
    assert load_dataset(data=arrays, name="from_python").digest == dataset.digest


@pytest.mark.parametrize("kind", ["int8", "uint8", "int64", "uint16", "float16", "float32", "bool"])
@pytest.mark.parametrize("shape", [(), (3,), (4, 2), (5, 4, 3), (1, 2, 3, 4)])
def test_any_type_and_shape(kind: str, shape: tuple[int, ...]) -> None:
    x = np.arange(12 * np.prod(shape, dtype=int)).reshape(12, *shape).astype(kind)
    dataset = load_dataset("from_python", data=parts(x, np.arange(12) % 3))
    assert dataset.numbered_classes() == ("0", "1", "2")
    assert dataset.example_shape == (shape or (1,))
    assert dataset.train.are_images == (kind == "uint8" and len(shape) > 1)
    assert dataset.test.inputs.dtype == ("int8" if kind == "bool" else kind)


def test_forms_of_data_from_python() -> None:
    arrays = table()
    (x, y, x_test, y_test) = arrays.values()
    forms: list[Any] = [
        arrays,
        ((x, y), (x_test, y_test)),
        [[x.tolist(), y.tolist()], [x_test, y_test]],
        {"train": (x, y), "test": (x_test, y_test)},
        lambda: arrays,
    ]
    digests = {load_dataset("from_python", data=form).digest for form in forms}
    assert len(digests) == 1
    named = {**parts(np.eye(8), np.arange(8) % 2), "class_names": ["no", "yes"]}
    assert load_dataset("from_python", data=named).class_names == ("no", "yes")


def _raising() -> Any:
    raise OSError("the disk\nis gone")


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (None, InputError, "from Python alone"),
        (5, InputError, "data: received 'int'"),
        ([1, 2, 3], InputError, "data: received 'list'"),
        ({"x": [1]}, InputError, "a mapping with x'"),
        ({"train": [1, 2, 3], "test": 2}, InputError, "list for train"),
        (
            _raising,
            DataError,
            "given as data raised OSError: the disk is gone",
        ),
        (
            ((np.eye(3), [0, 1]), (np.eye(3), [0, 1])),
            DataError,
            "x_train has 3 examples, y_train 2",
        ),
        (((np.eye(2), [0, 1]), (np.eye(3), [0, 1, 0])), DataError, "x_test float64 of shape (3,)"),
        (((np.eye(2), [0, 1]), (np.eye(2), [0.0, 1])), DataError, "of y_test float64 of shape ()"),
        (((np.zeros((0, 2)), []), (np.eye(2), [0.0, 1])), DataError, "x_train is empty"),
        (((np.eye(2) * 1j, [0, 1]), (np.eye(2), [0, 1])), DataError, "x_train is complex128"),
        (((["a", "b"], [0, 1]), (np.eye(2), [0, 1])), DataError, "x_train is <U1 of shape (2,)"),
        (((5, [0, 1]), (np.eye(2), [0, 1])), DataError, "x_train is int64 of shape ()"),
        ((([[1], [1, 2]], [0, 1]), (np.eye(2), [0, 1])), DataError, "x_train is list, no array"),
        (((np.full((2, 2), np.inf), [0, 1]), (np.eye(2), [0, 1])), DataError, "no finite numbers"),
        (
            {**parts(np.eye(8), np.arange(8) % 3), "class_names": ["no", "yes"]},
            DataError,
            "int64 from 0 to 2, and class_names names 2 classes",
        ),
        ({**table(), "class_names": ["no", "yes"]}, DataError, "the targets are float64 from"),
        ({**table(), "class_names": ["x"] * 1001}, InputError, "1,001 class_names"),
    ],
)
def test_what_is_no_data_is_refused(data: Any, error: type[FmMlflowError], said: str) -> None:
    with pytest.raises(error) as refusal:
        load_dataset("from_python", data=data)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def zipped(members: dict[str, bytes], **how: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", **how) as archive:
            for name, content in members.items():
                archive.writestr(f"{name}.npy", content)

    return write


X, Y = npy(np.eye(4)), npy([0, 1, 0, 1])
FOUR = {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y}
HUGE = X[:10] + npy(np.eye(4))[10:].replace(b"(4, 4)", b"(9999999999, 4)", 1)[:118] + bytes(128)


def write_bomb(path: Path) -> None:
    zeros = {"x_train": npy(np.zeros((2**21, 32), np.uint8)), "y_train": npy(np.zeros(2**21, int))}
    zipped({**FOUR, **zeros}, compression=zipfile.ZIP_DEFLATED, compresslevel=1)(path)


Case = Callable[[Path], object]
DAMAGED: dict[str, Case] = {
    "empty": lambda path: path.write_bytes(b""),
    "no zip": lambda path: path.write_bytes(X),
    "one lacks": zipped({name: FOUR[name] for name in ("x_train", "y_train", "x_test")}),
    "pickled": zipped({**FOUR, "x_train": npy(np.array([{}, []], object))}),
    "texts": zipped({**FOUR, "y_train": npy(["a", "b", "c", "d"])}),
    "truncated array": zipped({**FOUR, "x_train": X[:-8]}),
    "a huge shape": zipped({**FOUR, "x_train": HUGE}),
    "no array within": zipped({**FOUR, "x_test": b"\x93NUMPY\x09\x09 nothing of the kind"}),
    "a bomb": write_bomb,
    "odd method": zipped(FOUR, compression=zipfile.ZIP_LZMA),
    "names in a square": zipped({**FOUR, "class_names": npy([["a"], ["b"]])}),
    "too many names": zipped({**FOUR, "class_names": npy([str(n) for n in range(1001)])}),
    "names of bytes": zipped({**FOUR, "class_names": npy([b"a", b"b"])}),
    "truncated": lambda path: (
        zipped(FOUR)(path),
        path.write_bytes(path.read_bytes()[:-300]),
    ),
    "a wrong checksum": lambda path: (
        zipped(FOUR)(path),
        path.write_bytes(path.read_bytes().replace(X[-8:], b"\1" * 8, 1)),
    ),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_damaged_files_are_refused_in_a_line(tmp_path: Path, damage: Case) -> None:
    path = tmp_path / "own.npz"
    damage(path)
    with pytest.raises(DataError) as refusal:
        load_dataset("own.npz", str(tmp_path))
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "folder.npz").mkdir()
    for name in ("pipe.npz", "folder.npz", "none.npz"):
        with pytest.raises(InputError, match=f"dataset: received '.*{name}'"):
            load_dataset(name, str(tmp_path))


def decoded(dataset: Dataset) -> tuple[Any, Any]:
    return np.asarray(dataset.train.inputs), np.asarray(dataset.test.inputs)


def test_images_of_a_folder(tmp_path: Path) -> None:
    dataset = load_dataset(f"{images(tmp_path / 'images')}/")
    assert (dataset.name, dataset.class_names) == ("images", ("cat", "dog"))
    assert (len(dataset.train), len(dataset.test)) == (32, 8)
    # Every fifth image of each class is for the test, and the classes are not one after the other.
    assert np.bincount(dataset.test.targets).tolist() == [4, 4]
    assert np.abs(np.diff(dataset.train.targets)).sum() > 0
    train, _ = decoded(dataset)
    assert (train.mean(axis=(1, 2, 3)) > 110).tolist() == (dataset.train.targets == 1).tolist()
    np.testing.assert_array_equal(dataset.train.inputs[np.array([3, 3, 0])], train[[3, 3, 0]])
    held = dataset.hold_out(0.25)
    np.testing.assert_array_equal(
        np.asarray(held.validation and held.validation.inputs), train[24:]
    )
    grey = dataset.train.inputs.sized((5, None))
    assert grey.shape == (32, 5, train.shape[2])
    assert np.asarray(grey).shape == grey.shape
    assert dataset.train.inputs.sized((5,)) is dataset.train.inputs.sized((5, 5, 2)) is None
    # Other names and another folder are the same data set.
    shutil.move(tmp_path / "images" / "cat" / "0.png", tmp_path / "images" / "cat" / "zero.PNG")
    again = load_dataset(f"{shutil.move(tmp_path / 'images', tmp_path / 'moved')}/")
    assert again.digest == dataset.digest == held.digest
    Image.new("RGB", (9, 8)).save(tmp_path / "moved" / "cat" / "1.png")
    assert load_dataset(f"{tmp_path}/moved/").digest != dataset.digest


def test_a_folder_that_is_split_already(tmp_path: Path) -> None:
    images(tmp_path / "own" / "train", 3, ("a", "b", "c"))
    images(tmp_path / "own" / "test", 2, ("a", "c"))
    (tmp_path / "own" / "train" / ".DS_Store").write_bytes(b"hidden")
    dataset = load_dataset("own", str(tmp_path))
    assert dataset.class_names == ("a", "b", "c")
    assert np.bincount(dataset.train.targets).tolist() == [3, 3, 3]
    assert np.bincount(dataset.test.targets).tolist() == [2, 0, 2]
    (tmp_path / "own" / "test" / "c").rename(tmp_path / "own" / "test" / "d")
    with pytest.raises(DataError, match="test/ has a class 'd', which train/ does not have"):
        load_dataset("own", str(tmp_path))


def png(**settings: Any) -> bytes:
    file = io.BytesIO()
    Image.new(settings.pop("mode", "L"), settings.pop("size", (4, 4))).save(file, "png", **settings)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.png", b"", "cannot be read"),
        ("x.png", png()[:-30], "cannot be read"),
        ("x.png", png().replace(b"IDAT", b"IDOT"), "cannot be read"),
        ("x.jpg", png(), "cannot be read"),
        ("x.png", png(mode="1", size=(9000, 9000)), "at most 50,000,000 pixels are read"),
        ("x.png", png(mode="I;16"), "more than 8 bits"),
        ("x.txt", b"notes", "is no image that is read: .png"),
        ("x.gif", png(), "is no image that is read: .png"),
    ],
)
def test_a_damaged_image_is_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    folder = images(tmp_path / "images", 2)
    (folder / "dog" / name).write_bytes(content)
    with pytest.raises(DataError, match=said) as refusal:
        load_dataset(f"{folder}/")
    assert str(folder / "dog" / name) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dataset: received .* a folder of images"):
        load_dataset("none", str(tmp_path))
    (tmp_path / "one" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match="1 folders, one a class; 2 to 1,000 are expected"):
        load_dataset("one", str(tmp_path))
    (tmp_path / "one" / "dog").mkdir()
    with pytest.raises(DataError, match="0 images; two or more are expected"):
        load_dataset("one", str(tmp_path))
    (tmp_path / "one" / "notes.txt").write_bytes(b"")
    with pytest.raises(DataError, match=r"notes.txt is no folder of a class"):
        load_dataset("one", str(tmp_path))


def test_an_image_that_is_damaged_later_is_named(tmp_path: Path) -> None:
    folder = images(tmp_path / "images", 2)
    dataset = load_dataset(f"{folder}/")
    (folder / "cat" / "0.png").write_bytes(b"gone")
    with pytest.raises(DataError, match=r"cat/0.png cannot be read"):
        decoded(dataset)
