"""Pictures to predict: which files are taken, what they are brought to, what is refused."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import csv

from fm_mlflow.data.example_file import open_examples
from fm_mlflow.data.lazy_images import ImageFiles
from fm_mlflow.data.prediction_file import NumberFile, output_file, prediction_file
from fm_mlflow.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)


def picture(path: Path, pixels: Any = PIXELS, **settings: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **settings)
    return path


def read(path: Path, *wanted: int) -> tuple[np.ndarray[Any, Any], tuple[str, ...], str]:
    with open_examples(path) as opened:
        examples, changed = opened.for_images(wanted)
        chunks = list(examples.chunks(2))
        assert sum(map(len, chunks)) == examples.count == len(examples.names)
        assert {each.dtype for each in chunks} == {examples.dtype}
        whole = np.concatenate(chunks)
        assert whole.shape == (examples.count, *examples.shape)
        return whole, examples.names, changed


@pytest.mark.parametrize("wanted", [(28, 28), (28, 28, 1), (-1, -1, 1)])
def test_a_picture_that_fits_is_taken_as_it_is(tmp_path: Path, wanted: tuple[int, ...]) -> None:
    pixels, names, changed = read(picture(tmp_path / "boot.PNG"), *wanted)
    assert np.array_equal(pixels.reshape(28, 28), PIXELS)
    assert (names, changed) == (("boot.PNG",), "")


def test_what_is_changed_is_said(tmp_path: Path) -> None:
    colours = np.zeros((10, 20, 3), np.uint8) + np.array([200, 100, 50], np.uint8)
    file = picture(tmp_path / "photo.webp", colours, lossless=True)
    pixels, _, changed = read(file, 28, 28)
    assert changed == "the picture is brought to 28 x 28 pixels, grey, as the model takes it"
    luma = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    assert np.unique(pixels).tolist() == [round(luma)]
    pixels, _, changed = read(file, 5, 7, 3)
    assert changed == "the picture is brought to 7 x 5 pixels, in colour, as the model takes it"
    assert np.unique(pixels.reshape(-1, 3), axis=0).tolist() == [[200, 100, 50]]


def test_a_folder_is_taken_in_the_order_of_its_names(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    for number, name in enumerate(["b.png", "a.bmp", "more/=c.png", ".hidden.png", ".git/d.png"]):
        picture(folder / name, PIXELS // 2 + np.uint8(number))
    picture(folder / "z.png", PIXELS[:14])
    (folder / "notes.txt").write_text("no picture")
    pixels, names, changed = read(folder, 28, 28)
    assert names == ("a.bmp", "b.png", "more/=c.png", "z.png")
    assert (pixels[:3] - PIXELS // 2)[:, 0, 0].tolist() == [1, 0, 2]
    assert changed == "1 of 4 pictures are brought to 28 x 28 pixels, grey, as the model takes it"
    with open_examples(folder) as examples:
        assert examples.pictures is not None
        assert examples.pictures.left_out == 1


def test_what_of_a_folder_is_not_read_is_counted_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pictures"
    picture(folder / "a.png")
    picture(folder / "closed" / "b.png")
    (folder / ".DS_Store").write_text("hidden")
    (folder / "linked").symlink_to(tmp_path, target_is_directory=True)
    with open_examples(folder) as examples:
        assert examples.pictures is not None
        assert (examples.names, examples.pictures.left_out) == (("a.png", "closed/b.png"), 1)
    scandir = os.scandir

    def denied(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(InputError, match="closed', accepted: a folder that can be read"):
        open_examples(folder).__enter__()


@pytest.mark.parametrize("suffix", ["jpg", "bmp", "webp"])
def test_a_file_that_is_cut_off_is_refused_in_any_format(tmp_path: Path, suffix: str) -> None:
    file = picture(tmp_path / f"whole.{suffix}", np.stack([PIXELS] * 3, axis=-1))
    with open_examples(file) as examples:
        assert examples.for_images((28, 28, 3))[1] == ""
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(InputError, match="cannot be read"):
        open_examples(cut).__enter__()


def png(**settings: Any) -> bytes:
    file = io.BytesIO()
    Image.new(settings.pop("mode", "L"), settings.pop("size", (4, 4))).save(file, "png", **settings)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be read"),
        (b"GIF89a", "cannot be read"),
        (png()[:-30], "cannot be read"),
        (png(mode="1", size=(9000, 9000)), "at most 50,000,000 pixels are read"),
        (png(mode="I;16"), "more than 8 bits a channel"),
        (None, r"cannot be read: No such file or directory\)$"),
    ],
)
@pytest.mark.parametrize("within", [False, True])
def test_what_is_refused_before_anything_is_predicted(
    tmp_path: Path, content: bytes | None, said: str, within: bool
) -> None:
    file = picture(tmp_path / "folder" / "fine.png").with_name("x.png")
    if content is not None:
        file.write_bytes(content)
    elif within:
        file.symlink_to("nowhere")
    given = file.parent if within else file
    with pytest.raises(InputError, match=said) as refused, open_examples(given):
        pass
    assert str(refused.value).startswith(f"input: received '{given}', accepted: a picture (.png")
    assert str(file) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_without_pictures_and_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(InputError, match="a folder of them; it has none"), open_examples(tmp_path):
        pass
    (tmp_path / "x.gif").write_bytes(b"GIF89a")
    with (
        pytest.raises(InputError, match=r"or a picture \(\.png, \.jpg, \.jpeg, \.bmp, \.webp\)"),
        open_examples(tmp_path / "x.gif"),
    ):
        pass


def test_pixels_are_decoded_when_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pictures"
    for number in range(5):
        picture(folder / f"{number}.png")
    asked: list[int] = []
    rows_of = ImageFiles.__getitem__

    def counted(files: ImageFiles, rows: Any) -> Any:
        asked.append(len(rows))
        return rows_of(files, rows)

    monkeypatch.setattr(ImageFiles, "__getitem__", counted)
    read(folder, 28, 28)
    assert asked == [2, 2, 1]


def test_the_output_names_the_files(tmp_path: Path) -> None:
    files = ("a.png", "b, c.png", "d.png")
    with prediction_file(tmp_path / "p.csv", ("Bag", "Boot"), files) as output:
        output.write(np.array([[1, 0], [0, 1]], np.float32))
        output.write(np.array([[0.5, 0.5]], np.float32))
    table = csv.read_csv(tmp_path / "p.csv")
    assert table.column_names[:3] == ["row", "file", "label"]
    assert tuple(table["file"].to_pylist()) == files
    with output_file(tmp_path / "n.csv", lambda path: NumberFile(path, 1, files)) as numbers:
        numbers.write(np.array([[1.5], [2.5], [3.5]]))
    of_numbers = csv.read_csv(tmp_path / "n.csv")
    assert of_numbers.column_names == ["row", "file", "prediction"]
    assert of_numbers.schema.field("file").type == pa.string()
