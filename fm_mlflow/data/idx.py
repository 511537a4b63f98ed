"""IDX, the file format of MNIST and its relatives."""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fm_mlflow.data.bounded_file import Unpacked, open_unpacked
from fm_mlflow.errors import DataError, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ByteArray = NDArray[np.uint8]

_LARGEST_SHAPE = 2**40
_READ_AT_ONCE = 1 << 20


def read_idx_header(stream: BufferedIOBase) -> tuple[int, ...] | None:
    """Read the header of an IDX file of unsigned bytes: each axis' length.

    Format: two zero bytes, 0x08 for uint8, the number of axes, each axis' length as a big-endian
    32-bit number; then the values, where the stream stands.

    Returns:
        The shape, or None where the stream does not start as such a file.

    Raises:
        ValueError: It ends within the header.
    """
    start = stream.read(4)
    if len(start) < 4 or start[:3] != b"\x00\x00\x08":
        return None
    lengths = stream.read(4 * start[3])
    if len(lengths) < 4 * start[3]:
        raise ValueError("truncated within its header")
    return struct.unpack(f">{start[3]}I", lengths)


def read_idx(
    path: Path, *, repair: str, expected_sha256: str | None = None, shown_as: str | None = None
) -> ByteArray:
    """Read an IDX file of unsigned bytes, gzip-compressed or not.

    No more is read, and no memory taken, than the header declares; and that must fit the file.

    Args:
        path: The file.
        repair: What to do about a damaged one, for the message.
        expected_sha256: Of the decompressed contents, where they are known.
        shown_as: What the message calls the file, if not its path.

    Returns:
        The values, with 1 to 3 axes.

    Raises:
        DataError: It cannot be read, or is truncated, corrupted or not what is expected.
        InputError: It declares more than a compressed file of its size may hold.
    """
    shown = shown_as or str(path)
    try:
        with open_unpacked(path) as file:
            array, problem = _read(file, shown)
    except EOFError as error:
        raise DataError(f"{shown} is truncated at {path.stat().st_size} bytes; {repair}") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{shown} is corrupted ({error}); {repair}") from error
    except OSError as error:
        raise DataError(f"cannot read {shown}: {error.strerror}") from error
    if problem:
        raise DataError(f"{shown} is {problem}; {repair}")
    digest = hashlib.sha256(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape))
    digest.update(array.data)
    if expected_sha256 and (actual := digest.hexdigest()) != expected_sha256:
        raise DataError(
            f"{shown} is not Fashion-MNIST's file: the SHA-256 of its contents is {actual[:12]}…, "
            f"expected {expected_sha256[:12]}…; {repair}, or use --dataset idx for data of your own"
        )
    return array


def _read(file: Unpacked, shown: str) -> tuple[ByteArray, str]:
    """Return the values, or what is wrong with the file."""
    nothing = np.empty(0, np.uint8)
    try:
        shape = read_idx_header(file.stream)
    except ValueError as error:
        return nothing, str(error)
    if shape is None or not 1 <= len(shape) <= 3:
        return nothing, "not an IDX file of unsigned bytes"
    if math.prod(max(axis, 1) for axis in shape) > _LARGEST_SHAPE:  # NumPy refuses an empty one too
        return nothing, "an IDX file with axes that no array has"
    header = 4 + 4 * len(shape)
    expected = header + math.prod(shape)
    if expected > file.most:
        if file.length is not None:
            return nothing, f"truncated: {file.length} bytes, {expected} expected"
        accepted = f"files that unpack to what fits their size; {shown} says {expected:,} bytes"
        raise InputError("data_dir", shown, f"{accepted}, at most {file.most:,} are read")
    array = np.empty(math.prod(shape), np.uint8)
    view, done = array.data, 0
    while count := file.stream.readinto(view[done : done + _READ_AT_ONCE]):
        done += count
    if done < len(array):
        return nothing, f"truncated: {header + done} bytes, {expected} expected"
    if file.stream.read(1):  # at the end of a compressed file this also compares its checksum
        found = "more" if file.length is None else file.length
        return nothing, f"longer than its header says: {found} bytes, {expected} expected"
    array.flags.writeable = False
    return array.reshape(shape), ""
