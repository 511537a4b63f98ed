"""NumPy's .npy and .npz files, read within limits: the header first, then what it declares."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BufferedIOBase, BufferedReader, BytesIO
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from fm_mlflow.data.bounded_file import check_size, damage_in_words
from fm_mlflow.process.regular_file import open_regular

NPY_MAGIC = b"\x93NUMPY"
_MOST_AXES = 32
_LONGEST_AXIS = 2**48
_LONGEST_HEADER = 10_000
_LARGEST_READ = 256 * 1024
"""Of a zip file's directory, which is read as a whole, and of an array, which is not."""

LARGEST_PREDICTIONS = 128 * 1024**2
"""Bytes, packed or unpacked, of the predictions of a run."""

_LENGTH_BYTES = {1: 2, 2: 4}
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class NpyHeader:
    """What a .npy array declares of itself.

    Attributes:
        shape: Length of each axis.
        dtype: Of its values.
        is_column_major: Whether they are stored column by column.
        length: Bytes of the header, in front of the values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_column_major: bool
    length: int

    @property
    def total(self) -> int:
        """Bytes of header and values."""
        return self.length + math.prod(self.shape) * self.dtype.itemsize


def read_npy_header(stream: BufferedIOBase) -> NpyHeader:
    """Read the header of a .npy array; the stream then stands at its values.

    Raises:
        ValueError: It is no such header, of another version than 1 and 2, or too long.
    """
    start = stream.read(8)
    if not start.startswith(NPY_MAGIC):
        raise ValueError("it is no .npy array")
    if len(start) < 8 or start[6] not in _LENGTH_BYTES or start[7]:
        version = ".".join(map(str, start[6:8]))
        raise ValueError(f"a .npy array of version {version}, where 1.0 or 2.0 is expected")
    length = stream.read(_LENGTH_BYTES[start[6]])
    declared = int.from_bytes(length, "little")
    if declared > _LONGEST_HEADER:
        raise ValueError(f"a header of {declared:,} bytes, at most {_LONGEST_HEADER:,} are read")
    text = stream.read(declared)
    v1, v2 = np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0
    with damage_in_words():
        shape, column_major, dtype = (v1 if start[6] == 1 else v2)(BytesIO(length + text))
    if len(shape) > _MOST_AXES or any(not 0 <= axis < _LONGEST_AXIS for axis in shape):
        raise ValueError("it has axes that no array has")  # perhaps of thousands of digits
    return NpyHeader(shape, dtype, column_major, len(start + length + text))


class NpzArray:
    """An array of an .npz file whose values have not been read yet.

    Args:
        header: What it declares.
        stream: Stands at its values.
    """

    def __init__(self, header: NpyHeader, stream: BufferedIOBase) -> None:
        self.header = header
        self._stream = stream

    def read(self) -> NDArray[Any]:
        """Return all values.

        Raises:
            ValueError: The file is damaged.
        """
        header = self.header
        if header.is_column_major:
            turned = replace(header, shape=header.shape[::-1], is_column_major=False)
            return np.ascontiguousarray(NpzArray(turned, self._stream).read().T)
        whole = np.empty(header.shape, header.dtype)
        done = 0
        for part in self.chunks():
            whole[done : done + len(part)] = part
            done += len(part)
        return whole

    @property
    def rows_at_once(self) -> int:
        """How many rows (first axis) fit a small buffer."""
        return max(1, _LARGEST_READ // max(1, self._row_bytes))

    @property
    def _row_bytes(self) -> int:
        return math.prod(self.header.shape[1:]) * self.header.dtype.itemsize

    def chunks(self, rows: int | None = None) -> Iterator[NDArray[Any]]:
        """Yield the values in order, `rows` at a time or as many as fit a small buffer.

        Raises:
            ValueError: The file is damaged.
        """
        count, *rest = self.header.shape
        row, rows = self._row_bytes, rows or self.rows_at_once
        for start in range(0, count, rows):
            wanted = min(rows, count - start)
            with damage_in_words():
                content = self._stream.read(wanted * row)
            yield np.frombuffer(content, self.header.dtype).reshape(wanted, *rest)


@contextmanager
def open_npz(
    path: Path,
    kinds: Mapping[str, str],
    largest: int,
    otherwise: Mapping[str, str] | None = None,
    *,
    optional: Collection[str] = (),
    any_order: bool = False,
) -> Iterator[dict[str, NpzArray]]:
    """Open arrays of an .npz file; the values are not read before they are asked for.

    Args:
        path: The file.
        kinds: By the arrays' names, which kinds of values they may hold (`numpy.dtype.kind`).
        largest: Bytes, packed or unpacked, beyond which the file is refused.
        otherwise: Other arrays, to open instead in a file that has one of these.
        optional: Names of arrays that may be missing.
        any_order: Arrays that are stored column by column are taken, too; they can only be read as
            a whole.

    Raises:
        OSError: It cannot be read.
        ValueError: It is none of such arrays, damaged or too large.
    """
    with open_regular(path) as file:
        check_size(file, largest)
        with damage_in_words():
            archive = zipfile.ZipFile(small_reads(file, _LARGEST_READ))
            there = archive.NameToInfo.keys()
            if otherwise and not there.isdisjoint(f"{name}.npy" for name in otherwise):
                kinds = otherwise
            names = [name for name in kinds if name not in optional or f"{name}.npy" in there]
            arrays = {name: _open(archive, name, kinds[name], any_order) for name in names}
        unpacked = sum(array.header.total for array in arrays.values())
        if unpacked > largest:
            raise ValueError(f"it unpacks to {unpacked:,} bytes, at most {largest:,} are read")
        yield arrays


def _open(archive: zipfile.ZipFile, name: str, kinds: str, any_order: bool) -> NpzArray:
    try:
        member = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise ValueError(f"it has no array {name!r}") from None
    if member.flag_bits & 1 or member.compress_type not in _METHODS:
        raise ValueError(f"its array {name!r} is encrypted, or packed by a method that is not read")
    stream = cast("BufferedIOBase", archive.open(member))
    header = read_npy_header(stream)
    is_refused = header.is_column_major and not any_order
    if is_refused or header.dtype.kind not in kinds or not header.shape:
        raise ValueError(f"its array {name!r} is of {header.dtype} and shape {header.shape}")
    if header.total != member.file_size:
        raise ValueError(
            f"its array {name!r} declares {header.total:,} bytes and has {member.file_size:,}"
        )
    return NpzArray(header, stream)


def small_reads(file: BufferedReader, largest: int) -> IO[bytes]:
    """Return a file that refuses to read much at once: a zip file's directory can be of any size.

    Args:
        file: Open.
        largest: Bytes of a read; beyond them it raises ValueError.
    """
    return cast("IO[bytes]", _SmallReads(file, largest))


class _SmallReads:
    def __init__(self, file: BufferedReader, largest: int) -> None:
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self._file = file
        self._largest = largest

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size if 0 <= size <= self._largest else self._largest + 1)
        if len(content) > self._largest:
            raise ValueError(f"its directory has more than {self._largest:,} bytes")
        return content
