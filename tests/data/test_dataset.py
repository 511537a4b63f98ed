"""Data sets: found in order, verified, and every kind of damage told apart."""

from __future__ import annotations

import functools
import gzip
import hashlib
import struct
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fm_mlflow.data import dataset, fashion_mnist
from fm_mlflow.data.dataset import load_dataset
from fm_mlflow.errors import DataError, InputError
from tests.processes import free_port

NAMES = list(fashion_mnist.SHA256)


def idx(array: NDArray[np.uint8]) -> bytes:
    return (
        b"\0\0\x08"
        + bytes([array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + (array.tobytes())
    )


def small_files() -> dict[str, bytes]:
    random = np.random.default_rng(0)
    contents = {}
    for part, count in (("train", 20), ("t10k", 10)):
        images = random.integers(0, 256, (count, 28, 28), np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        contents[f"{part}-images-idx3-ubyte"] = idx(images)
        contents[f"{part}-labels-idx1-ubyte"] = idx(labels)
    return contents


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, bytes]:
    """A small stand-in for the four files, known by its own checksums; nothing else is found."""
    contents = small_files()
    sums = {name: hashlib.sha256(contents[name]).hexdigest() for name in NAMES}
    monkeypatch.setattr(fashion_mnist, "SHA256", sums)
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("FM_MLFLOW_DATA_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("FM_MLFLOW_DATA_DIR", raising=False)
    return contents


def write(folder: Path, contents: dict[str, bytes], *, compressed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        path = folder / (f"{name}.gz" if compressed else name)
        path.write_bytes(gzip.compress(content) if compressed else content)
    return folder


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that a real HTTP server offers as the place to download from."""
    folder = tmp_path / "mirror"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        monkeypatch.setenv("FM_MLFLOW_DATA_URL", f"http://127.0.0.1:{server.server_port}/")
        yield folder
        server.shutdown()


@pytest.mark.thorough
def test_the_real_data(fashion_mnist_folder: Path) -> None:
    loaded = load_dataset("fashion_mnist", str(fashion_mnist_folder))
    assert loaded.train.inputs.shape == (60_000, 28, 28)
    assert loaded.test.inputs.shape == (10_000, 28, 28)
    assert loaded.train.inputs.dtype == loaded.train.targets.dtype == np.uint8
    assert np.bincount(loaded.train.targets).tolist() == [6_000] * 10
    assert np.bincount(loaded.test.targets).tolist() == [1_000] * 10
    assert loaded.class_names[9] == "Ankle boot"
    # The mean grey level that the literature gives for the training images.
    assert loaded.train.inputs.mean() / 255 == pytest.approx(0.2860, abs=1e-4)


def test_places_are_searched_in_order(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "named"
    monkeypatch.setenv("FM_MLFLOW_DATA_DIR", str(named))
    places = [tmp_path / "debian", tmp_path / "keras/datasets/fashion-mnist", named]
    for place in places:  # from the last to the first
        write(place, files)
        assert load_dataset("fashion_mnist").source == str(place)
    given = write(tmp_path / "given", files, compressed=False)
    assert load_dataset("fashion_mnist", str(given)).source == str(given)


def test_the_digest_is_of_the_contents_alone(files: dict[str, bytes], tmp_path: Path) -> None:
    compressed = load_dataset("fashion_mnist", str(write(tmp_path / "a", files)))
    plain = load_dataset("idx", str(write(tmp_path / "b", files, compressed=False)))
    assert compressed.digest == plain.digest == compressed.hold_out(0.2).digest
    assert compressed.train.digest != compressed.test.digest
    changed = dict(files)
    changed[NAMES[2]] = changed[NAMES[2]][:-1] + bytes([changed[NAMES[2]][-1] ^ 1])
    other = load_dataset("idx", str(write(tmp_path / "c", changed)))
    assert other.digest != plain.digest
    assert other.train.digest == plain.train.digest


def damaged(files: dict[str, bytes], kind: str) -> bytes:
    content = files[NAMES[0]]
    packed = gzip.compress(content)
    middle = len(packed) // 2
    return {
        "truncated gzip": packed[:middle],
        "corrupted gzip": packed[:middle] + bytes([packed[middle] ^ 0xFF]) + packed[middle + 1 :],
        "truncated": content[:-1],
        "too long": content + b"\0",
        "not IDX": b"<html>sign in</html>",
        "half a header": content[:9],
        "empty": b"",
        "another data set": content[:-1] + bytes([content[-1] ^ 1]),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("truncated gzip", "is truncated at"),
        ("corrupted gzip", "is corrupted"),
        ("truncated", "is truncated: 15695 bytes, 15696 expected"),
        ("too long", "is longer than its header says: 15697 bytes, 15696 expected"),
        ("not IDX", "is not an IDX file of unsigned bytes"),
        ("half a header", "is truncated within its header"),
        ("empty", "is not an IDX file"),
        ("another data set", "is not Fashion-MNIST's file: the SHA-256"),
    ],
)
def test_damage_is_named_and_the_way_out_is_told(
    files: dict[str, bytes], tmp_path: Path, kind: str, says: str
) -> None:
    folder = write(tmp_path / "data", files)
    (folder / f"{NAMES[0]}.gz").write_bytes(damaged(files, kind))
    with pytest.raises(DataError) as error:
        load_dataset("fashion_mnist", str(folder))
    message = str(error.value)
    assert str(folder / NAMES[0]) in message
    assert says in message
    assert "delete it and fetch it again" in message
    assert "--dataset digits" in message
    assert "\n" not in message


def test_a_folder_with_missing_files_is_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    folder = write(tmp_path / "data", files)
    (folder / f"{NAMES[3]}.gz").unlink()
    with pytest.raises(InputError, match=f"^data_dir: received .*missing: {NAMES[3]}"):
        load_dataset("fashion_mnist", str(folder))
    with pytest.raises(InputError, match=r"^data_dir: received .*no such folder"):
        load_dataset("fashion_mnist", str(tmp_path / "nowhere"))


def test_no_network(files: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        load_dataset("fashion_mnist")
    message = str(error.value)
    assert "cannot be downloaded (" in message
    assert "refused" in message
    for hint in ("--data-dir", "FM_MLFLOW_DATA_DIR", "dataset-fashion-mnist", "--dataset digits"):
        assert hint in message
    assert str(tmp_path / "debian") in message
    assert "\n" not in message
    assert list((tmp_path / "keras/datasets/fashion-mnist").iterdir()) == []


def test_download_into_the_keras_cache(files: dict[str, bytes], mirror: Path) -> None:
    write(mirror, files)
    heard: list[tuple[str, int, int | None]] = []
    loaded = load_dataset("fashion_mnist", on_download=lambda *news: heard.append(news))
    cache = Path(loaded.source)
    assert sorted(path.name for path in cache.iterdir()) == sorted(f"{name}.gz" for name in NAMES)
    assert {name for name, _, _ in heard} == {f"{name}.gz" for name in NAMES}
    assert all(done == total for _, done, total in heard)  # small files arrive at once
    # Only what is missing is fetched again.
    (cache / f"{NAMES[1]}.gz").unlink()
    heard.clear()
    load_dataset("fashion_mnist", on_download=lambda *news: heard.append(news))
    assert {name for name, _, _ in heard} == {f"{NAMES[1]}.gz"}


def test_a_bad_download_leaves_nothing(files: dict[str, bytes], mirror: Path) -> None:
    write(mirror, files)
    (mirror / f"{NAMES[0]}.gz").write_bytes(b"<html>sign in</html>")
    with pytest.raises(DataError, match=r"http://127.*is not an IDX file"):
        load_dataset("fashion_mnist")
    assert list(fashion_mnist._keras_cache().iterdir()) == []
    (mirror / f"{NAMES[0]}.gz").unlink()
    with pytest.raises(DataError, match="HTTP 404"):
        load_dataset("fashion_mnist")


def test_an_interrupted_download_leaves_nothing(files: dict[str, bytes], mirror: Path) -> None:
    write(mirror, files)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_dataset("fashion_mnist", on_download=interrupt)
    assert list(fashion_mnist._keras_cache().iterdir()) == []


def test_idx_takes_any_names_that_say_what_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "letters"
    renamed = {
        f"emnist-letters-{name.replace('t10k', 'test')}": content
        for name, content in small_files().items()
    }
    loaded = load_dataset("idx", str(write(folder, renamed)))
    assert (len(loaded.train), len(loaded.test)) == (20, 10)
    assert loaded.class_names == tuple("0123456789")


def test_idx_refuses_what_is_missing_or_ambiguous(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", small_files())
    write(folder, {NAMES[0]: small_files()[NAMES[0]]}, compressed=False)
    with pytest.raises(InputError, match="exactly one file of train images"):
        load_dataset("idx", str(folder))
    with pytest.raises(InputError, match="an existing folder"):
        load_dataset("idx", str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("name", "array", "says"),
    [
        (NAMES[1], np.zeros(19, np.uint8), "20 training images but 19 labels"),
        (NAMES[3], np.full(10, 10, np.uint8), "a test label is 10, but there are only 10 classes"),
        (NAMES[2], np.zeros((10, 14, 14), np.uint8), "do not belong together"),
        (NAMES[0], np.zeros(20, np.uint8), "the training images have 1 axes"),
    ],
)
def test_idx_files_must_belong_together(
    tmp_path: Path, name: str, array: NDArray[np.uint8], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        load_dataset("idx", str(write(tmp_path / "data", {**small_files(), name: idx(array)})))


def test_idx_without_images(tmp_path: Path) -> None:
    empty = {NAMES[2]: idx(np.zeros((0, 28, 28), np.uint8)), NAMES[3]: idx(np.zeros(0, np.uint8))}
    with pytest.raises(DataError, match="there are no test images"):
        load_dataset("idx", str(write(tmp_path / "data", {**small_files(), **empty})))


def test_idx_needs_two_classes(tmp_path: Path) -> None:
    zeros = {NAMES[1]: idx(np.zeros(20, np.uint8)), NAMES[3]: idx(np.zeros(10, np.uint8))}
    with pytest.raises(DataError, match="two classes or more"):
        load_dataset("idx", str(write(tmp_path / "data", {**small_files(), **zeros})))


def test_a_path_that_cannot_be(files: dict[str, bytes]) -> None:
    with pytest.raises(InputError, match=r"^data_dir"):
        load_dataset("fashion_mnist", "x" * 5000)
    with pytest.raises(InputError, match=r"^data_dir"):
        load_dataset("idx", "nul\0")


def test_digits() -> None:
    loaded = load_dataset("digits")
    assert (len(loaded.train), len(loaded.test)) == (1437, 360)
    assert loaded.example_shape == (28, 28)
    assert loaded.train.inputs.max() == 255
    # The first image is a test image: 8x8 pixels, each threefold, within a border of 2.
    from sklearn.datasets import load_digits

    original = load_digits().images[0]
    enlarged = loaded.test.inputs[0, 3:26:3, 3:26:3]
    np.testing.assert_allclose(enlarged, original * 255 / 16, atol=0.5)
    assert not loaded.test.inputs[:, [0, 1, 26, 27]].any()


def test_digits_are_read_without_scikit_learn_or_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.delattr("sklearn.datasets.load_digits")
        read = load_dataset("digits")
    monkeypatch.setattr(dataset, "find_spec", lambda _name: None)
    assert load_dataset("digits").digest == read.digest


def test_hold_out_takes_the_last_share() -> None:
    whole = load_dataset("digits")
    held = whole.hold_out(0.1)
    assert held.validation is not None
    assert (len(held.train), len(held.validation)) == (1293, 144)
    np.testing.assert_array_equal(held.validation.inputs, whole.train.inputs[1293:])
    assert whole.hold_out(0) is whole


@pytest.mark.parametrize("share", [0.0001, 0.9999])
def test_hold_out_leaves_images_on_both_sides(share: float) -> None:
    with pytest.raises(InputError, match=r"^validation_split: received"):
        load_dataset("digits").hold_out(share)
