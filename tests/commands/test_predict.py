"""Files of images in, files of predictions out; without a model."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import csv, parquet

from fm_mlflow.data.image_file import open_images
from fm_mlflow.data.prediction_file import prediction_file
from fm_mlflow.errors import DataError, InputError

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 28, 28), dtype=np.uint8)
IDX = b"\x00\x00\x08\x03" + np.array(IMAGES.shape, ">u4").tobytes() + IMAGES.tobytes()
NAMES = ("T-shirt/top", "Trouser, long", 'Ankle "boot"')


def compressed(content: bytes) -> bytes:
    # Without the time of day: the contents name the tests, and all workers must name them alike.
    return gzip.compress(content, mtime=0)


def written(folder: Path, content: Any) -> Path:
    path = folder / "images"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with path.open("wb") as file:
            np.save(file, content)
    return path


@pytest.mark.parametrize(
    "content",
    [IDX, compressed(IDX), IMAGES, IMAGES[..., None], IMAGES / 255, IMAGES.astype(np.float32)],
    ids=["idx", "idx.gz", "npy", "channel", "float64", "float32"],
)
def test_images_come_in_order_a_piece_at_a_time(tmp_path: Path, content: Any) -> None:
    expected = IMAGES if isinstance(content, bytes) else content
    with open_images(written(tmp_path, content)) as images:
        assert (images.count, images.shape) == (10, expected.shape[1:])
        chunks = list(images.chunks(4))
    assert [len(chunk) for chunk in chunks] == [4, 4, 2]
    assert np.array_equal(np.concatenate(chunks), expected)
    assert chunks[0].dtype == expected.dtype


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            b"no images",
            "an IDX file of unsigned bytes, compressed or not, a .npy array, or a picture (.png",
        ),
        (b"", "an IDX file of unsigned bytes"),
        (IDX[:7], "an IDX file of unsigned bytes"),
        (compressed(IDX)[:12], "an IDX file of unsigned bytes"),
        (IMAGES[0], "images: (count, height, width)"),
        (IMAGES[:0], "images: (count, height, width)"),
        (IMAGES.astype(np.int64), "uint8 or floating-point"),
        (np.asfortranarray(IMAGES), "row by row"),
        (np.array([{}]), "uint8 or floating-point"),
    ],
)
def test_what_is_no_file_of_images(tmp_path: Path, content: Any, says: str) -> None:
    with pytest.raises(InputError) as refused, open_images(written(tmp_path, content)):
        pass
    assert says in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"^input: received '.*none', accepted: an IDX file"),
        open_images(tmp_path / "none"),
    ):
        pass


@pytest.mark.parametrize("content", [IDX[:-1], compressed(IDX)[:-20], compressed(IDX[:-1])])
def test_a_truncated_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    with (
        pytest.raises(DataError, match=r"images is (truncated: 9 of 10 images|damaged)"),
        open_images(written(tmp_path, content)) as images,
    ):
        list(images.chunks(4))


PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0, 0, 1], [0.25, 0.5, 0.25]], np.float32)


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    path.write_text("of yesterday")
    with prediction_file(path, NAMES) as output:
        assert output.write(PROBABILITIES[:2]).tolist() == [0, 2]
        output.write(PROBABILITIES[2:])
        assert path.read_text() == "of yesterday"
    table = parquet.read_table(path)
    columns = ["row", "label", "class_name", *(f"probability_{n}" for n in range(3))]
    assert table.column_names == columns
    assert table["row"].to_pylist() == [0, 1, 2]
    assert table["label"].to_pylist() == [0, 2, 1]
    assert table["class_name"].to_pylist() == [NAMES[0], NAMES[2], NAMES[1]]
    assert np.array_equal(np.column_stack([table[c] for c in columns[3:]]), PROBABILITIES)
    assert list(tmp_path.iterdir()) == [path]


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    with prediction_file(path, NAMES) as output:
        output.write(PROBABILITIES)
    table = csv.read_csv(path)
    assert table["class_name"].to_pylist() == [NAMES[0], NAMES[2], NAMES[1]]
    probabilities = np.column_stack([table[f"probability_{n}"] for n in range(3)])
    assert np.array_equal(probabilities.astype(np.float32), PROBABILITIES)


@pytest.mark.parametrize("name", ["p.parquet", "p.csv"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError])
def test_nothing_is_left_of_a_failure(
    tmp_path: Path, name: str, error: type[BaseException]
) -> None:
    def fail() -> None:
        with prediction_file(tmp_path / name, NAMES) as output:
            output.write(PROBABILITIES)
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"^output: received .*No such file or directory\)$"),
        prediction_file(tmp_path / "none" / "p.csv", NAMES),
    ):
        pass
