"""What a power cut may leave: the model that `benchmarks/power_cuts.py` recovers from."""

from __future__ import annotations

import os
import random
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks.disk_history import Disk, History, Names, Sync, Write, record

DRAW = random.Random(0)


def history(initial: Disk | None = None) -> History:
    return History({} if initial is None else initial)


def left(made: History, cut: int | None = None) -> list[Disk]:
    cut = len(made.operations) if cut is None else cut
    choices, is_all = made.states(cut, DRAW, 1000)
    assert is_all
    return [made.disk(cut, choice) for choice in choices]


def renamed(made: History, old: str, new: str) -> None:
    changes = ((*made.parent(new), made.find(old)), (*made.parent(old), None))
    made.add(Names(changes), new)


def test_what_is_not_synced_may_be_missing_torn_or_zeros() -> None:
    made = history({"a": b"old"})
    inode = made.find("a")
    assert inode is not None
    made.add(Write(inode, 3, b"new"), "a")
    found = {disk["a"] for disk in left(made)}
    assert {b"old", b"oldnew", b"old\0\0\0"} <= found
    assert all(data is not None and data.startswith(b"old") for data in found)
    made.add(Sync(inode, 1), "a")
    assert left(made) == [{"a": b"oldnew"}]
    assert len(left(made, 1)) == len(found)


def test_an_fsync_covers_what_was_done_when_it_began() -> None:
    made = history({"a": b""})
    inode = made.find("a")
    assert inode is not None
    made.add(Write(inode, 0, b"1"), "a")
    made.add(Sync(inode, 0), "a")
    assert {b"", b"1"} <= {disk["a"] for disk in left(made)}


def test_a_name_survives_with_its_folder_and_data_with_their_file() -> None:
    made = history({"report": b"old"})
    inode = made.create("part")
    made.add(Write(inode, 0, b"new"), "part")
    renamed(made, "part", "report")
    # The classic: the new name, and nothing of what was written.
    assert b"" in {disk["report"] for disk in left(made)}
    made = history({"report": b"old"})
    inode = made.create("part")
    made.add(Write(inode, 0, b"new"), "part")
    made.add(Sync(inode, 2), "part")
    renamed(made, "part", "report")
    assert {disk["report"] for disk in left(made)} == {b"old", b"new"}
    made.add(Sync(0, 4), "")
    assert left(made) == [{"report": b"new"}]


def test_a_name_that_moves_survives_with_its_new_folder() -> None:
    made = history({"from": None, "from/part": b"new", "to": None})
    renamed(made, "from/part", "to/whole")
    before: Disk = {"from": None, "to": None, "from/part": b"new"}
    after: Disk = {"from": None, "to": None, "to/whole": b"new"}
    for folder, states in (("from", [before, after]), ("to", [after])):
        inode = made.find(folder)
        assert inode is not None
        made.add(Sync(inode, len(made.operations)), folder)
        assert left(made) == states


def test_without_its_folder_a_file_is_nowhere() -> None:
    made = history()
    made.create("folder", is_folder=True)
    inode = made.create("folder/a")
    made.add(Write(inode, 0, b"1"), "folder/a")
    folder = made.find("folder")
    assert folder is not None
    made.add(Sync(inode, 3), "folder/a")
    made.add(Sync(folder, 4), "folder")
    assert left(made) == [{}, {"folder": None, "folder/a": b"1"}]


def test_another_machines_folder_loses_nothing() -> None:
    made = History({"store": None}, ("store/",))
    inode = made.create("store/a")
    made.add(Write(inode, 0, b"1"), "store/a")
    assert left(made) == [{"store": None, "store/a": b"1"}]


PROGRAM = """
import os, shutil, sys
root = sys.argv[1]
os.mkdir(f"{root}/d")
with open(f"{root}/d/part", "wb") as file:
    file.write(b"ab")
    file.flush()
    os.fsync(file.fileno())
    file.seek(1)
    file.write(b"c")
os.replace(f"{root}/d/part", f"{root}/d/whole")
folder = os.open(f"{root}/d", os.O_RDONLY)
os.fsync(folder)
shutil.copy(f"{root}/d/whole", f"{root}/copy")
with open(f"{root}/copy", "ab") as file:
    file.write(b"!")
with open(f"{root}/old", "r+b") as file:
    file.truncate(1)
os.unlink(f"{root}/old")
os.mkdir(f"{root}/gone")
shutil.rmtree(f"{root}/gone")
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not on this machine")
def test_a_process_is_recorded(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "old").write_bytes(b"old")
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(root)]
    made = record(command, root, (), tmp_path / "log")  # compares it with what is there
    assert sorted(os.listdir(root)) == ["copy", "d"]
    syncs = [
        path
        for each, path in zip(made.operations, made.paths, strict=True)
        if isinstance(each, Sync)
    ]
    assert syncs == ["d/part", "d"]
    assert {disk["d/whole"] for disk in left(made) if "d" in disk} == {b"ab", b"ac"}
    assert {} in left(made) or {"old": b"old"} in left(made)
