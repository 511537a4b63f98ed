"""A pipe between a process and the one that started it: lines arrive, and nobody waits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from fm_mlflow.process.parent import VARIABLE, LineReader, Parent, parent


@pytest.fixture
def reader() -> Iterator[LineReader]:
    made = LineReader()
    yield made
    made.close()


def test_lines_arrive_whole(reader: LineReader) -> None:
    with reader.writer() as (writer,):
        assert reader.lines() == []
        Parent(writer).tell("ü")
        os.write(writer, b"half")
        assert reader.lines() == ["ü".encode()]
        os.write(writer, b" a line\n")
    assert reader.lines() == [b"half a line"]
    assert reader.lines() == []


def test_neither_a_full_pipe_nor_a_gone_reader_stops_the_writer(reader: LineReader) -> None:
    with reader.writer() as (writer,):
        telling = Parent(writer)
        for _ in range(1000):
            telling.tell("x" * 1000)
        lines = reader.lines()
        assert set(lines) == {b"x" * 1000}
        assert len(lines) < 1000
        reader.close()
        telling.tell("nobody reads this")


def test_a_child_takes_the_pipe_and_its_own_children_do_not(reader: LineReader) -> None:
    code = """
import os, subprocess, sys
from fm_mlflow.process.parent import VARIABLE, parent
descriptor = int(os.environ[VARIABLE])
parent().tell("hello")
assert VARIABLE not in os.environ
see = f"import os; os.fstat({descriptor})"
child = subprocess.run([sys.executable, "-c", see], close_fds=False, stderr=subprocess.PIPE)
parent().tell(str(b"Bad file descriptor" in child.stderr))
"""
    with reader.writer() as inherited:
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, VARIABLE: str(*inherited)},
            pass_fds=inherited,
            check=True,
        )
    assert reader.lines() == [b"hello", b"True"]


@pytest.mark.parametrize("value", ["", "no number", "-1", "99999"])
def test_without_a_pipe_there_is_no_parent(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(VARIABLE, value)
    parent.cache_clear()
    assert parent() is None


def test_a_descriptor_that_is_no_pipe_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as file:
        monkeypatch.setenv(VARIABLE, str(file.fileno()))
        parent.cache_clear()
        assert parent() is None
