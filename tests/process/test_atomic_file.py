"""Files that are whole or not there."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from benchmarks.disk_history import record
from fm_mlflow.process.atomic_file import atomic_file


@pytest.mark.parametrize("durable", [False, True])
def test_the_file_appears_whole(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "report.csv"
    path.write_text("of yesterday")
    with atomic_file(path, durable=durable) as temporary:
        temporary.write_text("of today")
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".csv"
        assert path.read_text() == "of yesterday"
    assert path.read_text() == "of today"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "report.csv"
    path.write_text("of yesterday")

    def fail() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert [each.read_text() for each in tmp_path.iterdir()] == ["of yesterday"]


def test_two_writers_and_whoever_guesses_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    with atomic_file(path) as first:
        (tmp_path / "of another").write_text("of another")
        first.symlink_to(tmp_path / "of another")  # a name of the past, as another could plant it
        with atomic_file(path) as second:
            second.write_text("of today")
        first.unlink()
        first.write_text("later")
    assert path.read_text() == "later"
    assert (tmp_path / "of another").read_text() == "of another"


def test_a_file_that_nobody_wrote_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "report.csv"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stem", ["a" * 250, "\U0001f600" * 60], ids=["long", "wide"])
def test_a_long_name(tmp_path: Path, stem: str) -> None:
    for text in ("of yesterday", "of today"):
        with atomic_file(tmp_path / f"{stem}.csv") as temporary:
            temporary.write_text(text)
    assert [each.read_text() for each in tmp_path.iterdir()] == ["of today"]


def test_a_file_system_without_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    for code, durable in ((errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EINVAL, True)):
        with nullcontext() if not durable else pytest.raises(OSError, match="Invalid"):
            with atomic_file(tmp_path / "report.csv", durable=durable) as temporary:
                temporary.write_text(f"{code}")
    code = errno.EIO
    with pytest.raises(OSError, match="error"), atomic_file(tmp_path / "report.csv") as temporary:
        temporary.touch()
    assert [each.read_text() for each in tmp_path.iterdir()] == [f"{errno.ENOTSUP}"]


REPLACED = """
import sys
from pathlib import Path
from fm_mlflow.process.atomic_file import atomic_file, durable_folder

root = Path(sys.argv[1])
with atomic_file(root / "report.csv") as temporary:
    temporary.write_text("of today")
durable_folder(root / "a" / "b")
with atomic_file(root / "a" / "b" / "c", durable=True) as temporary:
    temporary.write_text("of today")
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not on this machine")
def test_what_a_power_cut_leaves(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "report.csv").write_text("of yesterday")
    history = record([sys.executable, "-c", REPLACED, str(root)], root, (), tmp_path / "log")
    seen = set()
    for cut in history.cuts():
        choices, is_all = history.states(cut, random.Random(0), 1000)
        assert is_all
        seen |= {history.disk(cut, choice)["report.csv"] for choice in choices}
    assert seen == {b"of yesterday", b"of today"}
    last, _ = history.states(len(history.operations), random.Random(0), 1000)
    for choice in last:
        assert history.disk(len(history.operations), choice)["a/b/c"] == b"of today"
