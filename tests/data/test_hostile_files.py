"""Files of images that are damaged, or made to take memory: refused, and nothing is allocated."""

from __future__ import annotations

import os
import random
import socket
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fm_mlflow.data.dataset import load_dataset
from fm_mlflow.data.idx import read_idx
from fm_mlflow.data.image_file import open_images
from fm_mlflow.errors import DataError, FmMlflowError, InputError
from tests.hostile_files import IMAGES, KINDS, Case, gzip_bomb, idx, mutated

_MOST_BYTES = 100 * 1024**2

IDX_KINDS = ("IDX", "IDX, gzip")
CASES = [
    pytest.param(KINDS[kind].name, make, id=f"{kind}: {name}")
    for kind in (*IDX_KINDS, ".npy")
    for name, make in KINDS[kind].cases.items()
]


@contextmanager
def little_memory() -> Iterator[None]:
    """Fail where more is allocated than any of these small files could need."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < _MOST_BYTES


def read(path: Path) -> int:
    with open_images(path) as images:
        return sum(map(len, images.chunks(5)))


@pytest.mark.parametrize("kind", [*IDX_KINDS, ".npy"])
def test_valid_files_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "images"
    path.write_bytes(KINDS[kind].valid)
    assert read(path) == len(IMAGES)
    if kind in IDX_KINDS:
        assert np.array_equal(read_idx(path, repair="replace it"), IMAGES)


@pytest.mark.parametrize(("name", "make"), CASES)
def test_predict_refuses_them(tmp_path: Path, name: str, make: Case) -> None:
    path = tmp_path / name
    path.write_bytes(make())
    with little_memory(), pytest.raises(FmMlflowError) as refused:
        read(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("name", "make"), [each for each in CASES if "npy" not in str(each.id)])
def test_train_refuses_them(tmp_path: Path, name: str, make: Case) -> None:
    images = tmp_path / f"train-images-ubyte{Path(name).suffix}"
    images.write_bytes(make())
    (tmp_path / "t10k-images-ubyte").write_bytes(KINDS["IDX"].valid)
    for part in ("train", "t10k"):
        labels = bytes(range(len(IMAGES)))
        (tmp_path / f"{part}-labels-ubyte").write_bytes(idx((len(IMAGES),), labels))
    with little_memory(), pytest.raises(FmMlflowError) as refused:
        load_dataset("idx", str(tmp_path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", [*IDX_KINDS, ".npy"])
def test_random_damage_is_refused_or_harmless(tmp_path: Path, kind: str) -> None:
    draw, path = random.Random(kind), tmp_path / "images"
    refused = 0
    for _ in range(60):
        path.write_bytes(mutated(draw, KINDS[kind].valid))
        try:
            read(path)
        except (InputError, DataError):
            refused += 1
    assert refused > 20


def test_data_that_say_too_much_are_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip_bomb(1 << 30, idx((1_400_000, 28, 28), b"")))
    with pytest.raises(InputError, match=r"^data_dir: .* at most 1\d\d,\d{3},\d{3} are read"):
        read_idx(path, repair="replace it")
    with pytest.raises(InputError, match=r"^input: .* at most 1\d\d,\d{3},\d{3} bytes"):
        read(path)


def test_well_packed_images_are_no_bomb(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip_bomb(1 << 24, idx((1 << 14, 32, 32), b"")))
    assert read_idx(path, repair="replace it").shape == (1 << 14, 32, 32)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _to_a_fifo(path: Path) -> None:
    os.mkfifo(path.with_name("fifo"))
    path.symlink_to("fifo")


def _to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [_fifo, _socket, _loop, _to_a_fifo, _to_a_device, Path.mkdir])
def test_what_is_no_regular_file_is_refused_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Case
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    path = Path("train-images-ubyte")
    make(path)  # type: ignore[call-arg]
    with pytest.raises(InputError, match=r"^input: received 'train-images-ubyte', accepted: "):
        read(path)
    with pytest.raises(DataError, match="cannot read train-images-ubyte: "):
        read_idx(path, repair="replace it")
    with pytest.raises(InputError, match=r"^data_dir: .*found: none"):
        load_dataset("idx", str(tmp_path))


@pytest.mark.parametrize("name", ["nul\0", "x" * 5000, "/".join(["x" * 200] * 50), "\udcff"])
def test_what_can_be_no_path_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"^input: received"):
        read(Path(name))
    for dataset in ("idx", "fashion_mnist"):
        with pytest.raises(InputError, match=r"^data_dir: received"):
            load_dataset(dataset, name)
