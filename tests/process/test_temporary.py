"""Temporary files and folders of processes that were killed go; those of living ones stay."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fm_mlflow.process import temporary
from fm_mlflow.process.atomic_file import atomic_file
from fm_mlflow.process.temporary import (
    is_abandoned,
    mark,
    remove_abandoned_folders,
    temporary_folder,
)

_KILLED = """
import os, signal, sys
from pathlib import Path
from fm_mlflow.process.atomic_file import atomic_file
from fm_mlflow.process.temporary import temporary_folder
with temporary_folder() as folder, atomic_file(Path(sys.argv[1])) as part:
    (folder / "download").write_text("half")
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_what_a_killed_process_left_goes_with_the_next_use(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    environment = {**os.environ, "TMPDIR": str(place)}
    subprocess.run([sys.executable, "-c", _KILLED, str(path)], env=environment, check=False)
    (left,) = place.iterdir()
    assert (left / "download").exists()
    assert len(list(tmp_path.glob(".report.*.part.html"))) == 1
    with atomic_file(tmp_path / "another.html") as part:
        part.write_text("whole")
    assert len(list(tmp_path.glob(".report.*.part.html"))) == 1  # not its own
    with atomic_file(path) as part:
        part.write_text("whole")
    remove_abandoned_folders()
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "another.html",
        "report.html",
        "tmp",
    ]
    assert not list(place.iterdir())


def test_what_a_living_process_has_stays(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with temporary_folder() as folder, atomic_file(path) as first:
        first.write_text("first")
        remove_abandoned_folders()
        with atomic_file(path) as second:
            second.write_text("second")
        assert folder.exists()
        assert first.exists()
    assert path.read_text() == "first"
    assert not list(place.iterdir())


def test_what_nobody_here_can_tell_stays(place: Path) -> None:
    ours, pid, start = mark().split("-")
    dead = f"{ours}-{2**22 + 1}-{start}"
    again = f"{ours}-{pid}-1"  # its pid is another process's now
    elsewhere = f"{'0' * 8}-{pid}-1"
    unknown = f"{ours}-{pid}-unknown"
    marks = (mark(), dead, again, elsewhere, unknown)
    assert [is_abandoned(each) for each in marks] == [False, True, True, False, False]
    target = place / "of the user"
    target.mkdir()
    kept = [place / f"fm_mlflow-{elsewhere}-x", place / "fm_mlflow-journals-x", target]
    for folder in kept[:2]:
        folder.mkdir()
    link = place / f"fm_mlflow-{dead}-x"
    link.symlink_to(target)
    remove_abandoned_folders()
    assert sorted(place.iterdir()) == sorted([*kept, link])


def test_one_look_for_a_process(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    temporary._remove_abandoned_folders_once.cache_clear()
    monkeypatch.setattr(temporary, "remove_abandoned_folders", lambda: looks.append(1))
    for _ in range(3):
        with temporary_folder():
            pass
    assert looks == [1]
