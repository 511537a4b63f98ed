"""Files of images that are damaged, or made to take memory: refused, and nothing is allocated."""

from __future__ import annotations

import gzip
import math
import os
import random
import socket
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fm_mlflow.data.dataset import load_dataset
from fm_mlflow.data.idx import read_idx
from fm_mlflow.data.image_file import open_images
from fm_mlflow.errors import DataError, FmMlflowError, InputError
from tests.hostile_files import IMAGES, KINDS, Case, gzip_bomb, idx, mutated
from tests.limits import address_space

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


def read_all(path: Path) -> NDArray[np.uint8]:
    return read_idx(path, repair="replace it", largest=4 << 30)


@pytest.mark.parametrize("kind", [*IDX_KINDS, ".npy"])
def test_valid_files_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "images"
    path.write_bytes(KINDS[kind].valid)
    assert read(path) == len(IMAGES)
    if kind in IDX_KINDS:
        assert np.array_equal(read_all(path), IMAGES)


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
        read_all(path)
    with pytest.raises(InputError, match=r"^input: .* at most 1\d\d,\d{3},\d{3} bytes"):
        read(path)


def test_well_packed_images_are_no_bomb(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx((1 << 14, 32, 32), bytes(1 << 24)), mtime=0))
    assert read_all(path).shape == (1 << 14, 32, 32)


def test_a_gzip_header_with_all_its_fields_is_read(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    start = b"\x1f\x8b\x08\x1e" + bytes(6)
    start += struct.pack("<H", 2**16 - 1) + bytes(2**16 - 1) + b"name\0" + b"comment\0"
    checksum = struct.pack("<H", zlib.crc32(start) & 0xFFFF)
    path.write_bytes(start + checksum + gzip.compress(KINDS["IDX"].valid)[10:])
    assert np.array_equal(read_all(path), IMAGES)
    assert read(path) == len(IMAGES)


@pytest.mark.thorough
@pytest.mark.parametrize("size", [1 << 20, 1 << 40])
def test_zeros_after_a_compressed_file_do_not_make_it_large(tmp_path: Path, size: int) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip_bomb(90 << 20, idx((90 << 10, 32, 32), b"")))
    os.truncate(path, size)
    with little_memory(), pytest.raises(DataError, match="at most 67,108,864 bytes"):
        read_all(path)
    with little_memory(), pytest.raises(DataError, match="at most 67,108,864 bytes"):
        read(path)


@pytest.mark.parametrize("shape", [(1, 2**20, 2**20), (2**20, 2**10, 2**10)])
def test_a_sparse_file_of_a_terabyte_is_bad_input(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "train-images-ubyte"
    path.write_bytes(idx(shape, b""))
    os.truncate(path, 16 + math.prod(shape))
    for part in ("train-labels", "t10k-images", "t10k-labels"):
        (tmp_path / f"{part}-ubyte").write_bytes(idx((2,), b"01"))
    with little_memory(), pytest.raises(InputError, match=r"^data_dir: .* fits into memory"):
        load_dataset("idx", str(tmp_path))


def test_memory_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(idx((2**20, 32, 32), b""))
    os.truncate(path, 16 + 2**30)
    with address_space(2**29), pytest.raises(DataError, match="no memory for 1,073,741,840 bytes"):
        read_all(path)
    with address_space(2**29), pytest.raises(DataError, match="no memory for 1,073,741,824 bytes"):
        with open_images(path) as images:
            next(images.chunks(2**20))


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
        read_all(path)
    with pytest.raises(InputError, match=r"^data_dir: .*found: none"):
        load_dataset("idx", str(tmp_path))


@pytest.mark.parametrize("name", ["nul\0", "x" * 5000, "/".join(["x" * 200] * 50), "\udcff"])
def test_what_can_be_no_path_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"^input: received"):
        read(Path(name))
    for dataset in ("idx", "fashion_mnist"):
        with pytest.raises(InputError, match=r"^data_dir: received"):
            load_dataset(dataset, name)
