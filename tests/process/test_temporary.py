"""Temporary files and folders of processes that were killed go; those of living ones stay."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fm_mlflow.process import identity, temporary
from fm_mlflow.process.atomic_file import atomic_file
from fm_mlflow.process.temporary import (
    MARK,
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
    huge = f"{'0' * 8}-{'9' * 5000}-1"  # as a store may have it
    marks = (mark(), dead, again, elsewhere, unknown, huge)
    assert [is_abandoned(each) for each in marks] == [False, True, True, False, False, False]
    assert re.fullmatch(MARK, mark())
    assert not re.fullmatch(MARK, huge)
    target = place / "of the user"
    target.mkdir()
    kept = [place / f"fm_mlflow-{elsewhere}-x", place / "fm_mlflow-journals-x", target]
    for folder in kept[:2]:
        folder.mkdir()
    link = place / f"fm_mlflow-{dead}-x"
    link.symlink_to(target)
    remove_abandoned_folders()
    assert sorted(place.iterdir()) == sorted([*kept, link])


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
@pytest.mark.parametrize("error", [PermissionError, FileNotFoundError])
def test_a_process_that_proc_hides_is_not_gone(
    monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    ours, pid, start = mark().split("-")
    again, dead = f"{ours}-{pid}-1", f"{ours}-{2**22 + 1}-{start}"
    assert is_abandoned(again)
    this = identity.this_process()
    monkeypatch.setattr(temporary, "this_process", lambda: this)

    def hidden(_path: Path, **_: str) -> str:
        raise error

    monkeypatch.setattr(identity, "_boot", lambda: this.boot)
    monkeypatch.setattr(Path, "read_text", hidden)
    assert [is_abandoned(each) for each in (again, dead)] == [False, True]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps owners elsewhere")
def test_what_is_another_users_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _, start = mark().split("-")
    left = tmp_path / f".report.{ours}-{2**22 + 1}-{start}.{'0' * 16}.part.html"
    left.touch()
    is_user = os.geteuid()
    for user in (is_user + 1, is_user):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        assert left.exists()
        with atomic_file(tmp_path / "report.html") as part:
            part.write_text("whole")
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_one_look_for_a_process(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    temporary._remove_abandoned_folders_once.cache_clear()
    monkeypatch.setattr(temporary, "remove_abandoned_folders", lambda: looks.append(1))
    for _ in range(3):
        with temporary_folder():
            pass
    assert looks == [1]
