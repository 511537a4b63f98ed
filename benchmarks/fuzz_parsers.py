"""Fuzz the parsers of foreign files, guided by the coverage that each input reaches.

    pip install atheris
    python -m benchmarks.fuzz_parsers journal --seconds 600

Parsers: journal, state, checkpoint, idx, npy, npz, predictions, model. Every other input has its
checksums mended after it was changed, since nothing behind them would be reached otherwise. What a
parser raises must be its own error; what it returns must hold (a journal that is appended to keeps
what could be read of it, say). Findings are kept in --kept, one for each place in the code; prints
one JSON object. An input that takes over 20 s or 2 GiB ends the campaign, with the input in --kept.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import random
import struct
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

_PARSERS = ("journal", "state", "checkpoint", "idx", "npy", "npz", "predictions", "model")
_SECONDS, _MIB = 20, 2048

Target = Callable[[bytes, Path], bool]
"""Reads an input in a folder; whether it was refused. What it raises is a finding."""


def mended_lines(data: bytes) -> bytes:
    """Give each line of a journal the checksum of its text."""
    texts = [line.partition(b" ")[2] for line in data.split(b"\n")[:-1]]
    return b"".join(b"%08x %s\n" % (zlib.crc32(text), text) for text in texts)


def journal(data: bytes, folder: Path) -> bool:
    """Read a journal's file, append to it, and read it again."""
    from fm_mlflow.tracking.outbox.journal_file import encoded, read_first, read_records
    from fm_mlflow.tracking.outbox.lease import Lease
    from fm_mlflow.tracking.outbox.records import Batch, Unreadable
    from fm_mlflow.tracking.outbox.schema import RecordError

    data = mended_lines(data[1:]) if data[:1] == b"\1" else data[1:]
    path = folder / "journal.jsonl"
    path.write_bytes(data)
    try:
        with path.open("rb") as file:
            read_first(file)
    except RecordError:
        pass
    with path.open("r+b", buffering=0) as opened:
        found = read_records(opened)
        Lease.of_journal(found.records)
        for record in found.records:
            if isinstance(record, Batch):
                record.items("run", "model")
        added = Batch(tags={"added": "1"})
        opened.seek(found.end)
        opened.write(encoded(added, len(found.records)))
        opened.seek(0)
        again = read_records(opened)
    there = [encoded(each, 0) for each in found.records if not isinstance(each, Unreadable)]
    left = [encoded(each, 0) for each in again.records if not isinstance(each, Unreadable)]
    if left != [*there, encoded(added, 0)] and found.records:
        raise AssertionError(f"{len(there)} records were read, {len(left)} after an append")
    return bool(found.damaged)


def state(data: bytes, folder: Path) -> bool:
    """Read a journal's state, write it, and read it again."""
    from fm_mlflow.tracking.outbox.schema import RecordError
    from fm_mlflow.tracking.outbox.state import State

    path = folder / "state.json"
    if data[:1] == b"\1":
        try:
            values = json.loads(data[1:])
            values.pop("checksum", None)
            text = json.dumps(values)
            data = (
                b"\0"
                + json.dumps({**values, "checksum": f"{zlib.crc32(text.encode()):08x}"}).encode()
            )
        except (ValueError, AttributeError, TypeError, RecursionError):
            pass
    path.write_bytes(data[1:])
    try:
        found = State.load(folder, 100)
    except RecordError as error:
        if "\n" in str(error) or not str(error).isprintable():
            raise AssertionError(f"not in one line: {error!r}") from error
        return True
    found.model_before(100)
    found.write(folder)
    if asdict(State.load(folder, 100)) != asdict(found):
        raise AssertionError("it was read otherwise than it was written")
    return False


def archive(data: bytes) -> bytes:
    """Make an .npz file of entries: length and text of a name, length and bytes of an array."""
    packed, place = io.BytesIO(), 0
    with zipfile.ZipFile(packed, "w") as made:
        while place + 5 <= len(data) and len(made.namelist()) < 50:
            name_length, length = struct.unpack_from("<BI", data, place)
            name = data[place + 5 : place + 5 + name_length].decode(errors="replace")
            place += 5 + name_length
            made.writestr(zipfile.ZipInfo(name or "a"), data[place : place + length])
            place += length
    return packed.getvalue()


def entries(npz: bytes) -> bytes:
    """Return the entries of an .npz file, as `archive` takes them."""
    made = b""
    with zipfile.ZipFile(io.BytesIO(npz)) as found:
        for name in found.namelist():
            content = found.read(name)
            made += struct.pack("<BI", len(name), len(content)) + name.encode() + content
    return made


def _zipped(data: bytes) -> bytes:
    return archive(data[1:]) if data[:1] == b"\1" else data[1:]


def checkpoint(data: bytes, folder: Path) -> bool:
    """Look for the newest checkpoint, and take up the random state that it has."""
    from fm_mlflow.training.checkpoint import newest

    (folder / "even.npz").write_bytes(_zipped(data))
    found = newest([folder])
    if found is not None:
        found.restore_random_state()
    return found is None


def idx(data: bytes, folder: Path) -> bool:
    """Read IDX images as `predict` and as `train` do."""
    from fm_mlflow.data.idx import read_idx
    from fm_mlflow.errors import FmMlflowError

    refused = _images(data, folder / "images")
    try:
        read_idx(folder / "images", repair="", largest=2**24)
    except FmMlflowError:
        return True
    return refused


def _images(data: bytes, path: Path) -> bool:
    from fm_mlflow.data.image_file import open_images
    from fm_mlflow.errors import FmMlflowError

    if data[:1] == b"\1":
        packed = io.BytesIO()
        import gzip

        with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, compresslevel=1) as file:
            file.write(data[1:])
        path.write_bytes(packed.getvalue())
    else:
        path.write_bytes(data[1:])
    try:
        with open_images(path) as images:
            for _ in images.chunks(1000):
                pass
    except FmMlflowError:
        return True
    return False


def npy(data: bytes, folder: Path) -> bool:
    """Read a .npy array as images, and as examples of another kind."""
    from fm_mlflow.data.example_file import open_examples
    from fm_mlflow.errors import FmMlflowError

    refused = _images(b"\0" + data[1:], folder / "images.npy")
    try:
        with open_examples(folder / "images.npy") as examples:
            for _ in examples.chunks(1000):
                pass
    except FmMlflowError:
        return True
    return refused


def npz(data: bytes, folder: Path) -> bool:
    """Read a data set of one's own."""
    from fm_mlflow.data.npz_dataset import load_npz
    from fm_mlflow.data.rows import check_parts
    from fm_mlflow.errors import FmMlflowError

    (folder / "data.npz").write_bytes(_zipped(data))
    try:
        check_parts(load_npz(folder / "data.npz"))
    except FmMlflowError:
        return True
    return False


def predictions(data: bytes, folder: Path) -> bool:
    """Read the predictions of a run as `compare` does."""
    from fm_mlflow.tracking.predictions import Wanted, read_predictions

    (folder / "test.npz").write_bytes(_zipped(data))
    try:
        read_predictions(folder / "test.npz", Wanted(250_000, 2**24, None, 0.5))
    except (OSError, ValueError):
        return True
    return False


def model(data: bytes, folder: Path) -> bool:
    """Read what a logged model says of itself."""
    from fm_mlflow.tracking.model_files import ModelFiles

    (folder / "MLmodel").write_bytes(data[1:])
    try:
        ModelFiles.of(folder)
    except (OSError, ValueError):
        return True
    return False


TARGETS: dict[str, Target] = {
    each.__name__: each for each in (journal, state, checkpoint, idx, npy, npz, predictions, model)
}


def seeds(name: str, folder: Path) -> list[bytes]:
    """Return valid inputs of a parser, and hostile ones that the tests have."""
    from tests.hostile_files import KINDS

    if name == "journal":
        from benchmarks.fuzz_journals import _write_journal

        _write_journal(folder / "j-1", "sqlite:///a.db", "0", None, has_model=True)
        whole = (folder / "j-1" / "journal.jsonl").read_bytes()
        return [b"\0" + whole, b"\1" + whole]
    if name == "state":
        from fm_mlflow.tracking.outbox.state import State

        State("run", "0", "file:/a", {"3": "m-1"}, 7, {"5": "later"}, {"6": "never"}).write(folder)
        whole = (folder / "state.json").read_bytes()
        return [b"\0" + whole, b"\1" + whole]
    if name == "checkpoint":
        from benchmarks.fuzz_journals import _checkpoint

        _checkpoint(3).write(folder / "even.npz")
        whole = (folder / "even.npz").read_bytes()
        return [b"\0" + whole, b"\1" + entries(whole)]
    if name == "npz":
        file = io.BytesIO()
        images, labels = np.zeros((4, 3, 3), np.uint8), np.arange(4)
        np.savez(file, x_train=images, y_train=labels, x_test=images, y_test=labels)
        return [b"\0" + file.getvalue(), b"\1" + entries(file.getvalue())]
    kind = {"idx": "IDX", "npy": ".npy", "predictions": "predictions", "model": "model"}[name]
    found = [KINDS[kind].valid]
    found += [each for make in KINDS[kind].cases.values() if len(each := make()) < 10_000]
    mended = [b"\1" + each for each in found if name in ("idx",)]
    if name == "predictions":
        mended = [b"\1" + entries(found[0])]
    return [*(b"\0" + each for each in found), *mended]


class Campaign:
    """Calls a target, and keeps what must not be."""

    def __init__(self, name: str, kept: Path) -> None:
        self._target, self._kept, self.name = TARGETS[name], kept, name
        self._place = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.inputs = self.refused = 0
        self.slowest = 0.0
        self.found: dict[str, str] = {}

    def one(self, data: bytes) -> None:
        """Try one input."""
        began = time.perf_counter()
        self.inputs += 1
        for left in self._place.iterdir():
            left.unlink()
        try:
            self.refused += self._target(bytes(data), self._place)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            key = f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
            if key not in self.found:
                self.found[key] = str(error)[:200]
                name = f"{self.name}-{len(self.found)}"
                (self._kept / name).write_bytes(data)
                (self._kept / f"{name}.txt").write_text(traceback.format_exc())
        self.slowest = max(self.slowest, time.perf_counter() - began)

    def report(self, seconds: float) -> dict[str, Any]:
        """Return what came of it."""
        return {
            "parser": self.name,
            "inputs": self.inputs,
            "seconds": round(seconds),
            "refused": self.refused,
            "slowest": round(self.slowest, 2),
            "found": self.found,
        }


def mutated(name: str, count: int, seed: int, kept: Path) -> dict[str, Any]:
    """Try valid inputs with random damage: what a machine without `atheris` can do."""
    from tests import hostile_files

    campaign, draw, began = Campaign(name, kept), random.Random(seed), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        valid = seeds(name, Path(folder))
    for number in range(count):
        content = valid[number % len(valid)]
        damaged = content[1:] if number < len(valid) else hostile_files.mutated(draw, content[1:])
        campaign.one(content[:1] + damaged)
    return campaign.report(time.monotonic() - began)


def main() -> None:
    """Fuzz one parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("parser", choices=_PARSERS)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kept", type=Path, default=Path(tempfile.gettempdir()) / "fuzz-parsers")
    given = parser.parse_args()
    given.kept.mkdir(parents=True, exist_ok=True)
    import atheris

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with atheris.instrument_imports(include=["fm_mlflow", "zipfile", "numpy.lib", "yaml", "json"]):
        import fm_mlflow.data.example_file
        import fm_mlflow.data.image_file
        import fm_mlflow.data.npz_dataset
        import fm_mlflow.tracking.model_files
        import fm_mlflow.tracking.outbox.journal
        import fm_mlflow.tracking.outbox.lease
        import fm_mlflow.tracking.predictions
        import fm_mlflow.training.checkpoint  # noqa: F401

    logging.disable(logging.CRITICAL)
    campaign = Campaign(given.parser, given.kept)
    corpus = Path(tempfile.mkdtemp(prefix="fuzz-corpus-"))
    with tempfile.TemporaryDirectory() as folder:
        for number, content in enumerate(seeds(given.parser, Path(folder))):
            (corpus / f"{number}").write_bytes(content)
    began = time.monotonic()

    def one(data: bytes) -> None:
        campaign.one(data)
        if time.monotonic() - began > given.seconds:
            print(json.dumps(campaign.report(time.monotonic() - began)), flush=True)
            os._exit(0)

    options = [f"-timeout={_SECONDS}", f"-rss_limit_mb={_MIB}", "-max_len=65536"]
    options += [f"-seed={given.seed}", f"-artifact_prefix={given.kept}/{given.parser}-"]
    atheris.Setup([sys.argv[0], *options, "-verbosity=0", str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
