"""Files that somebody else wrote: how much of them is read, and what damage is called."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, StringIO
from pathlib import Path
from typing import Any

import yaml

from fm_mlflow.data.gzip_member import AT_ONCE, GZIP_MAGIC, GzipMember, most_unpacked
from fm_mlflow.process.regular_file import open_regular, size_of

LARGEST_TEXT = 256 * 1024
"""Bytes of a JSON, YAML or CSV file. Those that a training logs have some 10,000."""

_MOST_NODES = 50_000
_DEEPEST = 50
_MOST_ROWS = 10_000
_LONGEST_VALUE = 10_000
_LONGEST_REASON = 500

# The C parser is some ten times as fast, where PyYAML was built with it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@contextmanager
def damage_in_words() -> Iterator[None]:
    """Raise ValueError for whatever a parser raises: given damage, parsers raise what they like.

    It says no more than the beginning of what they quote. An OSError stays what it is.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        if not isinstance(error, ValueError):
            text = ": ".join(filter(None, [type(error).__name__, text]))
        cut = f"{text[:_LONGEST_REASON]}…" if len(text) > _LONGEST_REASON else text
        raise ValueError(cut) from error


def check_size(file: BufferedReader, largest: int) -> None:
    """Refuse an open file that is too large.

    Raises:
        ValueError: It is.
    """
    if (size := size_of(file)) > largest:
        raise ValueError(f"it has {size:,} bytes, at most {largest:,} are read")


@dataclass(frozen=True)
class Unpacked:
    """A file open for reading, unpacked if it is gzip-compressed.

    Attributes:
        stream: Its contents.
        length: How many bytes these are; None where a compressed file does not say.
        most: How many they may be in a file of its size.
    """

    stream: BufferedReader
    length: int | None
    most: int


@contextmanager
def open_unpacked(path: Path) -> Iterator[Unpacked]:
    """Open a regular file, gzip-compressed or not.

    Reading a compressed one raises ValueError where it is damaged (`GzipMember`).

    Raises:
        OSError: It cannot be read.
    """
    with open_regular(path) as file:
        size = size_of(file)
        if file.peek(2).startswith(GZIP_MAGIC):
            stream: BufferedReader = BufferedReader(GzipMember(file), AT_ONCE)
            yield Unpacked(stream, None, most_unpacked(size))
        else:
            yield Unpacked(file, size, size)


def read_text(path: Path) -> str:
    """Read a small text file in UTF-8.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no such text, or too large.
    """
    with open_regular(path) as file:
        check_size(file, LARGEST_TEXT)
        return file.read(LARGEST_TEXT + 1).decode("utf-8")


def read_yaml(path: Path) -> Any:
    """Read a small YAML file of plain values. Aliases and prefixes of tags make gigabytes of lines.

    Raises:
        OSError: It cannot be read.
        ValueError: It is none, too large or too deep, has aliases, prefixes of tags, or a value of
            too many characters.
    """
    text = read_text(path)
    with damage_in_words():
        depth = 0
        for number, event in enumerate(yaml.parse(text, Loader=_Loader)):
            match event:
                case yaml.AliasEvent():
                    raise ValueError("it has aliases")
                case yaml.DocumentStartEvent(tags=prefixes) if prefixes:
                    # Thousands of tags may have one prefix of 200,000 characters.
                    raise ValueError("it has %TAG directives")
                case yaml.ScalarEvent(implicit=(_, False), value=value):
                    # Not a quoted one: PyYAML may make a number of it, in quadratic time.
                    if len(value) > _LONGEST_VALUE:
                        raise ValueError(f"a value of more than {_LONGEST_VALUE:,} characters")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST or number > _MOST_NODES:
                raise ValueError(
                    f"more than {_MOST_NODES:,} values, or nested more than {_DEEPEST} deep"
                )
        return yaml.load(text, Loader=_Loader)  # a safe one


def read_csv(path: Path) -> Iterator[Mapping[str, str]]:
    """Yield the rows of a small CSV file by its header's names.

    Raises:
        OSError: It cannot be read.
        ValueError: It is none, too large, or a row is longer or shorter than the header.
    """
    text = read_text(path)
    with damage_in_words():
        rows = csv.reader(StringIO(text, newline=""), strict=True)
        header = next(rows, [])
        for number, row in enumerate(rows, 1):
            if len(row) != len(header) or number > _MOST_ROWS:
                raise ValueError(
                    f"row {number:,} has {len(row):,} fields of {len(header):,}; at most "
                    f"{_MOST_ROWS:,} rows are read"
                )
            yield dict(zip(header, row, strict=True))
