"""The file of a journal: a line is the CRC-32 of a JSON record, a blank and that record.

The record has its number, so that it keeps it whatever becomes of the lines before. Files of
version 0.1.0 have no numbers; there a record's number is that of its line.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader, FileIO

from fm_mlflow.tracking.outbox.records import Record, Unreadable, read_record
from fm_mlflow.tracking.outbox.schema import RecordError, parsed

_NUMBER = "number"

# What is read. Lists within lists take 40 times the memory of their text.
_LARGEST_FILE = 96 * 2**20
_LONGEST_LINE = 8 * 2**20
_MOST_MISSING = 1_000_000  # that many records of 100 bytes are in the largest file
_MOST_DAMAGED_LINES = 100_000
_UNREADABLE = Unreadable()


@dataclass
class Contents:
    """What is in the file.

    Attributes:
        records: All records; a record's number is its place among them.
        end: Where the next record is to be written: behind the last whole line.
        damaged: How many records are missing, or cannot be read.
        damage: Which was the first of them, and what is wrong with it.
    """

    records: list[Record] = field(default_factory=list)
    end: int = 0
    damaged: int = 0
    damage: str = ""

    def place(self, record: Record, number: int) -> None:
        """Put a record where it belongs, whatever happened to the lines before its own."""
        # Nobody knows how many records a damaged line was: one, a part of one, or several.
        while len(self.records) > number and isinstance(self.records[-1], Unreadable):
            self.records.pop()
        self.records.extend([_UNREADABLE] * (number + 1 - len(self.records)))
        there = self.records[number]
        if not isinstance(there, Unreadable) and encoded(there, 0) != encoded(record, 0):
            raise RecordError(f"there is another record {number}")
        self.records[number] = record


def encoded(record: Record, number: int) -> bytes:
    """Return the line of a record."""
    # `default` is asked for the JSON objects of points within a record.
    values = {**record.to_json(), _NUMBER: number}
    text = json.dumps(values, default=lambda each: each.to_json(), separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def read_records(file: FileIO) -> Contents:
    """Read all records; one that cannot be read is `Unreadable`, and so is one that is missing.

    Raises:
        OSError: It cannot be read, is too large, or so damaged that it may never have been a
            journal.
    """
    size = os.fstat(file.fileno()).st_size
    if size > _LARGEST_FILE:
        most = _LARGEST_FILE >> 20
        raise OSError(errno.EFBIG, f"its {size >> 20} MiB are more than {most}")
    found = Contents()
    for count, (line, length) in enumerate(_lines(file), 1):
        try:
            number, record = _decoded(line, length)
            if number is None:
                number = len(found.records)
            elif not 0 <= number <= count + _MOST_MISSING:  # whatever is written behind it later
                raise RecordError("its number cannot be")
            found.place(record, number)
        except RecordError as error:
            found.damaged += 1
            found.damage = found.damage or f"line {count}: {error}"
            if found.damaged > _MOST_DAMAGED_LINES:
                raise OSError(errno.EINVAL, f"too much is damaged, first {found.damage}") from error
            found.records.append(_UNREADABLE)
        found.end += length
    lost = [number for number, each in enumerate(found.records) if isinstance(each, Unreadable)]
    found.damaged = max(found.damaged, len(lost))
    if not found.records:
        found.damaged, found.damage = 1, "record 0 is missing"
    elif lost and not found.damage:
        found.damage = f"record {lost[0]} is missing"
    return found


def read_first(file: BufferedReader) -> Record | None:
    """Return the first record; None where there is none.

    Raises:
        RecordError: It cannot be read.
    """
    line = file.readline(_LONGEST_LINE)
    number, record = _decoded(line, len(line)) if line.endswith(b"\n") else (None, None)
    return record if not number else None


def _lines(file: FileIO) -> Iterator[tuple[bytes, int]]:
    """Give the whole lines and their lengths; of one that is too long, a part.

    A last line that was torn by a power cut is left out: the next record is written over it.
    """
    reader = BufferedReader(file)
    try:
        while line := reader.readline(_LONGEST_LINE):
            length, end = len(line), line
            while end and not end.endswith(b"\n"):
                end = reader.readline(_LONGEST_LINE)
                length += len(end)
            if end:
                yield line, length
    finally:
        reader.detach()


def _decoded(line: bytes, length: int) -> tuple[int | None, Record]:
    """Return a record, and its number where the line says it."""
    if length > len(line):
        raise RecordError(f"it has {length} bytes, more than a record may")
    checksum, _, text = line.removesuffix(b"\n").partition(b" ")
    try:
        is_whole = int(checksum, 16) == zlib.crc32(text)
    except ValueError:
        is_whole = False
    values = parsed(text) if is_whole else None
    if not isinstance(values, dict):
        raise RecordError("it is damaged")
    number = values.pop(_NUMBER, None)
    if number is not None and type(number) is not int:
        raise RecordError("its number is none")
    return number, read_record(values)
